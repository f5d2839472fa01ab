// SPDX-License-Identifier: Apache-2.0
#include "support/model_runner.h"

#include <algorithm>

#include "base/check.h"

namespace gateskip::testing {

ModelRunner::ModelRunner(std::shared_ptr<const GgufFile> file, const Adapter* adapter, bool exact, int threads,
                         kernels::KvType kv_type)
    : file_(std::move(file)),
      pool_(std::make_unique<ThreadPool>(threads)),
      kv_type_(exact ? kernels::KvType::kF32 : kv_type) {
  ModelConfig config = ReadConfig(*file_);
  const kernels::PackFormat format = exact ? kernels::PackFormat::kF32 : kernels::PackFormat::kNative;
  ModelWeights weights = BindWeights(*MakeWeightSource(file_), config, {format, format}, *pool_);
  std::optional<AdapterWeights> bound;
  if (adapter != nullptr) bound = BindAdapter(*adapter, config, file_->Fingerprint(), "test", exact, *pool_);
  model_ = std::make_unique<Transformer>(std::move(config), std::move(weights), std::move(bound), *pool_);
}

RunResult ModelRunner::RunOne(const std::vector<int32_t>& ids, SkipPlanPtr plan, bool use_adapter) {
  return Run({{.ids = ids, .plan = std::move(plan), .chunks = {ids.size()}}}, use_adapter)[0];
}

std::vector<RunResult> ModelRunner::Run(const std::vector<RunRequest>& requests, bool use_adapter) {
  struct State {
    KvSequence kv;
    size_t done = 0;
    size_t chunk = 0;
    std::vector<std::pair<size_t, size_t>> rows;  // [first, last) of the step at hand
  };
  const int branches = model_->config.num_branches();
  size_t max_rows = 0;
  std::vector<RunResult> results(requests.size());
  std::vector<State> states;
  for (size_t i = 0; i < requests.size(); ++i) {
    max_rows += requests[i].ids.size();
    states.push_back({KvSequence(model_->config.num_layers), 0, 0, {}});
    results[i].events.resize(static_cast<size_t>(branches));
    results[i].importances.resize(static_cast<size_t>(branches));
  }
  Step step(model_->config, kv_type_, max_rows, max_rows);
  step.use_adapter = use_adapter;
  step.record_importance = record_importance_;
  KvCache cache(step.kv_shape, model_->config.num_layers);
  for (size_t round = 0;; ++round) {
    step.rows.clear();
    bool waiting = false;
    for (size_t i = 0; i < requests.size(); ++i) {
      const RunRequest& request = requests[i];
      State& state = states[i];
      state.rows.clear();
      const size_t first = step.rows.size();
      waiting |= round < request.start_step;
      if (round >= request.start_step && state.done < request.ids.size()) {
        const size_t wanted = request.chunks[std::min(state.chunk++, request.chunks.size() - 1)];
        const size_t end = std::min(request.ids.size(), state.done + wanted);
        cache.Grow(&state.kv, end);
        for (; state.done < end; ++state.done) {
          step.rows.push_back({.token = request.ids[state.done],
                               .position = static_cast<int32_t>(state.done),
                               .sequence = &state.kv,
                               .plan = request.plan.get(),
                               .wants_logits = true});
        }
      }
      state.rows.emplace_back(first, step.rows.size());
    }
    if (step.rows.empty()) {
      if (waiting) continue;
      return results;
    }
    model_->Forward(step);
    for (size_t i = 0; i < requests.size(); ++i) {
      const auto [first, last] = states[i].rows[0];
      for (size_t r = first; r < last; ++r) {
        const std::span<const float> logits = step.logits.row_span(r);
        results[i].logits.emplace_back(logits.begin(), logits.end());
        for (int b = 0; b < branches; ++b) {
          results[i].events[static_cast<size_t>(b)].push_back(step.event(b, r));
          if (!record_importance_) continue;
          results[i].importances[static_cast<size_t>(b)].push_back(
              step.importances[static_cast<size_t>(b) * step.rows.size() + r]);
        }
      }
    }
  }
}

}  // namespace gateskip::testing
