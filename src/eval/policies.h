// SPDX-License-Identifier: Apache-2.0
// The rivals as policies of the one runtime: each says, for a budget, what a sequence runs. What they need to know of
// the model (how much each layer and branch matters, where a confidence threshold lies) is measured here on a text.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gate/skip_plan.h"
#include "runtime/loaded_model.h"

namespace gateskip {

struct PolicyInfo {
  std::string_view name;
  std::string_view source;       // the paper
  std::string_view description;  // what it does here, and where that is not the paper's
  bool needs_gates = false;
  bool needs_text = false;  // measures the model first
};

// All of them, in the order of reports.
std::span<const PolicyInfo> Policies();
// Throws Error(kInvalidArgument) naming the nearest policy.
const PolicyInfo& FindPolicy(std::string_view name);

struct PolicyOptions {
  bool use_adapter = true;                    // measure and run with the model's adapter, if it has one
  std::vector<std::vector<int32_t>> windows;  // token ids to measure on
  double essential_rise = 0.5;  // nats; random policies keep a branch that costs more, as TrainOptions::essential_rise
  std::function<void(const std::string&)> note = {};  // told what is being measured; may be empty
};

// A plan that meets a budget as nearly as the policy can.
struct PolicyPlan {
  SkipPlanPtr plan;
  // Why the requested net saving is out of reach, if it is; the plan then saves that much *before* the cost of its own
  // decisions.
  std::string unreachable;
};

class PolicyMaker {
 public:
  // `model` outlives it. Nothing is measured before it is needed.
  PolicyMaker(const LoadedModel& model, PolicyOptions options);

  // The plan of one sequence: random policies throw again for each `sequence_seed`, the others do not look at it.
  // Throws Error(kInvalidArgument) for a budget out of range, for gates without an adapter, for a policy that needs a
  // text when there is none.
  PolicyPlan Plan(std::string_view policy, double budget, uint64_t sequence_seed = 0);

  // 1 - mean cosine of a layer's input and output (block influence, arXiv 2403.03853), [layers].
  const std::vector<double>& BlockInfluence();
  // The rise of the text's NLL when the branch alone never runs, nats per token, [branches].
  const std::vector<double>& LeaveOneOut();
  // The same of whole layers, [layers]. Not kept.
  std::vector<double> LeaveOneLayerOut();

 private:
  struct Measured {
    SkipCounts counts;
    double nll = 0;  // per token
  };
  // Runs the text; scoring it takes the head, too.
  Measured Run(const SkipPlanPtr& plan, bool score);
  const CostModel& cost() const { return model_.cost(options_.use_adapter); }
  // The rise of the text's NLL without each of these groups of branches.
  std::vector<double> RiseWithout(const std::vector<std::vector<int>>& groups, std::string_view what);
  void RequireText(std::string_view policy) const;
  // [branches]: what random skipping protects: branches without a gate, or without an adapter those that cost too much.
  std::vector<uint8_t> Essential();
  std::vector<std::vector<int>> Groups(std::string_view policy, uint64_t seed);
  PolicyPlan MakeRandom(bool is_protected, double budget, uint64_t seed);
  PolicyPlan MakeStatic(const std::vector<std::vector<int>>& groups, double budget) const;
  PolicyPlan MakeExit(std::string_view policy, double budget);

  const LoadedModel& model_;
  PolicyOptions options_;
  KvRule kv_rule_ = KvRule::kCompute;
  std::vector<double> block_influence_;
  std::vector<double> leave_one_out_;
  std::map<std::pair<std::string, double>, PolicyPlan> exits_;
};

}  // namespace gateskip
