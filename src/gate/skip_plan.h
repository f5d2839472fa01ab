// SPDX-License-Identifier: Apache-2.0
// The skip decision. A SkipPlan says, for one sequence at one budget, which rows run which branch. It looks at
// the row itself only (its position, its own gate), so decisions are causal and never depend on the neighbours
// in a batch (laws L4, L5). Every policy is a plan and runs through the same runtime.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/adapter.h"

namespace gateskip {

// Early exit: a row that is sure enough at a layer runs nothing above it; its hidden state goes on to the head, and its
// K/V at the layers above follow the KV rule (`compute`: projected from the state it left with).
enum class ExitSignal {
  kHiddenState,  // cosine of its hidden states at this check and the one before >= threshold
  kConfidence,   // p(best) - p(second) of the model's own head on its hidden state >= threshold
  kEntropy,      // entropy of that distribution, nats, <= threshold
  kPatience,     // that distribution's best token has been the same at `threshold` checks after the first
};

struct ExitRule {
  ExitSignal signal = ExitSignal::kHiddenState;
  float threshold = 0;
  int first_layer = 1;  // the first layer that may be left out; kHiddenState: at least `every`
  int every = 1;        // layers from one check to the next

  bool operator==(const ExitRule&) const = default;
};

struct SkipPlan {
  enum class Kind {
    kDense,   // everything runs
    kGates,   // run iff importance > threshold of the branch
    kRandom,  // run with probability 1 - skip_probability of the branch: the field's control
    kStatic,  // a fixed set of branches never runs: pruning (ShortGPT, arXiv 2403.03853, is whole layers)
    kExit,    // early exit: what a row sees of itself decides (model/early_exit.h); Runs() knows nothing of it
    kMask,    // spelled out per branch and position: tests, replay
  };
  Kind kind = Kind::kDense;
  double requested_budget = 0;
  int always_run_positions = 0;            // the first positions run everything, whatever the kind
  std::vector<float> thresholds;           // kGates: [branches]; negative = always runs
  std::vector<float> skip_probability;     // kRandom: [branches]
  uint64_t seed = 0;                       // kRandom
  GateScope scope = GateScope::kBranch;    // kRandom: kLayer throws once for both branches of a layer
  std::vector<uint8_t> runs;               // kStatic: [branches]
  bool transient = false;                  // kStatic: its rows are run again, under another plan, before a row that
                                           // runs what these skipped: they leave no K/V where they skip
  ExitRule exit;                           // kExit
  std::vector<std::vector<uint8_t>> mask;  // kMask: [branches][positions]; beyond the end everything runs

  // Whether the gate of this branch has to be evaluated for a row at this position.
  bool NeedsImportance(int branch, int32_t position) const;
  // The decision. `importance` is read only if NeedsImportance.
  bool Runs(int branch, int32_t position, float importance) const;

  // Equal plans make equal decisions.
  bool operator==(const SkipPlan&) const = default;
};

using SkipPlanPtr = std::shared_ptr<const SkipPlan>;

SkipPlanPtr DensePlan();

// Thresholds at `budget`, interpolated linearly between the adapter's calibrated grid points. Budget 0 is the
// dense plan. Throws Error(kInvalidArgument) outside [0, kMaxBudget] or beyond the calibrated grid.
inline constexpr double kMaxBudget = 0.95;
SkipPlanPtr GatesPlan(const AdapterConfig& adapter, double budget);

// Every branch with runs[b] != 0 in `protected_branches` (may be empty) always runs; the others are skipped with
// the probability that reaches the net saving `budget` on average. The honest control keeps the first position
// and the essential branches; the field's usual one protects nothing. Layer scope: both branches of a layer are
// protected or none.
class CostModel;
SkipPlanPtr RandomPlan(const CostModel& cost, KvRule rule, GateScope scope, std::span<const uint8_t> protected_branches,
                       int always_run_positions, double budget, uint64_t seed);

// A fixed set: branches with runs[b] == 0 are never executed, whatever the row.
SkipPlanPtr StaticPlan(std::vector<uint8_t> runs, double budget);

SkipPlanPtr ExitPlan(const ExitRule& rule, int always_run_positions, double budget);

}  // namespace gateskip
