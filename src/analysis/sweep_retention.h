// SPDX-License-Identifier: Apache-2.0
// What is kept of a score, and what that means over tasks.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "analysis/sweep_results.h"

namespace gateskip {

enum class Reference { kOriginal, kGatedDense };  // the plain model; the gated model that skips nothing

// (score - chance) / (reference - chance); where lower is better, reference / score. NaN where the reference is not
// better than chance (or not above 0). The error is that of the score, the reference taken as it was measured:
//   e / (reference - chance);  lower is better: reference e / score^2
// What the reference's own error makes of all of them at once is the error of its own retention, which is 1.
Estimate Retention(const SweepTask& task, Estimate score, Estimate reference);

// Of a point, against the task's reference. NaN when there is no reference.
Estimate RetentionOf(const SweepResults& results, const SweepPoint& point, Reference reference);

// The tasks that say something of the mean: higher is better, and the original is more than two standard errors above
// chance (an unknown error counts as 0). `reason` says why another one does not.
struct TaskChoice {
  size_t task = 0;
  std::string reason;  // empty: it counts
};
std::vector<TaskChoice> ChooseTasks(const SweepResults& results);

// The mean over the tasks that count, of an arm at a requested saving; nothing unless it was reached in all of them.
struct MeanPoint {
  size_t arm = 0;
  double requested = 0;
  double net = 0;      // mean
  Estimate retention;  // error: sqrt(sum of squares) / n
};
std::vector<MeanPoint> MeanRetention(const SweepResults& results, Reference reference);

}  // namespace gateskip
