// SPDX-License-Identifier: Apache-2.0
#include "train/evaluate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "train/ops.h"

namespace gateskip::train {
namespace {

constexpr int64_t kEvalBatch = 4;
constexpr int kMaxPasses = 5;
constexpr double kSavingTolerance = 0.002;

}  // namespace

std::vector<BranchLogits> SequenceLogits(const ForwardTrace& trace, int64_t sequence, int64_t length) {
  std::vector<BranchLogits> result;
  for (size_t b = 0; b < trace.z.size(); ++b) {
    if (!trace.z[b].defined()) continue;
    const float* z = trace.z[b].data_ptr<float>() + sequence * length;
    result.push_back({static_cast<int>(b), {z, z + length}});
  }
  return result;
}

double RealisedSaving(const ForwardTrace& trace, const CostModel& cost, KvRule rule, int64_t sequence, int64_t length) {
  SkipCounts counts(cost.num_branches());
  for (size_t b = 0; b < trace.keep.size(); ++b) {
    const auto rows = static_cast<uint64_t>(length);
    uint64_t run = rows;
    if (trace.keep[b].defined()) {
      run = 0;
      const float* keep = trace.keep[b].data_ptr<float>() + sequence * length;
      for (int64_t t = 0; t < length; ++t) run += keep[t] > 0.5F ? 1 : 0;
      counts.decided[b] = rows;
    }
    counts.run[b] = run;
    counts.skipped[b] = rows - run;
    counts.kv_only[b] = rule == KvRule::kCompute ? rows - run : 0;
  }
  return cost.NetSaving(counts);
}

Evaluator::Evaluator(GatedModel& model, const CostModel& cost, TrainBatch batch, const TrainOptions& options)
    : model_(model),
      cost_(cost),
      batch_(std::move(batch)),
      rule_(options.decision_rule),
      exits_(cost, options.kv_rule),
      budgets_(options.eval_budgets) {
  thresholds_.assign(budgets_.size(), std::numeric_limits<double>::quiet_NaN());
  base_nll_ = Pass(Decisions(), 0, false).nll;
}

Evaluator::Result Evaluator::PassAt(double threshold, double budget) {
  Decisions decisions;
  decisions.kind = Decisions::Kind::kThresholds;
  decisions.thresholds.assign(static_cast<size_t>(kEvalBatch), static_cast<float>(threshold));
  return Pass(decisions, budget, true);
}

Evaluator::Result Evaluator::Pass(const Decisions& decisions, double budget, bool use_adapter) {
  at::NoGradGuard no_grad;
  const int64_t count = batch_.tokens.size();
  const int64_t length = batch_.tokens.length();
  double nll = 0;
  double saving = 0;
  std::vector<ForwardTrace> traces;
  std::vector<BranchLogits> logits;
  for (int64_t begin = 0; begin < count; begin += kEvalBatch) {
    const int64_t end = std::min(begin + kEvalBatch, count);
    const Tensor& starts = batch_.tokens.starts;
    const TokenBatch part(batch_.tokens.tokens.slice(0, begin, end),
                          starts.defined() ? starts.slice(0, begin * length, end * length) : Tensor());
    traces.emplace_back();
    const Tensor hidden = model_.Forward(part, decisions, use_adapter, &traces.back());
    const Tensor targets = batch_.targets.slice(0, begin * length, end * length).to(hidden.device());
    nll += RowNll(model_.Logits(hidden, {}, use_adapter), targets).sum(at::kDouble).item<double>();
    for (int64_t s = 0; use_adapter && s < part.size(); ++s) {
      saving += RealisedSaving(traces.back(), cost_, model_.config().kv_rule, s, length);
      for (const BranchLogits& b : SequenceLogits(traces.back(), s, length)) logits.push_back(b);
    }
  }
  const auto num_targets = static_cast<double>((batch_.targets >= 0).sum().item<int64_t>());
  Result result{nll / std::max(num_targets, 1.0), saving / static_cast<double>(count), 0};
  if (decisions.kind == Decisions::Kind::kThresholds) {
    result.exact_threshold =
        SolveThreshold(cost_, model_.config().kv_rule, logits, batch_.tokens.tokens.numel(), budget);
  }
  return result;
}

Evaluator::Result Evaluator::Search(double budget, double& threshold) {
  if (std::isnan(threshold)) threshold = PassAt(-std::numeric_limits<double>::infinity(), budget).exact_threshold;
  Result result{};
  for (int pass = 0; pass < kMaxPasses; ++pass) {
    result = PassAt(threshold, budget);
    if (std::abs(result.saving - budget) < kSavingTolerance || !std::isfinite(result.exact_threshold)) break;
    threshold = result.exact_threshold;
  }
  return result;
}

TrainEvaluation Evaluator::Run(int step) {
  model_.Refresh();
  TrainEvaluation evaluation;
  evaluation.step = step;
  evaluation.base_nll = base_nll_;
  const auto add = [&](double budget, const Result& result) {
    evaluation.budgets.push_back(budget);
    evaluation.nll.push_back(result.nll);
    evaluation.net_saving.push_back(result.saving);
  };
  add(0, Pass(Decisions(), 0, true));
  for (size_t i = 0; i < budgets_.size(); ++i) {
    if (rule_ == DecisionRule::kExit) {
      Decisions decisions;
      decisions.kind = Decisions::Kind::kMask;
      decisions.mask = exits_.Mask(exits_.At(budgets_[i]));
      add(budgets_[i], Pass(decisions, budgets_[i], true));
    } else {
      add(budgets_[i], Search(budgets_[i], thresholds_[i]));
    }
  }
  return evaluation;
}

}  // namespace gateskip::train
