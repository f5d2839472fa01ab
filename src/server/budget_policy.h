// SPDX-License-Identifier: Apache-2.0
// Which budgets a request runs at: its own, or the server's default, which may follow the queue (--adaptive-budget).
#pragma once

#include "server/api_request.h"
#include "server/options.h"

namespace gateskip::server {

struct Budgets {
  double prefill = 0;
  double decode = 0;
  bool adapted = false;  // the queue chose them
};

class BudgetPolicy {
 public:
  explicit BudgetPolicy(const ServeOptions& options) : options_(options) {}

  // `waiting`: sequences in the queue. A request that sets one budget gets the fixed default for the other.
  Budgets Choose(const GenerationFields& fields, size_t waiting) const;

  // The adaptive default: LO with an empty queue, HI once as many wait as run at a time, in eight steps between, so
  // that few different plans are about and prompts find their prefix in the cache.
  double Adaptive(size_t waiting) const;
  bool adaptive() const { return options_.adaptive.has_value(); }

 private:
  const ServeOptions& options_;
};

}  // namespace gateskip::server
