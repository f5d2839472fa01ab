// SPDX-License-Identifier: Apache-2.0
#include "eval/window_runner.h"

#include <algorithm>

#include "base/check.h"

namespace gateskip {

WindowRunner::WindowRunner(const LoadedModel& model, int max_window)
    : model_(model), step_(MakeStep(model, max_window)), kv_(step_.kv_shape, model.transformer->config.num_layers) {
  step_.record_importance = true;
}

const Step& WindowRunner::Run(std::span<const int32_t> ids, const SkipPlan& plan, std::vector<float>* log_probs) {
  GS_CHECK(!ids.empty() && ids.size() <= step_.max_rows);
  KvSequence sequence(model_.transformer->config.num_layers);
  kv_.Grow(&sequence, ids.size());
  step_.rows.clear();
  for (size_t p = 0; p < ids.size(); ++p) {
    step_.rows.push_back({.token = ids[p],
                          .position = static_cast<int32_t>(p),
                          .sequence = &sequence,
                          .plan = &plan,
                          .wants_logits = log_probs != nullptr && p + 1 < ids.size()});
  }
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
  model_.transformer->Forward(step_);
  step_.on_logits = nullptr;
  kv_.Shrink(&sequence, 0);
  return step_;
}

}  // namespace gateskip
