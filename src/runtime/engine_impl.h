// SPDX-License-Identifier: Apache-2.0
// What an Engine holds, and the steps its calls share. engine.cc loads and describes, generate.cc generates,
// score.cc scores and measures.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gateskip/engine.h"
#include "model/step.h"
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
  KvCache kv;
  Step step;
  ChatFormat chat_format;
  std::atomic<bool> cancelled{false};

  // The conversation in the cache: ids[i] is stored at position i, run under `budget`.
  KvSequence sequence;
  std::vector<int32_t> cached_ids;
  size_t cached_prompt = 0;  // how many of them were prefilled rather than decoded
  BudgetOptions cached_budget;

  CallPlans MakePlans(const BudgetOptions& budget) const;
  void CheckIds(std::span<const int32_t> ids, const char* subject) const;

  // Runs ids as one prompt in chunks, from position `first`; logits of the last row (or of every row, through
  // on_logits with the index of the first) come out. False when cancelled half-way.
  bool Prefill(KvSequence* target, std::span<const int32_t> ids, size_t first, const CallPlans& plans,
               const std::function<void(size_t first_id, ConstMatrixView logits)>& on_logits,
               const ProgressCallback& on_progress, SkipCounts* counts);
  // Runs one decode row; its logits are in step.logits afterwards.
  void Decode(KvSequence* target, int32_t id, size_t position, const CallPlans& plans, SkipCounts* counts);

  void ForgetCache();
  // Positions of the cache that this prompt may keep.
  size_t ReusablePrefix(std::span<const int32_t> prompt, const BudgetOptions& budget) const;
};

}  // namespace gateskip
