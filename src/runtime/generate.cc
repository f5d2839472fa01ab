// SPDX-License-Identifier: Apache-2.0
// Engine::Generate: prefill, then one token at a time, or several where a draft agrees with the model.
#include <algorithm>
#include <optional>

#include "base/check.h"
#include "base/stopwatch.h"
#include "runtime/draft.h"
#include "runtime/engine_impl.h"
#include "runtime/sampler.h"
#include "runtime/text_sink.h"

namespace gateskip {
namespace {

bool SamePlans(const BudgetOptions& a, const BudgetOptions& b) {
  return a.prefill == b.prefill && a.decode == b.decode && a.policy == b.policy && a.policy_seed == b.policy_seed &&
         a.use_adapter == b.use_adapter;
}

}  // namespace

size_t Engine::Impl::ReusablePrefix(std::span<const int32_t> prompt, const BudgetOptions& budget) const {
  if (!SamePlans(budget, cached_budget)) return 0;
  // Decoded positions ran under the decode plan; as part of a prompt they would run under the prefill plan.
  const size_t usable =
      budget.prefill == budget.decode ? cached_ids.size() : std::min(cached_ids.size(), cached_prompt);
  const size_t longest = std::min(usable, prompt.size() - 1);  // the last row must run: its logits are needed
  return static_cast<size_t>(
      std::mismatch(prompt.begin(), prompt.begin() + static_cast<ptrdiff_t>(longest), cached_ids.begin()).first -
      prompt.begin());
}

GenerateResult Engine::Generate(std::span<const int32_t> prompt, const GenerateOptions& options,
                                const TextCallback& on_text, const ProgressCallback& on_progress) {
  Impl& e = *impl_;
  e.cancelled.store(false, std::memory_order_relaxed);
  e.CheckIds(prompt, "prompt");
  if (options.max_tokens < -1) {
    Fail(ErrorCode::kInvalidArgument, "[options] max_tokens: expected -1 (no limit) or more, found {}; pass -n",
         options.max_tokens);
  }
  const CallPlans plans = e.MakePlans(options.budget);
  Sampler sampler(options.sampling);
  Drafter drafter(*e.model, options.speculation);
  DraftCosts draft_costs(drafter.plan().expected_cost);
  GenerateResult result;
  TextSink sink(e.model->tokenizer, options.stop, on_text, &result.text);
  result.prompt_tokens = prompt.size();
  result.reused_tokens = e.ReusablePrefix(prompt, options.budget);

  SkipCounts prefill_counts(2 * e.info.num_layers);
  SkipCounts decode_counts(2 * e.info.num_layers);
  const auto finish = [&](FinishReason reason) {
    sink.Finish();
    if (sink.stopped()) reason = FinishReason::kStopString;
    result.finish_reason = reason;
    const CostModel& cost = e.model->cost(plans.use_adapter);
    result.prefill_saving = MakeReport(cost, prefill_counts, options.budget.prefill);
    result.decode_saving = MakeReport(cost, decode_counts, options.budget.decode);
    result.speculation = drafter.Report();
    return result;
  };

  const SteadyClock::time_point start = SteadyClock::now();
  // Until the prompt is through, the cache holds nothing that a later call may trust.
  std::vector<int32_t> ids(prompt.begin(), prompt.end());
  e.kv.Shrink(&e.sequence, result.reused_tokens);
  e.cached_ids.clear();
  e.cached_budget = options.budget;
  try {
    if (!e.Prefill(&e.sequence, ids, result.reused_tokens, plans, nullptr, on_progress, &prefill_counts)) {
      e.ForgetCache();
      return finish(FinishReason::kCancelled);
    }
    e.cached_prompt = prompt.size();
    result.prefill_seconds = SecondsSince(start);

    const SteadyClock::time_point decode_start = SteadyClock::now();
    const size_t context = static_cast<size_t>(e.info.context_length);
    const size_t longest = options.max_tokens == -1 ? context : static_cast<size_t>(options.max_tokens);
    // The next token, drawn from a row of logits; or why there is none, or no more after it.
    const auto take_token = [&](std::span<float> logits) -> std::optional<FinishReason> {
      const int32_t id = sampler.Sample(logits, ids);
      if (!options.ignore_eos && e.model->tokenizer->IsEndOfGeneration(id)) return FinishReason::kEndOfText;
      result.token_ids.push_back(id);
      ids.push_back(id);
      sink.Push(id);
      if (sink.stopped()) return FinishReason::kStopString;
      if (sink.refused() || e.cancelled.load(std::memory_order_relaxed)) return FinishReason::kCancelled;
      if (ids.size() >= context) return FinishReason::kContextFull;
      if (result.token_ids.size() >= longest) return FinishReason::kLength;
      return std::nullopt;
    };
    std::optional<FinishReason> reason;
    if (longest == 0) reason = FinishReason::kLength;
    if (!reason) reason = take_token(e.step.logits.row_span(0));
    while (!reason) {
      const size_t room = std::min(longest - result.token_ids.size(), context - ids.size());
      e.Draft(&e.sequence, ids, std::min(room, e.MaxRows()) - 1, sampler, &drafter, &draft_costs);
      const SteadyClock::time_point step_start = SteadyClock::now();
      e.RunRows(&e.sequence, drafter.ids().subspan(ids.size() - 1), ids.size() - 1, *plans.decode, plans.use_adapter);
      draft_costs.Target(1, drafter.tokens().size(), SecondsSince(step_start));
      // A row stands for the token after it as long as the text has gone the draft's way.
      const size_t rows = e.step.rows.size();
      size_t used = 0;
      while (!reason && used < rows && (used == 0 || ids.back() == drafter.tokens()[used - 1])) {
        reason = take_token(e.step.logits.row_span(used++));
      }
      drafter.Verified(used - 1);
      decode_counts.Add(e.step.Counts(0, used));
    }
    result.decode_seconds = SecondsSince(decode_start);
    // The last token has not been run: it is not in the cache.
    const size_t decoded = decode_counts.run[0] + decode_counts.skipped[0];
    ids.resize(prompt.size() + decoded);
    e.kv.Shrink(&e.sequence, ids.size());
    e.cached_ids = std::move(ids);
    return finish(*reason);
  } catch (...) {
    e.ForgetCache();
    throw;
  }
}

}  // namespace gateskip
