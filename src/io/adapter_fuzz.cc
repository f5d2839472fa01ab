// SPDX-License-Identifier: Apache-2.0
// Adapter reader. An input is adapter_config.json, NUL, the header of adapter_model.safetensors, NUL, and its data.
// What is accepted must be of one piece.
#include "gateskip/error.h"
#include "io/adapter.h"
#include "io/testing/split_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::string_view config = gateskip::testing::TakePart(&input);
  const std::string_view header = gateskip::testing::TakePart(&input);
  const std::string file = gateskip::testing::JoinSafetensors(header, input);
  try {
    const gateskip::Adapter adapter = gateskip::ParseAdapter(
        config, "config", std::as_bytes(std::span<const char>(file.data(), file.size())), "tensors");
    // Everything that sizes and indices come from later must be in step by now.
    const gateskip::AdapterConfig& c = adapter.config;
    bool good = c.gated.size() == 2 * static_cast<size_t>(c.num_layers) && c.thresholds.size() == c.budgets.size();
    for (const auto& row : c.thresholds) good = good && row.size() == c.gated.size();
    for (const auto& [name, tensor] : adapter.tensors) {
      int64_t count = 1;
      for (const int64_t dim : tensor.shape) count *= dim;
      good = good && tensor.values.size() == static_cast<size_t>(count);
    }
    if (!good) __builtin_trap();
  } catch (const gateskip::Error&) {
  }
  return 0;
}
