// SPDX-License-Identifier: Apache-2.0
// Packed sequences as the tensors a forward pass and a loss need.
#pragma once

#include <vector>

#include "train/data.h"
#include "train/gated_model.h"

namespace gateskip::train {

struct TrainSequence {
  std::vector<int32_t> tokens, position;
  std::vector<uint8_t> in_loss;
};
inline TrainSequence Plain(std::vector<int32_t> ids) {
  TrainSequence s{ids, {}, std::vector<uint8_t>(ids.size(), 1)};
  for (size_t i = 0; i < ids.size(); ++i) s.position.push_back(static_cast<int32_t>(i));
  return s;
}

struct TrainBatch {
  TokenBatch tokens;
  // [batch * length] int32: the next token of the same document if it is in the loss, else -1.
  Tensor targets;
};

// All of equal length.
TrainBatch MakeBatch(const std::vector<TrainSequence>& sequences);

}  // namespace gateskip::train
