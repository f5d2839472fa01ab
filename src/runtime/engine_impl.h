// SPDX-License-Identifier: Apache-2.0
// What an Engine holds, and the steps its calls share. engine.cc loads and describes, generate.cc generates,
// score.cc scores and measures.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gateskip/engine.h"
#include "model/step.h"
#include "runtime/draft.h"
#include "runtime/kv_cache.h"
#include "runtime/loaded_model.h"
#include "text/chat_format.h"

namespace gateskip {

// The plans of one call, and what they ran.
struct CallPlans {
  SkipPlanPtr prefill, decode;
  bool use_adapter;
};

struct Engine::Impl {
  Impl(const EngineOptions& options, std::unique_ptr<LoadedModel> loaded_model);

  std::unique_ptr<LoadedModel> model;
  ModelInfo info;
  int prefill_chunk;
  Step step;
  KvCache kv;
  ChatFormat chat_format;
  std::atomic<bool> cancelled{false};

  // The conversation in the cache: ids[i] is stored at position i, run under `budget`.
  KvSequence sequence;
  std::vector<int32_t> cached_ids;
  size_t cached_prompt = 0;  // how many of them were prefilled rather than decoded
  BudgetOptions cached_budget;

  CallPlans MakePlans(const BudgetOptions& budget) const;
  void CheckIds(std::span<const int32_t> ids, const char* subject) const;
  void CheckBench(std::span<const std::vector<int32_t>> prompts, const BenchOptions& options) const;

  // Runs ids as one prompt in chunks, from position `first`; logits of the last row (or of every row, through
  // on_logits with the index of the first) come out. False when cancelled half-way.
  bool Prefill(KvSequence* target, std::span<const int32_t> ids, size_t first, const CallPlans& plans,
               const std::function<void(size_t first_id, ConstMatrixView logits)>& on_logits,
               const ProgressCallback& on_progress, SkipCounts* counts);
  // A further row of the step at hand, with logits.
  void AppendRow(KvSequence* target, int32_t id, size_t position, const SkipPlan& plan);
  // Runs ids as rows of one step, from position `first`; a row of logits for each is in step.logits afterwards.
  void RunRows(KvSequence* target, std::span<const int32_t> ids, size_t first, const SkipPlan& plan, bool use_adapter);
  // So many of them fit.
  size_t MaxRows() const { return std::min(step.max_rows, step.max_logit_rows); }
  // Drafts what may follow ids, at most `room` tokens. The K/V that it leaves behind are overwritten by the rows that
  // verify it.
  void Draft(KvSequence* target, std::span<const int32_t> ids, size_t room, const Sampler& sampler, Drafter* drafter,
             DraftCosts* costs);

  void ForgetCache();
  // Positions of the cache that this prompt may keep.
  size_t ReusablePrefix(std::span<const int32_t> prompt, const BudgetOptions& budget) const;
};

}  // namespace gateskip
