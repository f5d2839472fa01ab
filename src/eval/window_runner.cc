// SPDX-License-Identifier: Apache-2.0
#include "eval/window_runner.h"

#include <algorithm>

#include "base/check.h"

namespace gateskip {

void ForwardWindow(const LoadedModel& model, std::span<const int32_t> ids, const SkipPlan& plan, bool wants_logits,
                   KvCache& kv, Step& step) {
  GS_CHECK(!ids.empty() && ids.size() <= step.max_rows);
  KvSequence sequence(model.transformer->config.num_layers);
  kv.Grow(&sequence, ids.size());
  step.rows.clear();
  for (size_t p = 0; p < ids.size(); ++p) {
    step.rows.push_back({.token = ids[p],
                         .position = static_cast<int32_t>(p),
                         .sequence = &sequence,
                         .plan = &plan,
                         .wants_logits = wants_logits && p + 1 < ids.size()});
  }
  model.transformer->Forward(step);
  kv.Shrink(&sequence, 0);
}

WindowRunner::WindowRunner(const LoadedModel& model, int max_window)
    : model_(model), step_(MakeStep(model, max_window)), kv_(step_.kv_shape, model.transformer->config.num_layers) {
  step_.record_importance = true;
}

const Step& WindowRunner::Run(std::span<const int32_t> ids, const SkipPlan& plan, std::vector<float>* log_probs) {
  if (log_probs != nullptr) {
    log_probs->assign(ids.size() - 1, 0.0F);
    step_.on_logits = [&](size_t first, ConstMatrixView logits) {
      model_.pool->ParallelFor(logits.rows, 1, [&](size_t begin, size_t end, int) {
        for (size_t i = begin; i < end; ++i) {
          const std::span<const float> row = logits.row_span(i);
          (*log_probs)[first + i] = row[static_cast<size_t>(ids[first + i + 1])] - kernels::LogSumExp(row);
        }
      });
    };
  }
  ForwardWindow(model_, ids, plan, log_probs != nullptr, kv_, step_);
  step_.on_logits = nullptr;
  return step_;
}

}  // namespace gateskip
