// SPDX-License-Identifier: Apache-2.0
// Engine::Score and Engine::Bench: one pass over a text, and the raw timings.
#include <cstring>
#include <deque>

#include "base/check.h"
#include "base/stopwatch.h"
#include "runtime/engine_impl.h"

namespace gateskip {
namespace {

// FNV-1a over the bits: a changed result is seen at once.
uint32_t HashFloats(std::span<const float> values) {
  uint32_t hash = 2166136261U;
  for (const std::byte b : std::as_bytes(values)) hash = (hash ^ std::to_integer<uint32_t>(b)) * 16777619U;
  return hash;
}

// A sequence that gives its pages back.
class TemporarySequence {
 public:
  TemporarySequence(KvCache* cache, int num_layers) : cache_(cache), sequence_(num_layers) {}
  ~TemporarySequence() { cache_->Shrink(&sequence_, 0); }
  TemporarySequence(const TemporarySequence&) = delete;
  TemporarySequence& operator=(const TemporarySequence&) = delete;
  KvSequence* get() { return &sequence_; }

 private:
  KvCache* cache_;
  KvSequence sequence_;
};

// Evaluates every gate while it lives.
class AllGates {
 public:
  AllGates(Step* step, bool evaluate) : step_(step) { step_->record_importance = evaluate; }
  ~AllGates() { step_->record_importance = false; }
  AllGates(const AllGates&) = delete;
  AllGates& operator=(const AllGates&) = delete;

 private:
  Step* step_;
};

void CheckNotCancelled(bool finished) {
  if (!finished) Fail(ErrorCode::kCancelled, "[engine] call: expected to finish, found it cancelled; run it again");
}

}  // namespace

void Engine::Impl::CheckBench(std::span<const std::vector<int32_t>> prompts, const BenchOptions& options) const {
  const size_t most = std::min(step.max_rows, step.max_logit_rows);
  if (prompts.empty() || prompts.size() > most) {
    Fail(ErrorCode::kLimitExceeded, "[bench] sequences: expected 1 to {} that decode together, found {}; change it",
         most, prompts.size());
  }
  for (const std::vector<int32_t>& ids : prompts) {
    CheckIds(ids, "bench");
    if (ids.size() == prompts[0].size()) continue;
    Fail(ErrorCode::kInvalidArgument, "[bench] prompts: expected all of one length, found {} and {}; cut them",
         prompts[0].size(), ids.size());
  }
  const auto length = static_cast<int64_t>(prompts[0].size());
  if (options.depth < 0 || options.depth >= length) {
    Fail(ErrorCode::kInvalidArgument, "[bench] depth: expected 0 to {}, so that a prompt is left, found {}; change it",
         length - 1, options.depth);
  }
  if (options.decode_tokens < 0 || length + options.decode_tokens > info.context_length) {
    Fail(ErrorCode::kLimitExceeded,
         "[bench] tokens: expected prompt and decoded tokens to fit the context of {}, found {} and {}; pass smaller "
         "-d, -p and -n or a larger -c",
         info.context_length, length, options.decode_tokens);
  }
}

ScoreResult Engine::Score(std::span<const int32_t> ids, const BudgetOptions& budget,
                          const ProgressCallback& on_progress) {
  Impl& e = *impl_;
  e.cancelled.store(false, std::memory_order_relaxed);
  e.CheckIds(ids, "score");
  const CallPlans plans = e.MakePlans(budget);
  ScoreResult result;
  result.log_probs.resize(ids.size() - 1);
  result.is_greedy.resize(ids.size() - 1);
  SkipCounts counts(2 * e.info.num_layers);
  TemporarySequence sequence(&e.kv, e.info.num_layers);
  const SteadyClock::time_point start = SteadyClock::now();
  const auto take = [&](size_t first, ConstMatrixView logits) {
    const size_t scored = std::min(logits.rows, ids.size() - 1 - first);  // nothing follows the last token
    e.model->pool->ParallelFor(scored, 1, [&](size_t begin, size_t end, int) {
      for (size_t i = begin; i < end; ++i) {
        const std::span<const float> row = logits.row_span(i);
        const auto next = static_cast<size_t>(ids[first + i + 1]);
        result.log_probs[first + i] = row[next] - kernels::LogSumExp(row);
        result.is_greedy[first + i] = kernels::ArgMax(row) == next;
      }
    });
  };
  CheckNotCancelled(e.Prefill(sequence.get(), ids, 0, plans, take, on_progress, &counts));
  result.seconds = SecondsSince(start);
  result.saving = MakeReport(e.model->cost(plans.use_adapter), counts, budget.prefill);
  return result;
}

Engine::BenchResult Engine::Bench(std::span<const std::vector<int32_t>> prompts, const BenchOptions& options) {
  Impl& e = *impl_;
  e.cancelled.store(false, std::memory_order_relaxed);
  e.CheckBench(prompts, options);
  const CallPlans plans = e.MakePlans(options.budget);
  const auto depth = static_cast<size_t>(options.depth);
  BenchResult result;
  SkipCounts prefill_counts(2 * e.info.num_layers);
  SkipCounts decode_counts(2 * e.info.num_layers);
  std::deque<TemporarySequence> sequences;
  std::vector<int32_t> next;
  const AllGates gates(&e.step, options.evaluate_gates);
  for (const std::vector<int32_t>& ids : prompts) {
    KvSequence* sequence = sequences.emplace_back(&e.kv, e.info.num_layers).get();
    const auto filled = std::span(ids).first(depth);
    if (depth > 0) CheckNotCancelled(e.Prefill(sequence, filled, 0, plans, nullptr, nullptr, nullptr));
    const uint64_t operations_before = kernels::ProductOperations();
    const SteadyClock::time_point start = SteadyClock::now();
    CheckNotCancelled(e.Prefill(sequence, ids, depth, plans, nullptr, nullptr, &prefill_counts));
    result.prefill_seconds += SecondsSince(start);
    result.prefill_operations += kernels::ProductOperations() - operations_before;
    next.push_back(static_cast<int32_t>(kernels::ArgMax(e.step.logits.row_span(0))));
  }
  const uint64_t bytes_before = kernels::WeightBytesRead();
  for (int t = 0; t < options.decode_tokens; ++t) {
    CheckNotCancelled(!e.cancelled.load(std::memory_order_relaxed));
    const SteadyClock::time_point step_start = SteadyClock::now();
    e.step.rows.clear();
    for (size_t s = 0; s < sequences.size(); ++s) {
      e.AppendRow(sequences[s].get(), next[s], prompts[s].size() + static_cast<size_t>(t), *plans.decode);
    }
    e.step.use_adapter = plans.use_adapter;
    e.model->transformer->Forward(e.step);
    for (size_t s = 0; s < sequences.size(); ++s) {
      next[s] = static_cast<int32_t>(kernels::ArgMax(e.step.logits.row_span(s)));
    }
    result.decode_seconds.push_back(SecondsSince(step_start));
    decode_counts.Add(e.step.Counts(0, sequences.size()));
  }
  result.weight_bytes_decode = kernels::WeightBytesRead() - bytes_before;
  result.logits_hash = HashFloats({e.step.logits.data, e.step.logits.rows * e.step.logits.cols});
  const CostModel& cost = e.model->cost(plans.use_adapter);
  result.prefill_saving = MakeReport(cost, prefill_counts, options.budget.prefill);
  result.decode_saving = MakeReport(cost, decode_counts, options.budget.decode);
  return result;
}

}  // namespace gateskip
