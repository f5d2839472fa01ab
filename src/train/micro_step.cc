// SPDX-License-Identifier: Apache-2.0
#include "train/micro_step.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "train/evaluate.h"
#include "train/ops.h"
#include "train/random.h"

namespace gateskip::train {

std::vector<double> MicroStep::Budgets(int step, int micro) const {
  const int n = options_.batch_sequences;
  std::vector<double> budgets(static_cast<size_t>(n), 0.0);
  if (options_.dense_every > 0 && step % options_.dense_every == options_.dense_every - 1) return budgets;
  const double range = options_.max_budget - options_.min_budget;
  if (options_.budget_schedule == BudgetSchedule::kLinear) {
    const double t = options_.steps > 1 ? static_cast<double>(step) / (options_.steps - 1) : 1.0;
    std::fill(budgets.begin(), budgets.end(), options_.min_budget + std::min(t, 1.0) * range);
    return budgets;
  }
  Random random(
      options_.seed, Stream::kBudget,
      static_cast<uint64_t>(step) * static_cast<uint64_t>(options_.accumulation_steps) + static_cast<uint64_t>(micro));
  for (int i = 0; i < n; ++i) {
    budgets[static_cast<size_t>(i)] = options_.min_budget + (i + random.Uniform()) / n * range;
  }
  return budgets;
}

Decisions MicroStep::Decide(const std::vector<double>& budgets, int step, uint64_t noise_index,
                            const ThresholdCurve& curve) const {
  const double t = options_.steps > 0 ? static_cast<double>(step) / options_.steps : 0.0;
  Decisions decisions;
  decisions.temperature = options_.temperature;
  decisions.straight_through = options_.straight_through;
  decisions.noise = options_.noise * options_.temperature * (1.0 - (1.0 - options_.noise_final) * t);
  decisions.noise_seed = options_.seed;
  decisions.noise_index = noise_index;
  const bool quantile = options_.decision_rule == DecisionRule::kQuantile;
  decisions.kind = quantile ? Decisions::Kind::kQuantile : Decisions::Kind::kThresholds;
  for (const double budget : budgets) {
    const double threshold = budget > 0 ? curve.At(budget) : -std::numeric_limits<double>::infinity();
    decisions.thresholds.push_back(static_cast<float>(quantile ? budget : threshold));
  }
  return decisions;
}

Decisions MicroStep::Exits(const std::vector<double>& budgets, const TokenBatch& batch, uint64_t index) const {
  Decisions decisions;
  decisions.kind = Decisions::Kind::kMask;
  const int64_t length = batch.length();
  Tensor position = at::arange(length, at::kInt).repeat({batch.size()});
  if (batch.starts.defined()) position = position - batch.starts;
  const Tensor may_skip = (position >= options_.always_run_positions).view({batch.size(), length}).sum(1);
  Random random(options_.seed, Stream::kExit, index);
  for (int64_t s = 0; s < batch.size(); ++s) {
    const double share = static_cast<double>(may_skip[s].item<int64_t>()) / static_cast<double>(length);
    const double budget = share > 0 ? budgets[static_cast<size_t>(s)] / share : 0.0;
    const std::vector<uint8_t> mask = exits_.Mask(exits_.Draw(budget, random.Uniform()));
    decisions.mask.insert(decisions.mask.end(), mask.begin(), mask.end());
  }
  return decisions;
}

Decisions MicroStep::AtBudget(double budget, const ThresholdCurve& curve) const {
  Decisions decisions;
  if (options_.decision_rule == DecisionRule::kExit) {
    decisions.kind = Decisions::Kind::kMask;
    decisions.mask = exits_.Mask(exits_.At(budget));
  } else {
    decisions.kind = Decisions::Kind::kThresholds;
    decisions.thresholds = {static_cast<float>(curve.At(budget))};
  }
  return decisions;
}

Tensor MicroStep::LossRows(const TrainBatch& batch, int64_t index) const {
  const int64_t length = batch.tokens.length();
  std::vector<int64_t> picked;
  std::vector<int64_t> eligible;
  for (int64_t s = 0; s < batch.tokens.size(); ++s) {
    eligible.clear();
    for (int64_t r = s * length; r < (s + 1) * length; ++r) {
      if (batch.targets.data_ptr<int32_t>()[r] >= 0) eligible.push_back(r);
    }
    const auto count = static_cast<int64_t>(eligible.size());
    const auto wanted = static_cast<int64_t>(std::ceil(options_.loss_positions * static_cast<double>(count)));
    auto order = Permutation(
        count, Random(options_.seed, Stream::kPositions, static_cast<uint64_t>(index * batch.tokens.size() + s)));
    order.resize(static_cast<size_t>(wanted));
    std::sort(order.begin(), order.end());
    for (const int64_t i : order) picked.push_back(eligible[static_cast<size_t>(i)]);
  }
  return at::tensor(picked, at::kLong);
}

MicroStepResult MicroStep::Run(const TrainBatch& batch, int step, int micro, const ThresholdCurve& curve,
                               double share) {
  const int64_t length = batch.tokens.length();
  const int64_t index = static_cast<int64_t>(step) * options_.accumulation_steps + micro;
  const std::vector<double> budgets = Budgets(step, micro);
  const Tensor rows = LossRows(batch, index);
  MicroStepResult result;
  if (rows.numel() == 0) return result;  // a batch of prompts alone
  const Tensor targets = batch.targets.index_select(0, rows);

  Tensor teacher;
  if (options_.kl_weight > 0) {
    at::NoGradGuard no_grad;
    teacher = model_.Logits(model_.Forward(batch.tokens, Decisions(), false, nullptr), rows, false);
  }
  model_.Refresh();
  ForwardTrace trace;
  const auto random_index = static_cast<uint64_t>(index);
  const Decisions decisions = options_.decision_rule == DecisionRule::kExit
                                  ? Exits(budgets, batch.tokens, random_index)
                                  : Decide(budgets, step, random_index, curve);
  const Tensor hidden = model_.Forward(batch.tokens, decisions, true, &trace);
  Tensor loss = DistillLoss(model_.Logits(hidden, rows, true), teacher, targets.to(hidden.device()), options_.kl_weight,
                            options_.ce_weight, result.kl, result.nll);
  loss = loss + trace.penalty.to(loss.device());
  if (options_.gate_kind == GateKind::kVector) loss = loss + options_.head_weight * trace.head_loss;
  result.loss = static_cast<double>(loss.item<float>());
  result.kl /= static_cast<double>(rows.numel());
  result.nll /= static_cast<double>(rows.numel());
  if (std::isfinite(result.loss)) (share == 1.0 ? loss : loss * share).backward();

  const auto count = static_cast<double>(batch.tokens.size());
  for (int64_t s = 0; s < batch.tokens.size(); ++s) {
    const double budget = budgets[static_cast<size_t>(s)];
    result.requested += budget / count;
    result.realised += RealisedSaving(trace, cost_, options_.kv_rule, s, length) / count;
    if (budget <= 0 || options_.decision_rule != DecisionRule::kThreshold) continue;
    const auto logits = SequenceLogits(trace, s, length);
    result.thresholds.emplace_back(budget, SolveThreshold(cost_, options_.kv_rule, logits, length, budget));
  }
  result.gate_mean = trace.gate_mean;
  for (const Tensor& keep : trace.keep) {
    result.run_share.push_back(keep.defined() ? keep.mean(at::kDouble).item<double>() : 1.0);
  }
  return result;
}

}  // namespace gateskip::train
