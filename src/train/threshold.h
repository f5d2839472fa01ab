// SPDX-License-Identifier: Apache-2.0
// One global, cost-weighted threshold over all gated branches: what logit does a sequence's net saving ask for?
// No LibTorch here.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gate/cost_model.h"

namespace gateskip::train {

// Gate logits of the rows of one branch; rows that always run are left out.
struct BranchLogits {
  int branch;
  std::span<const float> z;
};

// The largest threshold at which running exactly the branch-rows with z > threshold saves at most one branch-row
// (those of equal z, as both of a layer are under layer scope, count as one) more than `budget`, net of everything,
// averaged over `rows` rows. +infinity when skipping all is not enough.
double SolveThreshold(const CostModel& cost, KvRule rule, std::span<const BranchLogits> logits, int64_t rows,
                      double budget);

// Net saving of `rows` rows when exactly the branch-rows with z <= threshold are skipped.
double SavingAt(const CostModel& cost, KvRule rule, std::span<const BranchLogits> logits, int64_t rows,
                double threshold);

// The running threshold as a function of the budget. The logits of upper layers depend on the decisions below, so
// the exact threshold of a step is known only after it; deployment has fixed thresholds anyway. After each step the
// curve moves towards what would have met the budget, most at that budget.
class ThresholdCurve {
 public:
  static constexpr int kPoints = 13;  // budgets 0, 0.05, ... 0.6
  static constexpr double kSpacing = 0.05;

  double At(double budget) const;
  void Update(double budget, double exact, double rate);
  void Set(int point, double value) { values_[static_cast<size_t>(point)] = value; }
  std::vector<double>& values() { return values_; }
  const std::vector<double>& values() const { return values_; }

 private:
  std::vector<double> values_ = std::vector<double>(kPoints, 0.0);
};

}  // namespace gateskip::train
