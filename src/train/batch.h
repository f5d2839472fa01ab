// SPDX-License-Identifier: Apache-2.0
// Packed sequences as the tensors a forward pass and a loss need.
#pragma once

#include <vector>

#include "train/data.h"
#include "train/gated_model.h"

namespace gateskip::train {

struct TrainBatch {
  TokenBatch tokens;
  // [batch * length] int32: the next token of the same document if it is in the loss, else -1.
  Tensor targets;
};

// All of equal length.
TrainBatch MakeBatch(const std::vector<TrainSequence>& sequences);

}  // namespace gateskip::train
