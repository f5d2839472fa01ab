// SPDX-License-Identifier: Apache-2.0
#include "server/budget_policy.h"

#include <algorithm>
#include <cmath>

namespace gateskip::server {

double BudgetPolicy::Adaptive(size_t waiting) const {
  constexpr double kSteps = 8;
  const double pressure = std::min(1.0, static_cast<double>(waiting) / static_cast<double>(options_.max_running));
  const AdaptiveRange range = *options_.adaptive;
  return range.low + (range.high - range.low) * std::ceil(pressure * kSteps) / kSteps;
}

Budgets BudgetPolicy::Choose(const GenerationFields& fields, size_t waiting) const {
  const bool own = fields.budget_prefill.has_value() || fields.budget_decode.has_value();
  if (adaptive() && !own) {
    const double budget = Adaptive(waiting);
    return {.prefill = budget, .decode = budget, .adapted = true};
  }
  return {.prefill = fields.budget_prefill.value_or(options_.budget_prefill),
          .decode = fields.budget_decode.value_or(options_.budget_decode)};
}

}  // namespace gateskip::server
