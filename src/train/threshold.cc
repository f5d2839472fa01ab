// SPDX-License-Identifier: Apache-2.0
#include "train/threshold.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace gateskip::train {
namespace {

// What one skipped row of a branch saves.
double SavedPerRow(const BranchCost& cost, KvRule rule) {
  return cost.dense + cost.kept_extra - cost.skip_path - (rule == KvRule::kCompute ? cost.kv : 0.0);
}

// Net saving of one row that skips nothing: negative, the price of decisions and deltas.
double DenseSaving(const CostModel& cost) {
  double extra = 0;
  for (int b = 0; b < cost.num_branches(); ++b) extra += cost.branch(b).decision + cost.branch(b).kept_extra;
  return -extra / cost.dense_per_row();
}

}  // namespace

double SolveThreshold(const CostModel& cost, KvRule rule, std::span<const BranchLogits> logits, int64_t rows,
                      double budget) {
  std::vector<std::pair<float, double>> steps;  // logit, share saved by skipping it
  const double scale = 1.0 / (cost.dense_per_row() * static_cast<double>(rows));
  for (const BranchLogits& branch : logits) {
    const double saved = SavedPerRow(cost.branch(branch.branch), rule) * scale;
    for (const float z : branch.z) steps.emplace_back(z, saved);
  }
  std::sort(steps.begin(), steps.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  double saving = DenseSaving(cost);
  if (steps.empty() || saving >= budget) return -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < steps.size(); ++i) {
    saving += steps[i].second;
    if (saving < budget) continue;
    const auto here = static_cast<double>(steps[i].first);
    return i + 1 < steps.size() ? 0.5 * (here + static_cast<double>(steps[i + 1].first)) : here;
  }
  return std::numeric_limits<double>::infinity();
}

double SavingAt(const CostModel& cost, KvRule rule, std::span<const BranchLogits> logits, int64_t rows,
                double threshold) {
  double saving = DenseSaving(cost);
  const double scale = 1.0 / (cost.dense_per_row() * static_cast<double>(rows));
  for (const BranchLogits& branch : logits) {
    const double saved = SavedPerRow(cost.branch(branch.branch), rule) * scale;
    for (const float z : branch.z) saving += static_cast<double>(z) > threshold ? 0.0 : saved;
  }
  return saving;
}

double ThresholdCurve::At(double budget) const {
  const double x = std::clamp(budget / kSpacing, 0.0, static_cast<double>(kPoints - 1));
  const auto low = std::min(static_cast<size_t>(x), static_cast<size_t>(kPoints - 2));
  const double t = x - static_cast<double>(low);
  return (1.0 - t) * values_[low] + t * values_[low + 1];
}

void ThresholdCurve::Update(double budget, double exact, double rate) {
  if (!std::isfinite(exact)) return;
  const double error = exact - At(budget);
  for (size_t i = 0; i < values_.size(); ++i) {
    const double distance = (static_cast<double>(i) * kSpacing - budget) / (3.0 * kSpacing);
    values_[i] += rate * error * std::exp(-0.5 * distance * distance);
  }
}

}  // namespace gateskip::train
