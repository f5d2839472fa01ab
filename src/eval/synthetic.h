// SPDX-License-Identifier: Apache-2.0
// Reasoning tasks that the project writes itself, so that training, generation and the comparison of policies need no
// outside data: every step of the reasoning is written out, and one wrong character makes the answer wrong. The same
// options give the same bytes on every platform. docs/synthetic.md shows an example of each.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace gateskip {

enum class SyntheticTask {
  kAddition,  // two numbers, column by column from the right, carries written out
  kSorting,   // a list of two-digit numbers, the smallest taken out again and again
  kLookup,    // arrows between letters, followed so many steps
  kMixed,     // fixed phrases and a sentence to copy word for word around one addition: tokens of uneven difficulty
};

// Nine in ten problems are for training, the others for testing; which, a hash of the problem says, so that no seed
// and no number of examples makes the two share one. The problem is the whole question; of kMixed it is the addition
// alone, so that no sum of the test was seen in training beside another sentence.
enum class SyntheticSplit { kTrain, kTest };

struct SyntheticOptions {
  SyntheticTask task = SyntheticTask::kAddition;
  SyntheticSplit split = SyntheticSplit::kTrain;
  uint64_t seed = 1;
  // Digits of each number (addition, mixed), numbers in the list (sorting), steps (look-up); 0: the task's own size.
  int size = 0;
};

// What each byte of a completion asks of the model.
inline constexpr char kBoilerplateKind = 'b';  // the same in every completion of the task
inline constexpr char kCopyKind = 'c';         // stands in the prompt or earlier in the completion, in its order
inline constexpr char kWorkKind = 'w';         // has to be worked out

struct SyntheticExample {
  std::string prompt;
  std::string completion;
  std::string answer;  // what the completion ends with
  std::string kinds;   // one of the letters above for each byte of the completion
};

// In the order of the enums.
const std::vector<std::string>& SyntheticTaskNames();
const std::vector<std::string>& SyntheticSplitNames();

struct SyntheticSizes {
  int smallest, usual, largest;
};
SyntheticSizes SizesOf(SyntheticTask task);

class SyntheticSource {
 public:
  // Throws Error(kInvalidArgument) for a size out of the task's range.
  explicit SyntheticSource(const SyntheticOptions& options);

  // Never the same prompt twice. Throws Error(kLimitExceeded) when there are hardly any left.
  SyntheticExample Next();

 private:
  SyntheticOptions options_;
  uint64_t draws_ = 0;
  std::unordered_set<std::string> seen_;  // prompts
};

// {"prompt", "completion", "answer", "kinds"} as one line of JSON, without the line end.
std::string SyntheticRecord(const SyntheticExample& example);

}  // namespace gateskip
