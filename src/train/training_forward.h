// SPDX-License-Identifier: Apache-2.0
// The trainer's own forward pass as plain vectors, so that law L10 can hold it against the runtime without either side
// seeing the other's types.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "io/adapter.h"
#include "model/model_source.h"

namespace gateskip {

struct TrainingForward {
  std::vector<std::vector<float>> logits;      // [tokens][vocab]
  std::vector<std::vector<uint8_t>> ran;       // [branches][tokens]
  std::vector<std::vector<float>> importance;  // [branches][tokens], 1 where there is no gate
};

// One sequence in f32. thresholds: [branches], as in AdapterConfig::thresholds; empty = everything runs. mask:
// [branches] of fixed decisions instead, 1 runs.
// Throws Error(kMismatch) when the adapter does not fit the file.
TrainingForward RunTrainingForward(const ModelSource& source, const Adapter& adapter, std::span<const int32_t> ids,
                                   std::span<const float> thresholds, std::span<const uint8_t> mask = {});

}  // namespace gateskip
