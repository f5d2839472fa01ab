// SPDX-License-Identifier: Apache-2.0
// The model as the HTTP side sees it: names and limits, text to token ids and back, plans for budgets. Constant once
// loaded and safe to use from any thread; the engine thread alone runs it (engine_loop.h).
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "gate/cost_model.h"
#include "gate/skip_plan.h"
#include "gateskip/engine.h"
#include "runtime/loaded_model.h"
#include "server/options.h"
#include "text/chat_format.h"
#include "text/tokenizer.h"

namespace gateskip::server {

class ServedModel {
 public:
  // Loads, runs the adapter's self-test. Throws Error, also for default budgets that this model does not reach.
  explicit ServedModel(const ServeOptions& options);

  const LoadedModel& loaded() const { return *loaded_; }
  const ModelInfo& info() const { return info_; }
  const Tokenizer& tokenizer() const { return *loaded_->tokenizer; }
  const std::string& name() const { return name_; }
  bool use_adapter() const { return use_adapter_; }
  const SpeculationOptions& speculation() const { return speculation_; }
  double max_budget() const { return max_budget_; }  // 0 without an adapter

  // A plain prompt, with BOS where the model wants one; special tokens in the text are recognised.
  std::vector<int32_t> EncodePrompt(std::string_view text) const;
  // Conversations with the assistant's turn opened. Throws Error(kUnsupported) for a model without a chat template.
  std::string ApplyTemplate(const std::vector<ChatMessage>& messages) const {
    return chat_format_.Render(messages, /*add_generation_prompt=*/true);
  }
  std::vector<int32_t> EncodeChat(const std::vector<ChatMessage>& messages) const {
    return chat_format_.Encode(messages, /*add_generation_prompt=*/true);
  }

  // The plan of a budget; one object for each, so that the prefix cache compares fast.
  SkipPlanPtr Plan(double budget) const;
  SavingReport Report(const SkipCounts& counts, double requested) const;
  SkipCounts NoCounts() const;

 private:
  std::unique_ptr<LoadedModel> loaded_;
  ModelInfo info_;
  std::string name_;
  bool use_adapter_;
  SpeculationOptions speculation_;
  double max_budget_ = 0;
  ChatFormat chat_format_;
  mutable std::mutex mutex_;
  mutable std::map<double, SkipPlanPtr> plans_;
};

}  // namespace gateskip::server
