// SPDX-License-Identifier: Apache-2.0
#include "train/training_forward.h"

#include <cmath>

#include "train/gated_model.h"

namespace gateskip {

TrainingForward RunTrainingForward(const ModelSource& source, const Adapter& adapter, std::span<const int32_t> ids,
                                   std::span<const float> thresholds, std::span<const uint8_t> mask) {
  at::NoGradGuard no_grad;
  const auto length = static_cast<int64_t>(ids.size());
  const train::BaseModel base = train::LoadBaseModel(source, at::kFloat, length);
  train::GatedModel model(base, adapter.config, 0);
  model.LoadParameters(adapter);
  at::Tensor tokens = at::empty({1, length}, at::kLong);
  std::copy(ids.begin(), ids.end(), tokens.data_ptr<int64_t>());
  train::Decisions decisions;
  if (!thresholds.empty()) {
    decisions.kind = train::Decisions::Kind::kImportance;
    decisions.thresholds.assign(thresholds.begin(), thresholds.end());
  }
  if (!mask.empty()) {
    decisions.kind = train::Decisions::Kind::kMask;
    decisions.mask.assign(mask.begin(), mask.end());
  }
  train::ForwardTrace trace;
  const at::Tensor logits = model.Logits(model.Forward(tokens, decisions, true, &trace), {}, true).contiguous();

  TrainingForward result;
  const int64_t vocab = logits.size(1);
  for (int64_t t = 0; t < length; ++t) {
    const float* row = logits.data_ptr<float>() + t * vocab;
    result.logits.emplace_back(row, row + vocab);
  }
  for (size_t b = 0; b < trace.keep.size(); ++b) {
    std::vector<uint8_t> ran(ids.size(), 1);
    std::vector<float> importance(ids.size(), 1.0F);
    for (size_t t = 0; trace.keep[b].defined() && t < ids.size(); ++t) {
      ran[t] = trace.keep[b].data_ptr<float>()[t] > 0.5F;
      if (trace.z[b].defined()) importance[t] = 1.0F / (1.0F + std::exp(-trace.z[b].data_ptr<float>()[t]));
    }
    result.ran.push_back(std::move(ran));
    result.importance.push_back(std::move(importance));
  }
  return result;
}

}  // namespace gateskip
