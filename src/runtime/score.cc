// SPDX-License-Identifier: Apache-2.0
// Engine::Score and Engine::Bench: one pass over a text, and the raw timings.
#include <cstring>

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

void CheckNotCancelled(bool finished) {
  if (!finished) Fail(ErrorCode::kCancelled, "[engine] call: expected to finish, found it cancelled; run it again");
}

}  // namespace

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

Engine::BenchResult Engine::Bench(std::span<const int32_t> ids, int decode_tokens, const BudgetOptions& budget) {
  Impl& e = *impl_;
  e.cancelled.store(false, std::memory_order_relaxed);
  e.CheckIds(ids, "bench");
  if (decode_tokens < 0 ||
      ids.size() + static_cast<size_t>(decode_tokens) > static_cast<size_t>(e.info.context_length)) {
    Fail(ErrorCode::kLimitExceeded,
         "[bench] tokens: expected prompt and decoded tokens to fit the context of {}, found {} "
         "and {}; pass smaller -p and -n or a larger -c",
         e.info.context_length, ids.size(), decode_tokens);
  }
  const CallPlans plans = e.MakePlans(budget);
  BenchResult result;
  SkipCounts prefill_counts(2 * e.info.num_layers);
  SkipCounts decode_counts(2 * e.info.num_layers);
  TemporarySequence sequence(&e.kv, e.info.num_layers);
  const SteadyClock::time_point start = SteadyClock::now();
  CheckNotCancelled(e.Prefill(sequence.get(), ids, 0, plans, nullptr, nullptr, &prefill_counts));
  result.prefill_seconds = SecondsSince(start);
  const uint64_t bytes_before = kernels::WeightBytesRead();
  for (int t = 0; t < decode_tokens; ++t) {
    CheckNotCancelled(!e.cancelled.load(std::memory_order_relaxed));
    const SteadyClock::time_point token_start = SteadyClock::now();
    const auto next = static_cast<int32_t>(kernels::ArgMax(e.step.logits.row_span(0)));
    e.RunRows(sequence.get(), {&next, 1}, ids.size() + static_cast<size_t>(t), *plans.decode, plans.use_adapter);
    decode_counts.Add(e.step.Counts(0, 1));
    result.decode_seconds.push_back(SecondsSince(token_start));
  }
  result.weight_bytes_decode = kernels::WeightBytesRead() - bytes_before;
  result.logits_hash = HashFloats(e.step.logits.row_span(0));
  const CostModel& cost = e.model->cost(plans.use_adapter);
  result.prefill_saving = MakeReport(cost, prefill_counts, budget.prefill);
  result.decode_saving = MakeReport(cost, decode_counts, budget.decode);
  return result;
}

}  // namespace gateskip
