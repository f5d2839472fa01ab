// SPDX-License-Identifier: Apache-2.0
// Training text: documents from files, packed into sequences of equal length. Which sequence comes when follows
// from (seed, index) alone, so a run resumes without saved reader state. No LibTorch here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/documents.h"
#include "text/tokenizer.h"
#include "train/train.h"

namespace gateskip::train {

// The documents of one source in the order of (seed, epoch), joined and cut into sequences.
class PackedSource {
 public:
  PackedSource(std::vector<std::vector<int32_t>> documents, int64_t sequence_length, uint64_t seed, uint64_t source,
               std::optional<int32_t> bos);
  // The n-th sequence of this source, n = 0, 1, ... over all epochs. [sequence_length]
  std::vector<int32_t> Sequence(int64_t n);
  int64_t sequences_per_epoch() const { return per_epoch_; }

 private:
  void BuildEpoch(int64_t epoch);

  std::vector<std::vector<int32_t>> documents_;
  int64_t length_;
  uint64_t seed_, source_;
  std::optional<int32_t> bos_;  // starts every sequence if the model wants it
  int64_t per_epoch_ = 0;
  int64_t epoch_ = -1;
  std::vector<int32_t> stream_;
};

// Several sources mixed by weight.
class TrainData {
 public:
  // Throws Error(kInvalidArgument) when a source has fewer tokens than one sequence.
  TrainData(const std::vector<TrainSource>& sources, const Tokenizer& tokenizer, int64_t sequence_length,
            uint64_t seed);
  // The n-th sequence of the run.
  std::vector<int32_t> Sequence(int64_t n);
  // The first `count` sequences with the sources taken in turn, unshuffled: for held-out text.
  std::vector<std::vector<int32_t>> InTurn(int64_t count);
  int64_t sequences_per_epoch() const;
  const std::string& sha256() const { return sha256_; }  // of all token ids

 private:
  std::vector<PackedSource> sources_;
  std::vector<double> cumulative_;
  uint64_t seed_;
  std::vector<int64_t> taken_;  // per source, of the sequences [0, drawn_)
  int64_t drawn_ = 0;
  std::string sha256_;
  size_t Pick(int64_t n) const;
};

}  // namespace gateskip::train
