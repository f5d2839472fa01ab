// SPDX-License-Identifier: Apache-2.0
#include "model/peft.h"

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/check.h"
#include "io/atomic_write.h"
#include "io/embedded_adapter.h"
#include "io/safetensors.h"

namespace gateskip {
namespace {

constexpr std::string_view kHubEnd = ".weight";

std::vector<std::byte> Bytes(std::span<const float> values) {
  const auto bytes = std::as_bytes(values);
  return {bytes.begin(), bytes.end()};
}

// "model.layers.0.self_attn.q_proj" of "blk.0.attn_q".
std::string HubModule(const ModelSource& source, const std::string& matrix) {
  const std::string name = source.architecture->hub_tensor_name(matrix + std::string(kHubEnd));
  GS_CHECK(name.ends_with(kHubEnd));
  return name.substr(0, name.size() - kHubEnd.size());
}

// B's rows are those of the weight.
std::vector<float> HubRows(const ModelSource& source, const std::string& matrix, const AdapterTensor& b) {
  const size_t head = PermutedHead(source, matrix);
  if (head == 0) return b.values;
  const auto rank = static_cast<size_t>(b.shape[1]);
  std::vector<float> values(b.values.size());
  for (size_t r = 0; r < static_cast<size_t>(b.shape[0]); ++r) {
    std::memcpy(values.data() + r * rank, b.values.data() + GgufRowOfHubRow(r, head) * rank, rank * sizeof(float));
  }
  return values;
}

nlohmann::json PeftConfig(const AdapterConfig& config, const ModelSource& source, const std::string& base_name) {
  nlohmann::json targets = nlohmann::json::array();
  for (const std::string& target : config.lora_targets) {
    const std::string module = HubModule(source, "blk.0." + target);
    targets.push_back(module.substr(module.rfind('.') + 1));
  }
  return {{"peft_type", "LORA"},
          {"task_type", "CAUSAL_LM"},
          {"base_model_name_or_path", base_name},
          {"r", config.lora_rank},
          {"lora_alpha", config.lora_alpha},
          {"lora_dropout", 0.0},
          {"target_modules", targets},
          {"bias", "none"},
          {"fan_in_fan_out", false},
          {"use_rslora", false},
          {"use_dora", false},
          {"inference_mode", true},
          {"init_lora_weights", true},
          {"modules_to_save", nullptr}};
}

}  // namespace

uint64_t WritePeft(const Adapter& adapter, const ModelSource& source, const std::string& base_name, bool with_gates,
                   const std::string& path) {
  if (adapter.config.lora_rank == 0) {
    Fail(ErrorCode::kInvalidArgument,
         "[{}] deltas: expected an adapter with LoRA deltas, which is all peft can read, found none; export to gguf",
         path);
  }
  std::vector<SafetensorsEntry> deltas;
  std::vector<SafetensorsEntry> gates;
  for (const auto& [name, tensor] : adapter.tensors) {
    if (!IsDelta(name)) {
      gates.push_back({name, DType::kF32, tensor.shape, Bytes(tensor.values)});
      continue;
    }
    const std::string matrix = name.substr(0, name.rfind('.'));
    const std::string module = "base_model.model." + HubModule(source, matrix);
    if (name.ends_with("_a")) {
      deltas.push_back({module + ".lora_A.weight", DType::kF32, tensor.shape, Bytes(tensor.values)});
    } else {
      deltas.push_back({module + ".lora_B.weight", DType::kF32, tensor.shape, Bytes(HubRows(source, matrix, tensor))});
    }
  }
  const std::string config = PeftConfig(adapter.config, source, base_name).dump(2) + "\n";
  const std::vector<std::byte> delta_file = SerializeSafetensors(deltas, {{"format", "pt"}});
  const std::vector<std::byte> gate_file =
      SerializeSafetensors(gates, {{"format", "pt"}, {"adapter_config", AdapterConfigJson(adapter.config)}});
  WriteDirectoryAtomically(path, [&](const std::string& temporary) {
    const std::filesystem::path root = temporary;
    WriteFileAtomically((root / "adapter_config.json").string(), std::as_bytes(std::span<const char>(config)));
    WriteFileAtomically((root / "adapter_model.safetensors").string(), delta_file);
    if (with_gates) WriteFileAtomically((root / "gateskip_gates.safetensors").string(), gate_file);
  });
  return config.size() + delta_file.size() + (with_gates ? gate_file.size() : 0);
}

}  // namespace gateskip
