// SPDX-License-Identifier: Apache-2.0
// One micro-step: a few sequences forward at their budgets, the loss, and its gradients added to the parameters'.
// Everything random in it follows from the seed and the micro-step's index.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "gate/cost_model.h"
#include "train/batch.h"
#include "train/exit_layer.h"
#include "train/gated_model.h"
#include "train/threshold.h"
#include "train/train.h"

namespace gateskip::train {

struct MicroStepResult {
  double loss = 0;
  double kl = 0, nll = 0;  // means over the positions in the loss
  double requested = 0;    // mean budget and mean net saving of the sequences
  double realised = 0;
  // (budget, the threshold that would have met it) of each sequence that had one.
  std::vector<std::pair<double, double>> thresholds;
  std::vector<double> run_share;  // [branches] share of the rows that ran
  std::vector<double> gate_mean;  // [branches] mean importance; NaN: not evaluated
};

class MicroStep {
 public:
  MicroStep(GatedModel& model, const CostModel& cost, const TrainOptions& options)
      : model_(model), cost_(cost), options_(options), exits_(cost, options.kv_rule) {}

  // `step` counts optimizer steps from 0, `micro` the micro-steps in it. Gradients are those of the loss times `share`;
  // none are computed when the loss is not finite.
  MicroStepResult Run(const TrainBatch& batch, int step, int micro, const ThresholdCurve& curve, double share);

  // Budgets of the sequences of a micro-step.
  std::vector<double> Budgets(int step, int micro) const;
  // The decisions at these budgets, noise included.
  Decisions Decide(const std::vector<double>& budgets, int step, uint64_t noise_index,
                   const ThresholdCurve& curve) const;
  // Decision rule `exit`: a last layer for each sequence. First positions that always run are made up for.
  Decisions Exits(const std::vector<double>& budgets, const TokenBatch& batch, uint64_t index) const;
  // As deployed, of any one sequence: without noise, and with the fixed exit that reaches the budget.
  Decisions AtBudget(double budget, const ThresholdCurve& curve) const;

 private:
  // A random share of the positions that have a target, ascending: rows of the batch.
  Tensor LossRows(const TrainBatch& batch, int64_t index) const;

  GatedModel& model_;
  const CostModel& cost_;
  const TrainOptions& options_;
  ExitLayers exits_;
};

}  // namespace gateskip::train
