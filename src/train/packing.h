// SPDX-License-Identifier: Apache-2.0
// One source's documents, shuffled and packed into sequences of equal length. Which sequence comes when follows from
// (seed, source, n) alone, so a run resumes without saved reader state. No LibTorch here.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "train/train.h"

namespace gateskip::train {

struct TrainSequence {
  std::vector<int32_t> tokens;    // [length]
  std::vector<int32_t> position;  // [length] position inside its document, 0 at each document's first token in this
                                  // sequence: attention never crosses a document
  std::vector<uint8_t> in_loss;   // [length] 1: this token is a target (it is predicted from the one before it in the
                                  // same document); 0 where position is 0. All may be 0: the middle of a long prompt
  bool operator==(const TrainSequence&) const = default;
};

// Documents one after the other, four bytes a token.
class TokenStore {
 public:
  // One document, not empty; `in_loss` as long as `ids`.
  void Append(std::span<const int32_t> ids, std::span<const uint8_t> in_loss);
  // Document i becomes the tokens [begins[i], begins[i + 1]); those outside are dropped. Ascending, within all tokens.
  void Keep(std::vector<int64_t> begins);

  size_t size() const { return begins_.size() - 1; }                  // documents
  int64_t Begin(size_t document) const { return begins_[document]; }  // of all tokens; document <= size()
  int64_t Length(size_t document) const { return begins_[document + 1] - begins_[document]; }
  int32_t Id(size_t document, int64_t i) const { return static_cast<int32_t>(Word(document, i) >> 1); }
  uint8_t InLoss(size_t document, int64_t i) const { return static_cast<uint8_t>(Word(document, i) & 1); }
  std::span<const uint32_t> Words(size_t document) const;  // id * 2 + in_loss

 private:
  uint32_t Word(size_t document, int64_t i) const { return words_[static_cast<size_t>(begins_[document] + i)]; }

  std::vector<uint32_t> words_;
  std::vector<int64_t> begins_ = {0};
};

struct PackOptions {
  Packing packing = Packing::kMasked;
  int64_t length = 0;          // of a sequence, BOS included; >= 2
  std::optional<int32_t> bos;  // put at the start of every document (kMasked, kNone) or sequence (kJoined)
  int32_t pad = 0;
};

// Per epoch the documents are shuffled and laid end to end, this stream is cut into sequences, and kMasked shuffles
// those, too, so that the parts of a long document do not follow each other. (kJoined leaves them in the stream's
// order.)
//
// kMasked with BOS: of the `length` tokens of a sequence the stream, in which every document has its BOS, fills
// length - 1; the one left over is the BOS of a document that goes on from the sequence before, or else padding. So
// the number of sequences is the same in every epoch, whatever the order.
class PackedSource {
 public:
  // Not for several threads at once: the order of the epoch asked for last is kept.
  PackedSource(TokenStore documents, const PackOptions& options, uint64_t seed, uint64_t source);

  // The n-th sequence of this source, n = 0, 1, ... over all epochs; needs sequences_per_epoch() > 0.
  TrainSequence Sequence(int64_t n);

  // kMasked: every document is in an epoch once, whole; the last of the stream is padded. kJoined: what does not fill a
  // sequence is left for another epoch's order. kNone: one per document with a target among its first tokens.
  int64_t sequences_per_epoch() const { return per_epoch_; }
  int64_t targets() const { return targets_; }        // tokens of all documents that can be one
  int64_t cut() const { return cut_; }                // kNone: documents longer than a sequence
  int64_t targetless() const { return targetless_; }  // kNone: documents left out, their targets all lie beyond the cut

 private:
  void CountDocuments();
  void LayOut(int64_t epoch);
  void AddPart(size_t document, int64_t begin, int64_t end, TrainSequence* sequence) const;
  void Finish(TrainSequence* sequence) const;

  TokenStore documents_;
  PackOptions options_;
  uint64_t seed_, source_;
  std::vector<size_t> used_;  // the documents that are packed
  int64_t per_epoch_ = 0, targets_ = 0, cut_ = 0, targetless_ = 0;
  int64_t epoch_ = -1;
  std::vector<size_t> order_;            // of used_, in this epoch
  std::vector<int64_t> starts_;          // of every document in the stream, and the stream's length
  std::vector<int64_t> sequence_order_;  // kMasked; else they are as the stream has them
};

}  // namespace gateskip::train
