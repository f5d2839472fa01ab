// SPDX-License-Identifier: Apache-2.0
#include "io/embedded_adapter.h"

#include "base/check.h"
#include "tensor/dequantize.h"
#include "tensor/quantize.h"

namespace gateskip {
namespace {

constexpr std::string_view kPrefix = "gateskip.";
constexpr std::string_view kConfigKey = "gateskip.adapter_config";
constexpr std::string_view kDeltasKey = "gateskip.merged_deltas";
constexpr std::string_view kRequantizedKey = "gateskip.requantized";
constexpr size_t kMaxConfigBytes = size_t{16} << 20;

// Biases are few, and gates move with them.
DType StoredType(const std::string& name, const AdapterTensor& tensor, DType type) {
  const bool whole = static_cast<uint64_t>(tensor.shape.back()) % GetDTypeInfo(type).block_elements == 0;
  return whole && !name.ends_with(".bias") ? type : DType::kF32;
}

std::vector<std::byte> Store(const std::string& name, const AdapterTensor& tensor, DType type) {
  const auto raw = std::as_bytes(std::span<const float>(tensor.values));
  if (type == DType::kF32) return {raw.begin(), raw.end()};  // the reader refuses what is not finite
  std::vector<std::byte> bytes(*StorageBytes(type, tensor.values.size()));
  if (!Quantize(type, tensor.values, bytes)) {
    Fail(ErrorCode::kInvalidArgument,
         "[gates] tensor {}: expected finite numbers that {} can hold, found others; choose a wider type", name,
         GetDTypeInfo(type).name);
  }
  return bytes;
}

}  // namespace

bool HasEmbeddedAdapter(const GgufFile& file) { return file.Has(kConfigKey); }

bool IsEmbeddedName(std::string_view name) { return name.starts_with(kPrefix); }

bool IsDelta(std::string_view name) { return name.ends_with(".lora_a") || name.ends_with(".lora_b"); }

EmbeddedAdapter ReadEmbeddedAdapter(const GgufFile& file) {
  const std::string_view config = file.GetString(kConfigKey);
  const std::string origin = file.origin() + ": " + std::string(kConfigKey);
  if (config.size() > kMaxConfigBytes) {
    Fail(ErrorCode::kLimitExceeded, "[{}] value: expected at most {} bytes, found {}; the file is damaged", origin,
         kMaxConfigBytes, config.size());
  }
  std::vector<std::string> names;
  for (const TensorView& tensor : file.tensors()) {
    if (IsEmbeddedName(tensor.name)) names.push_back(tensor.name.substr(kPrefix.size()));
  }
  EmbeddedAdapter embedded;
  embedded.adapter = AdapterFromTensors(
      config, origin, [&](const std::string& name) { return file.FindTensor(std::string(kPrefix) + name); }, names,
      file.origin());
  embedded.requantized = file.GetBool(kRequantizedKey, false);
  embedded.merged_deltas = file.GetString(kDeltasKey, "");
  return embedded;
}

void RoundGates(DType type, Adapter* adapter) {
  for (auto& [name, tensor] : adapter->tensors) {
    if (IsDelta(name)) continue;
    const DType stored = StoredType(name, tensor, type);
    Dequantize(stored, Store(name, tensor, stored), tensor.values);
  }
}

void DropDeltas(Adapter* adapter) {
  std::erase_if(adapter->tensors, [](const auto& entry) { return IsDelta(entry.first); });
  adapter->config.lora_rank = 0;
  adapter->config.lora_alpha = 0;
  adapter->config.lora_targets.clear();
}

void EmbedAdapter(const EmbeddedAdapter& embedded, DType type, GgufWriter* writer) {
  const AdapterConfig& whole = embedded.adapter.config;
  std::string merged = embedded.merged_deltas;
  if (whole.lora_rank > 0) {
    merged += fmt::format("{}rank {}, alpha {:g}, {}", merged.empty() ? "" : "; ", whole.lora_rank, whole.lora_alpha,
                          fmt::join(whole.lora_targets, " "));
  }
  Adapter rest = embedded.adapter;
  DropDeltas(&rest);
  writer->SetString(kConfigKey, AdapterConfigJson(rest.config));
  writer->SetBool(kRequantizedKey, embedded.requantized);
  if (!merged.empty()) writer->SetString(kDeltasKey, merged);
  for (const auto& [name, tensor] : rest.tensors) {
    const DType stored = StoredType(name, tensor, type);
    const std::vector<std::byte> bytes = Store(name, tensor, stored);
    writer->AddTensor(std::string(kPrefix) + name, stored, tensor.shape, bytes);
  }
}

}  // namespace gateskip
