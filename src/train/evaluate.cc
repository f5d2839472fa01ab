// SPDX-License-Identifier: Apache-2.0
#include "train/evaluate.h"

#include <cmath>
#include <limits>

#include "train/ops.h"
#include "train/row_math.h"

namespace gateskip::train {
namespace {

constexpr int64_t kEvalBatch = 4;
constexpr int kMaxPasses = 3;
constexpr double kSavingTolerance = 0.002;

double SumNll(const Tensor& logits, const Tensor& tokens) {
  const int64_t length = tokens.size(1);
  const auto n = static_cast<size_t>(logits.size(1));
  const int64_t* ids = tokens.data_ptr<int64_t>();
  Tensor nll = at::zeros({logits.size(0)}, at::kFloat);
  ForRows(logits.size(0), [&](int64_t begin, int64_t end) {
    std::vector<float> row(n);
    for (int64_t r = begin; r < end; ++r) {
      if (r % length == length - 1) continue;
      nll.data_ptr<float>()[r] = NllRow(RowAsFloat(logits, r, row.data()), static_cast<int32_t>(ids[r + 1]), n);
    }
  });
  return nll.sum(at::kDouble).item<double>();
}

}  // namespace

std::vector<BranchLogits> SequenceLogits(const ForwardTrace& trace, int64_t sequence, int64_t length,
                                         int64_t first_position) {
  std::vector<BranchLogits> result;
  for (size_t b = 0; b < trace.z.size(); ++b) {
    if (!trace.z[b].defined()) continue;
    const float* z = trace.z[b].data_ptr<float>() + sequence * length;
    result.push_back({static_cast<int>(b), {z + first_position, z + length}});
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

Evaluator::Evaluator(GatedModel& model, const CostModel& cost, Tensor tokens, const TrainOptions& options)
    : model_(model), cost_(cost), tokens_(std::move(tokens)), budgets_(options.eval_budgets) {
  thresholds_.assign(budgets_.size(), std::numeric_limits<double>::quiet_NaN());
  base_nll_ = Pass(-std::numeric_limits<double>::infinity(), 0, false).nll;
}

Evaluator::Result Evaluator::Pass(double threshold, double budget, bool use_adapter) {
  at::NoGradGuard no_grad;
  const int64_t length = tokens_.size(1);
  const int64_t first = model_.config().always_run_positions;
  double nll = 0;
  double saving = 0;
  std::vector<ForwardTrace> traces;
  std::vector<BranchLogits> logits;
  for (int64_t begin = 0; begin < tokens_.size(0); begin += kEvalBatch) {
    const Tensor batch = tokens_.slice(0, begin, std::min(begin + kEvalBatch, tokens_.size(0)));
    Decisions decisions;
    if (use_adapter && budget > 0) {
      decisions.kind = Decisions::Kind::kThresholds;
      decisions.thresholds.assign(static_cast<size_t>(batch.size(0)), static_cast<float>(threshold));
    }
    traces.emplace_back();
    nll += SumNll(model_.Logits(model_.Forward(batch, decisions, use_adapter, &traces.back()), {}), batch.contiguous());
    for (int64_t s = 0; use_adapter && s < batch.size(0); ++s) {
      saving += RealisedSaving(traces.back(), cost_, model_.config().kv_rule, s, length);
      for (const BranchLogits& b : SequenceLogits(traces.back(), s, length, first)) logits.push_back(b);
    }
  }
  const auto sequences = static_cast<double>(tokens_.size(0));
  Result result{nll / (sequences * static_cast<double>(length - 1)), saving / sequences, 0};
  if (use_adapter && budget > 0) {
    result.exact_threshold = SolveThreshold(cost_, model_.config().kv_rule, logits, tokens_.numel(), budget);
  }
  return result;
}

TrainEvaluation Evaluator::Run(int step) {
  model_.Refresh();
  TrainEvaluation evaluation;
  evaluation.step = step;
  evaluation.base_nll = base_nll_;
  const Result dense = Pass(0, 0, true);
  evaluation.budgets.push_back(0);
  evaluation.nll.push_back(dense.nll);
  evaluation.net_saving.push_back(dense.saving);
  for (size_t i = 0; i < budgets_.size(); ++i) {
    if (std::isnan(thresholds_[i])) {
      thresholds_[i] = Pass(-std::numeric_limits<double>::infinity(), budgets_[i], true).exact_threshold;
    }
    Result result{};
    for (int pass = 0; pass < kMaxPasses; ++pass) {
      result = Pass(thresholds_[i], budgets_[i], true);
      if (std::abs(result.saving - budgets_[i]) < kSavingTolerance || !std::isfinite(result.exact_threshold)) break;
      thresholds_[i] = result.exact_threshold;
    }
    evaluation.budgets.push_back(budgets_[i]);
    evaluation.nll.push_back(result.nll);
    evaluation.net_saving.push_back(result.saving);
  }
  return evaluation;
}

}  // namespace gateskip::train
