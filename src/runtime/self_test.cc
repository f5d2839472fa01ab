// SPDX-License-Identifier: Apache-2.0
#include "runtime/self_test.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "model/step.h"
#include "runtime/kv_cache.h"

namespace gateskip {
namespace {

constexpr size_t kTopLogits = 8;
constexpr double kFastMaskAgreement = 0.95;
constexpr double kFastRelativeError = 0.2;
constexpr float kExactMargin = 1e-3F;
constexpr float kExactLogitError = 1e-2F;

struct SelfTestRun {
  Step step;
  SkipPlanPtr plan;
};

SelfTestRun Run(const LoadedModel& model, const std::vector<int32_t>& ids, double budget, kernels::KvType kv_type) {
  const ModelConfig& c = model.transformer->config;
  SelfTestRun run = {Step(c, kv_type, ids.size(), 1), GatesPlan(model.transformer->adapter->config, budget)};
  KvCache kv(run.step.kv_shape, c.num_layers);
  KvSequence sequence(c.num_layers);
  kv.Grow(&sequence, ids.size());
  for (size_t p = 0; p < ids.size(); ++p) {
    run.step.rows.push_back({.token = ids[p],
                             .position = static_cast<int32_t>(p),
                             .sequence = &sequence,
                             .plan = run.plan.get(),
                             .wants_logits = p + 1 == ids.size()});
  }
  run.step.record_importance = true;
  model.transformer->Forward(run.step);
  return run;
}

[[noreturn]] void FailTest(const std::string& origin, const std::string& subject, const std::string& expected,
                           const std::string& found) {
  Fail(ErrorCode::kMismatch,
       "[{}] self-test, {}: expected {}, found {}; the adapter or its base model is damaged, or "
       "they do not belong together",
       origin, subject, expected, found);
}

}  // namespace

AdapterSelfTest MakeSelfTest(const LoadedModel& model, std::vector<int32_t> ids, double budget) {
  SelfTestRun run = Run(model, ids, budget, kernels::KvType::kF32);
  AdapterSelfTest test;
  test.budget = budget;
  for (int b = 0; b < model.transformer->config.num_branches(); ++b) {
    std::string mask;
    for (size_t r = 0; r < ids.size(); ++r) mask += (run.step.event(b, r) & kRan) != 0 ? '1' : '0';
    test.expected_mask.push_back(std::move(mask));
  }
  const std::span<const float> logits = run.step.logits.row_span(0);
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const size_t top = std::min(kTopLogits, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(top), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  for (size_t i = 0; i < top; ++i) {
    test.top_ids.push_back(order[i]);
    test.top_logits.push_back(logits[static_cast<size_t>(order[i])]);
  }
  test.token_ids = std::move(ids);
  return test;
}

void RunSelfTest(const LoadedModel& model, ComputeType compute) {
  const AdapterSelfTest& test = model.transformer->adapter->config.self_test;
  if (test.token_ids.empty()) return;
  const ModelConfig& c = model.transformer->config;
  const std::string& origin = model.adapter_origin;
  const auto kv_type = compute == ComputeType::kF32 ? kernels::KvType::kF32 : kernels::KvType::kF16;
  const bool exact = compute == ComputeType::kF32 && !model.requantized;
  for (const int32_t id : test.token_ids) {
    if (id < 0 || id >= c.vocab_size) {
      FailTest(origin, "token ids", fmt::format("ids below {}", c.vocab_size), std::to_string(id));
    }
  }
  SelfTestRun run = Run(model, test.token_ids, test.budget, kv_type);

  const size_t n = test.token_ids.size();
  size_t agreed = 0;
  for (int b = 0; b < c.num_branches(); ++b) {
    for (size_t r = 0; r < n; ++r) {
      const bool ran = (run.step.event(b, r) & kRan) != 0;
      if (ran == (test.expected_mask[static_cast<size_t>(b)][r] == '1')) {
        ++agreed;
        continue;
      }
      const float importance = run.step.importances[static_cast<size_t>(b) * n + r];
      const float margin = std::fabs(importance - run.plan->thresholds[static_cast<size_t>(b)]);
      if (exact && margin > kExactMargin) {
        FailTest(origin, fmt::format("decision of branch {} at token {}", b, r), ran ? "skipped" : "run",
                 fmt::format("{} with importance {:.6f}", ran ? "run" : "skipped", importance));
      }
    }
  }
  const double agreement = static_cast<double>(agreed) / static_cast<double>(n * static_cast<size_t>(c.num_branches()));
  if (!exact && agreement < kFastMaskAgreement) {
    FailTest(origin, "decisions", fmt::format("at least {:.0f} % equal to the stored ones", 100 * kFastMaskAgreement),
             fmt::format("{:.1f} %", 100 * agreement));
  }

  const std::span<const float> logits = run.step.logits.row_span(0);
  double error = 0;
  double size = 0;
  float worst = 0;
  for (size_t i = 0; i < test.top_ids.size(); ++i) {
    const int32_t id = test.top_ids[i];
    if (id < 0 || id >= c.vocab_size) FailTest(origin, "top ids", "ids of the vocabulary", std::to_string(id));
    const float difference = logits[static_cast<size_t>(id)] - test.top_logits[i];
    error += static_cast<double>(difference) * difference;
    size += static_cast<double>(test.top_logits[i]) * test.top_logits[i];
    worst = std::max(worst, std::fabs(difference));
  }
  if (exact ? worst > kExactLogitError : error > kFastRelativeError * kFastRelativeError * size) {
    FailTest(origin, "logits", "the stored ones", fmt::format("a relative error of {:.3f}", std::sqrt(error / size)));
  }
}

}  // namespace gateskip
