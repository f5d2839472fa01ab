// SPDX-License-Identifier: Apache-2.0
// The start of training: skip paths fitted in closed form, and a prior for the gate biases from leaving branches
// out one at a time.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "gate/cost_model.h"
#include "train/gated_model.h"
#include "train/train.h"

namespace gateskip::train {

using Report = std::function<void(const std::string&)>;

// Reduced-rank ridge regression of each gated branch's output on its input over the batches, on the
// dense model: W = (H'H + lambda I)^-1 H'Y on centred data, projected on the leading eigenvectors of W'H'H W
// (Izenman 1975; the best rank-r approximation of the fitted values).
void FitSkipPaths(GatedModel& model, const std::vector<TokenBatch>& batches, double relative_ridge);

struct Prior {
  std::vector<double> rise;   // [branches] nats of KL(ungated || that unit alone left out), skip path in place
  std::vector<double> score;  // [branches] z-scored; the order in which units are given up
  std::vector<bool> gated;    // false: essential, or not gated to begin with
};

// A unit is a gated branch, or, where gates decide for whole layers, both branches of a gated layer; what is not gated
// stays. First leaves each unit out of the dense model. Then prunes greedily: the units with the smallest rise per
// cost saved go, the most promising of the others are measured again around the pruned model, and so on. Measuring
// again matters: branches that stand in for each other look harmless one at a time, and an attention branch may be
// worthless once the MLP below it is gone.
Prior MeasurePrior(GatedModel& model, const TokenBatch& batch, const CostModel& cost, const TrainOptions& options,
                   const Report& report);

// Sets the biases, drops the gates of essential branches. Gates whose value is multiplied with keep their opening bias
// beside the score.
void ApplyPrior(GatedModel& model, const Prior& prior);

}  // namespace gateskip::train
