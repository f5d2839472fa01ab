// SPDX-License-Identifier: Apache-2.0
// What the tests of exported models share: a tiny model on the disk, and how two f32 runs of one model are compared.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gateskip/engine.h"
#include "io/testing/temp_directory.h"
#include "model/merge.h"
#include "model/model_writer.h"
#include "support/tiny_model.h"
#include "tensor/dequantize.h"

namespace gateskip::testing {

// Twice what reference_test.cc derives: each side is that near to the model in exact arithmetic. Where values were
// rounded to f32 once more (merged weights, norms minus 1), that error is the 2^-24 of one more term of the sums.
inline double ExportTolerance(const ModelConfig& config) {
  return 2 * std::sqrt(2.0 * config.num_layers * 129) * 0x1p-24 * 8 * 8;
}

inline std::string WriteTiny(const TempDirectory& directory, const std::vector<std::byte>& bytes) {
  return directory.Write("base.gguf", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

// Log-probabilities of ids under the model at `path` (a GGUF or a directory), in f32.
inline ScoreResult ScoreModel(const std::string& path, const std::string& adapter, const std::vector<int32_t>& ids,
                              double budget, ComputeType compute = ComputeType::kF32) {
  EngineOptions options;
  options.model_path = path;
  options.adapter_path = adapter;
  options.threads = 2;
  options.compute = compute;
  BudgetOptions budgets;
  budgets.prefill = budget;
  return Engine::Load(options)->Score(ids, budgets);
}

inline std::vector<float> Values(const TensorView& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
  Dequantize(tensor.dtype, tensor.data, values);
  return values;
}

}  // namespace gateskip::testing
