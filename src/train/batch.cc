// SPDX-License-Identifier: Apache-2.0
#include "train/batch.h"

#include <algorithm>

#include "base/check.h"

namespace gateskip::train {

TrainBatch MakeBatch(const std::vector<TrainSequence>& sequences) {
  GS_CHECK(!sequences.empty());
  const auto count = static_cast<int64_t>(sequences.size());
  const auto length = static_cast<int64_t>(sequences[0].tokens.size());
  Tensor tokens = at::empty({count, length}, at::kLong);
  Tensor starts = at::empty({count * length}, at::kInt);
  Tensor targets = at::full({count * length}, -1, at::kInt);
  bool one_document = true;
  for (int64_t s = 0; s < count; ++s) {
    const TrainSequence& sequence = sequences[static_cast<size_t>(s)];
    GS_CHECK(static_cast<int64_t>(sequence.tokens.size()) == length);
    for (int64_t t = 0; t < length; ++t) {
      const auto i = static_cast<size_t>(t);
      tokens.data_ptr<int64_t>()[s * length + t] = sequence.tokens[i];
      starts.data_ptr<int32_t>()[s * length + t] = static_cast<int32_t>(t) - sequence.position[i];
      one_document = one_document && sequence.position[i] == t;
      if (t > 0 && sequence.position[i] > 0 && sequence.in_loss[i] != 0) {
        targets.data_ptr<int32_t>()[s * length + t - 1] = sequence.tokens[i];
      }
    }
  }
  return {{tokens, one_document ? Tensor() : starts}, targets};
}

}  // namespace gateskip::train
