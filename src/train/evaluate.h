// SPDX-License-Identifier: Apache-2.0
// Held-out next-token loss at fixed net savings, inside the trainer. The one global threshold of each budget is
// solved on the held-out rows themselves, so that savings are equal when losses are compared; `gateskip calibrate`
// does not do that.
#pragma once

#include <vector>

#include "gate/cost_model.h"
#include "train/batch.h"
#include "train/exit_layer.h"
#include "train/gated_model.h"
#include "train/threshold.h"
#include "train/train.h"

namespace gateskip::train {

class Evaluator {
 public:
  // The base model's loss is measured here.
  Evaluator(GatedModel& model, const CostModel& cost, TrainBatch batch, const TrainOptions& options);

  // Uses the noise-free decision; under decision rule `exit` the fixed exit that reaches the budget. thresholds: the
  // last ones found, the starting point of the search.
  TrainEvaluation Run(int step);
  std::vector<double>& thresholds() { return thresholds_; }

 private:
  struct Result {
    double nll;
    double saving;
    double exact_threshold;  // what would have met the budget, given this pass's logits
  };
  // At a threshold for all branches; -infinity: nothing skips. `budget` is what `exact_threshold` is for.
  Result PassAt(double threshold, double budget);
  Result Pass(const Decisions& decisions, double budget, bool use_adapter);
  // The best that was found for a budget, and its threshold kept.
  Result Search(double budget, double& threshold);

  GatedModel& model_;
  const CostModel& cost_;
  TrainBatch batch_;
  DecisionRule rule_;
  ExitLayers exits_;
  std::vector<double> budgets_;
  std::vector<double> thresholds_;
  double base_nll_ = 0;
};

// The logits of sequence `sequence` in the trace.
std::vector<BranchLogits> SequenceLogits(const ForwardTrace& trace, int64_t sequence, int64_t length);
// Net saving of one sequence's decisions.
double RealisedSaving(const ForwardTrace& trace, const CostModel& cost, KvRule rule, int64_t sequence, int64_t length);

}  // namespace gateskip::train
