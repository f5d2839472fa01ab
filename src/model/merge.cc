// SPDX-License-Identifier: Apache-2.0
#include "model/merge.h"

#include <vector>

#include "base/check.h"

namespace gateskip {
namespace {

RowUpdate AddDelta(const AdapterTensor& a, const AdapterTensor& b, double scale) {
  const auto rank = static_cast<size_t>(a.shape[0]);
  const auto cols = static_cast<size_t>(a.shape[1]);
  return [&a, &b, scale, rank, cols](size_t r, std::span<float> row) {
    std::vector<double> sum(row.begin(), row.end());
    for (size_t k = 0; k < rank; ++k) {
      const double weight = scale * static_cast<double>(b.values[r * rank + k]);
      for (size_t c = 0; c < cols; ++c) sum[c] += weight * static_cast<double>(a.values[k * cols + c]);
    }
    for (size_t c = 0; c < cols; ++c) row[c] = static_cast<float>(sum[c]);
  };
}

}  // namespace

WeightUpdates MergeDeltas(const Adapter& adapter, const ModelSource& source, const std::string& origin) {
  constexpr std::string_view kEnd = ".lora_a";
  for (const auto& [name, a] : adapter.tensors) {
    if (!name.ends_with(kEnd)) continue;
    const std::string matrix = name.substr(0, name.size() - kEnd.size());
    const AdapterTensor& b = adapter.tensors.at(matrix + ".lora_b");
    const TensorView* weight = source.weights->Find(matrix + ".weight");
    const std::vector<int64_t> shape = {b.shape[0], a.shape[1]};
    if (weight == nullptr || weight->shape != shape) {
      Fail(ErrorCode::kMismatch,
           "[{}] {}.lora: expected a delta of [{}], found [{}, {}]; use the adapter's own base model", origin, matrix,
           weight == nullptr ? "nothing" : fmt::format("{}", fmt::join(weight->shape, ", ")), shape[0], shape[1]);
    }
  }
  return [&adapter](const std::string& canonical) -> RowUpdate {
    constexpr std::string_view kWeight = ".weight";
    if (!canonical.ends_with(kWeight)) return nullptr;
    const std::string matrix = canonical.substr(0, canonical.size() - kWeight.size());
    const auto a = adapter.tensors.find(matrix + ".lora_a");
    if (a == adapter.tensors.end()) return nullptr;
    return AddDelta(a->second, adapter.tensors.at(matrix + ".lora_b"),
                    static_cast<double>(adapter.config.lora_alpha) / adapter.config.lora_rank);
  };
}

}  // namespace gateskip
