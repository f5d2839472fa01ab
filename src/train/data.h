// SPDX-License-Identifier: Apache-2.0
// Training text: documents from files (text/documents.h), packed into sequences (train/packing.h), the sources mixed by
// weight (train/source_schedule.h). The n-th sequence of a run follows from (seed, n) alone, at the same cost for every
// n: a resumed run and each rank of a parallel one ask for their own. No LibTorch here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/documents.h"
#include "text/tokenizer.h"
#include "train/packing.h"
#include "train/source_schedule.h"
#include "train/train.h"

namespace gateskip::train {

struct DataOptions {
  int64_t sequence_length = 0;
  uint64_t seed = 1;
  Packing packing = Packing::kMasked;
  PairFormat pairs = PairFormat::kMixed;
  bool loss_on_prompts = false;
  bool strict = false;
  int64_t max_row_bytes = int64_t{64} << 20;
  int threads = 1;  // for tokenising; the result does not depend on it
};
DataOptions DataOptionsOf(const TrainOptions& options);

// What became of one source.
struct SourceReport {
  DocumentReport rows;     // of the whole file
  int64_t documents = 0;   // of the part that is used; running text counts in pieces of several sequences
  int64_t tokens = 0;      // in them, BOS and padding not counted
  int64_t targets = 0;     // of those, how many can be in the loss
  int64_t cut = 0;         // Packing::kNone: longer than a sequence
  int64_t targetless = 0;  // Packing::kNone: left out, nothing to learn before the cut

  // Lines for people: what was used, then the first bad rows.
  std::vector<std::string> Lines() const;
};

// Not for several threads at once.
class TrainData {
 public:
  // Throws what ReadDocuments throws, and Error(kInvalidArgument): a part of a file without documents, no token to
  // learn, less text than one sequence (Packing::kJoined).
  TrainData(const std::vector<TrainSource>& sources, const Tokenizer& tokenizer, const DataOptions& options);

  // The n-th sequence of the run, n = 0, 1, ...
  TrainSequence Sequence(int64_t n);
  // The first `count` sequences with the sources taken in turn: for held-out text.
  std::vector<TrainSequence> InTurn(int64_t count);

  int64_t sequences_per_epoch() const;
  const std::vector<SourceReport>& reports() const { return reports_; }  // one per source
  const std::string& sha256() const { return sha256_; }  // of all documents' token ids and loss marks, in file order

 private:
  std::vector<PackedSource> sources_;
  std::vector<SourceReport> reports_;
  SourceSchedule schedule_;
  std::string sha256_;
};

}  // namespace gateskip::train
