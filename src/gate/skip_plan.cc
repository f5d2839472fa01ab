// SPDX-License-Identifier: Apache-2.0
#include "gate/skip_plan.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "gate/cost_model.h"

namespace gateskip {
namespace {

// SplitMix64 finaliser (Steele, Lea, Flood 2014): well-mixed bits from a counter.
uint64_t Mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

float UniformOf(uint64_t seed, int branch, int32_t position) {
  const uint64_t key = (static_cast<uint64_t>(static_cast<uint32_t>(branch)) << 32) | static_cast<uint32_t>(position);
  return static_cast<float>(Mix(Mix(seed) ^ key) >> 40) * 0x1.0p-24F;
}

void CheckBudget(double budget) {
  if (!(budget >= 0.0 && budget <= kMaxBudget)) {
    Fail(ErrorCode::kInvalidArgument,
         "[budget] value: expected a number in [0, {}], found {}; pass the share of the "
         "ungated layer cost to save, e.g. 0.25",
         kMaxBudget, budget);
  }
}

}  // namespace

bool SkipPlan::NeedsImportance(int branch, int32_t position) const {
  return kind == Kind::kGates && position >= always_run_positions && thresholds[static_cast<size_t>(branch)] >= 0.0F;
}

bool SkipPlan::Runs(int branch, int32_t position, float importance) const {
  if (position < always_run_positions) return true;
  const auto b = static_cast<size_t>(branch);
  switch (kind) {
    case Kind::kDense:
      return true;
    case Kind::kGates:
      return importance > thresholds[b] || thresholds[b] < 0.0F;
    case Kind::kRandom:
      return UniformOf(seed, scope == GateScope::kLayer ? branch / 2 * 2 : branch, position) >= skip_probability[b];
    case Kind::kStatic:
      return runs[b] != 0;
    case Kind::kExit:
      return true;
    case Kind::kMask: {
      const auto p = static_cast<size_t>(position);
      return p >= mask[b].size() || mask[b][p] != 0;
    }
  }
  return true;
}

SkipPlanPtr DensePlan() {
  static const SkipPlanPtr plan = std::make_shared<const SkipPlan>();
  return plan;
}

SkipPlanPtr GatesPlan(const AdapterConfig& adapter, double budget) {
  CheckBudget(budget);
  if (budget == 0.0) return DensePlan();
  const std::vector<double>& grid = adapter.budgets;
  if (grid.empty() || budget > grid.back()) {
    Fail(ErrorCode::kInvalidArgument,
         "[budget] value: expected at most the adapter's largest calibrated budget {}, "
         "found {}; lower the budget or run `gateskip calibrate` with a larger grid",
         grid.empty() ? 0.0 : grid.back(), budget);
  }
  const auto upper = static_cast<size_t>(std::lower_bound(grid.begin(), grid.end(), budget) - grid.begin());
  auto plan = std::make_shared<SkipPlan>();
  plan->kind = SkipPlan::Kind::kGates;
  plan->requested_budget = budget;
  plan->always_run_positions = adapter.always_run_positions;
  plan->thresholds = adapter.thresholds[upper];
  if (grid[upper] != budget) {  // budget > 0 = grid[0], so there is a point below
    const auto& low = adapter.thresholds[upper - 1];
    const double t = (budget - grid[upper - 1]) / (grid[upper] - grid[upper - 1]);
    for (size_t b = 0; b < plan->thresholds.size(); ++b) {
      if (plan->thresholds[b] < 0.0F) continue;  // always runs at the upper point, so at this one too
      // An "always runs" below counts as threshold 0: importance is never negative.
      const double from = std::max(0.0F, low[b]);
      plan->thresholds[b] = static_cast<float>(from + t * (plan->thresholds[b] - from));
    }
  }
  return plan;
}

SkipPlanPtr RandomPlan(const CostModel& cost, KvRule rule, GateScope scope, std::span<const uint8_t> protected_branches,
                       int always_run_positions, double budget, uint64_t seed) {
  CheckBudget(budget);
  const auto is_protected = [&](size_t b) { return b < protected_branches.size() && protected_branches[b] != 0; };
  double executed = 0;  // per row that skips nothing; what skips without gates pays for no decision
  double saved_if_all_skipped = 0;
  for (size_t b = 0; b < static_cast<size_t>(cost.num_branches()); ++b) {
    const BranchCost& branch = cost.branch(static_cast<int>(b));
    const double run = branch.dense + branch.kept_extra + branch.undecided_extra;
    executed += run;
    if (is_protected(b)) continue;
    saved_if_all_skipped += run - branch.skip_path - (rule == KvRule::kCompute ? branch.kv : 0.0);
  }
  const double highest = 1.0 - (executed - saved_if_all_skipped) / cost.dense_per_row();
  const double probability = (executed - (1.0 - budget) * cost.dense_per_row()) / saved_if_all_skipped;
  if (!(probability <= 1.0)) {
    Fail(ErrorCode::kInvalidArgument,
         "[budget] random policy: expected at most {:.3f} with these protected branches, "
         "found {}; lower the budget or protect fewer branches",
         highest, budget);
  }
  auto plan = std::make_shared<SkipPlan>();
  plan->kind = SkipPlan::Kind::kRandom;
  plan->requested_budget = budget;
  plan->always_run_positions = always_run_positions;
  plan->seed = seed;
  plan->scope = scope;
  plan->skip_probability.resize(static_cast<size_t>(cost.num_branches()));
  for (size_t b = 0; b < plan->skip_probability.size(); ++b) {
    plan->skip_probability[b] = is_protected(b) ? 0.0F : static_cast<float>(probability);
  }
  return plan;
}

SkipPlanPtr StaticPlan(std::vector<uint8_t> runs, double budget) {
  auto plan = std::make_shared<SkipPlan>();
  plan->kind = SkipPlan::Kind::kStatic;
  plan->requested_budget = budget;
  plan->runs = std::move(runs);
  return plan;
}

SkipPlanPtr ExitPlan(const ExitRule& rule, int always_run_positions, double budget) {
  GS_CHECK(rule.every >= 1 && rule.first_layer >= 1);
  GS_CHECK(rule.signal != ExitSignal::kHiddenState || rule.first_layer >= rule.every);
  auto plan = std::make_shared<SkipPlan>();
  plan->kind = SkipPlan::Kind::kExit;
  plan->requested_budget = budget;
  plan->always_run_positions = always_run_positions;
  plan->exit = rule;
  return plan;
}

}  // namespace gateskip
