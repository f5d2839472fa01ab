// SPDX-License-Identifier: Apache-2.0
// A trainable tensor: its name in the adapter or base file, its f32 leaf, and the group that fixes its learning rate.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <string>

#include "train/random.h"

namespace gateskip::train {

using at::Tensor;

enum class ParameterGroup { kGateWeight, kGateBias, kSkip, kLora, kBase };

struct Parameter {
  std::string name;  // as in the adapter file; of the base, as in the GGUF
  Tensor value;      // f32 leaf
  ParameterGroup group;
};

// Registers a start value as a parameter and returns its leaf.
using AddParameter = std::function<Tensor(const std::string& name, Tensor value, ParameterGroup group)>;

// f32, N(0, deviation^2).
inline Tensor NormalTensor(at::IntArrayRef shape, double deviation, Random random) {
  Tensor out = at::empty(shape, at::kFloat);
  float* values = out.data_ptr<float>();
  for (int64_t i = 0; i < out.numel(); ++i) values[i] = static_cast<float>(deviation * random.Normal());
  return out;
}

}  // namespace gateskip::train
