// SPDX-License-Identifier: Apache-2.0
#include "server/served_model.h"

#include <algorithm>

#include "base/check.h"
#include "runtime/draft.h"
#include "runtime/self_test.h"

namespace gateskip::server {
namespace {

constexpr size_t kMaxPlans = 256;

}  // namespace

ServedModel::ServedModel(const ServeOptions& options)
    : loaded_(LoadModel(options.engine)),
      info_(DescribeModel(options.engine, *loaded_)),
      chat_format_(loaded_->tokenizer) {
  if (info_.has_adapter && options.engine.self_test) RunSelfTest(*loaded_, options.engine.compute);
  use_adapter_ = options.use_adapter && info_.has_adapter;
  speculation_ = options.speculation;
  name_ = options.model_alias.empty() ? info_.name : options.model_alias;
  max_budget_ = use_adapter_ ? std::min(options.max_budget, info_.max_budget) : 0;
  const double highest =
      std::max({options.budget_prefill, options.budget_decode, options.adaptive ? options.adaptive->high : 0.0});
  if (highest > max_budget_) {
    Fail(ErrorCode::kInvalidArgument,
         "[command line] default budget: expected at most {} (what this model and --max-budget allow), found {}; {}",
         max_budget_, highest, use_adapter_ ? "lower it" : "pass --adapter DIR");
  }
  ValidateSpeculation(*loaded_, options.speculation);
}

std::vector<int32_t> ServedModel::EncodePrompt(std::string_view text) const {
  std::vector<int32_t> ids = tokenizer().Encode(text, /*parse_special=*/true);
  const std::optional<int32_t> bos = tokenizer().bos();
  if (tokenizer().add_bos() && bos && (ids.empty() || ids.front() != *bos)) ids.insert(ids.begin(), *bos);
  return ids;
}

SkipPlanPtr ServedModel::Plan(double budget) const {
  const std::lock_guard lock(mutex_);
  if (const auto found = plans_.find(budget); found != plans_.end()) return found->second;
  if (plans_.size() >= kMaxPlans) plans_.clear();
  BudgetOptions options;
  options.use_adapter = use_adapter_;
  return plans_[budget] = MakePlan(*loaded_, options, budget);
}

SavingReport ServedModel::Report(const SkipCounts& counts, double requested) const {
  return MakeReport(loaded_->cost(use_adapter_), counts, requested);
}

SkipCounts ServedModel::NoCounts() const { return SkipCounts(2 * info_.num_layers); }

}  // namespace gateskip::server
