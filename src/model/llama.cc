// SPDX-License-Identifier: Apache-2.0
// The Llama family (arXiv 2302.13971, 2407.21783; SmolLM2 is one): pre-norm, grouped-query attention, SwiGLU.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"
#include "io/hub_directory.h"
#include "io/json.h"
#include "model/architecture.h"
#include "tensor/dequantize.h"

namespace gateskip {
namespace {

void SetLayers(ModelConfig* config, const std::vector<float>& inv_freq) {
  config->layers.assign(static_cast<size_t>(config->num_layers), LayerAttention{.window = 0, .inv_freq = inv_freq});
}

ModelConfig FromGguf(const GgufFile& file) {
  ModelConfig config = ReadCommonGguf(file);
  config.rope_layout = kernels::RopeLayout::kInterleaved;  // the converter permutes Q and K for it
  const auto dims =
      static_cast<int>(file.GetUint("llama.rope.dimension_count", static_cast<uint64_t>(config.head_dim)));
  const std::string_view scaling = file.GetString("llama.rope.scaling.type", "none");
  double factor = 1.0;
  if (scaling == "linear") {
    factor = file.GetFloat("llama.rope.scaling.factor");
  } else if (scaling != "none") {
    Fail(ErrorCode::kUnsupported,
         "[{}] llama.rope.scaling.type: expected none or linear, found {}; this model needs "
         "a RoPE variant that gateskip does not have",
         file.origin(), scaling);
  }
  if (dims <= 0 || dims > config.head_dim || dims % 2 != 0) {
    Fail(ErrorCode::kCorruptData,
         "[{}] llama.rope.dimension_count: expected an even number up to the head size {}, "
         "found {}; the file is damaged",
         file.origin(), config.head_dim, dims);
  }
  std::vector<float> inv_freq = RopeFrequencies(file.GetFloat("llama.rope.freq_base", 10000.0), dims, factor);
  if (const TensorView* factors = file.FindTensor("rope_freqs.weight")) {  // Llama 3.1 long-context factors
    if (factors->dtype != DType::kF32 || factors->num_elements() != dims / 2) {
      Fail(ErrorCode::kCorruptData, "[{}] rope_freqs.weight: expected F32 [{}], found {} [{}]; the file is damaged",
           file.origin(), dims / 2, GetDTypeInfo(factors->dtype).name, factors->num_elements());
    }
    std::vector<float> divisors(inv_freq.size());
    Dequantize(factors->dtype, factors->data, divisors);
    for (size_t i = 0; i < inv_freq.size(); ++i) inv_freq[i] /= divisors[i];
  }
  SetLayers(&config, inv_freq);
  return config;
}

// Llama 3's frequency-dependent scaling: long wavelengths are divided by `factor`, short ones kept, a linear
// blend between (arXiv 2407.21783; the constants are the checkpoint's own).
void ScaleLlama3(const nlohmann::json& scaling, const std::string& origin, std::vector<float>* inv_freq) {
  const double factor = GetNumber(scaling, "factor", origin);
  const double low = GetNumber(scaling, "low_freq_factor", origin);
  const double high = GetNumber(scaling, "high_freq_factor", origin);
  const double original = GetNumber(scaling, "original_max_position_embeddings", origin);
  for (float& f : *inv_freq) {
    const double wavelength = 2.0 * std::numbers::pi / f;
    const double blend = std::clamp((original / wavelength - low) / (high - low), 0.0, 1.0);
    f = static_cast<float>((1.0 - blend) * f / factor + blend * f);
  }
}

ModelConfig FromHub(const HubDirectory& directory) {
  ModelConfig config = ReadCommonHub(directory);
  const nlohmann::json& json = directory.config();
  config.rope_layout = kernels::RopeLayout::kHalves;
  std::vector<float> inv_freq =
      RopeFrequencies(GetNumber(json, "rope_theta", directory.origin(), 10000.0), config.head_dim, 1.0);
  if (const auto scaling = json.find("rope_scaling"); scaling != json.end() && scaling->is_object()) {
    const std::string type =
        GetString(*scaling, scaling->contains("rope_type") ? "rope_type" : "type", directory.origin());
    if (type == "llama3") {
      ScaleLlama3(*scaling, directory.origin(), &inv_freq);
    } else if (type == "linear") {
      const double factor = GetNumber(*scaling, "factor", directory.origin());
      for (float& f : inv_freq) f = static_cast<float>(f / factor);
    } else if (type != "default") {
      Fail(ErrorCode::kUnsupported,
           "[{}] rope_scaling.rope_type: expected default, linear or llama3, found {}; this "
           "model needs a RoPE variant that gateskip does not have",
           directory.origin(), type);
    }
  }
  SetLayers(&config, inv_freq);
  return config;
}

// rope_freqs.weight holds what ScaleLlama3 divides by. The checkpoints of Llama 3.1 to 3.3 differ in `factor` only.
nlohmann::json Llama3Scaling(const TensorView& factors, double base, int dims, const std::string& origin) {
  std::vector<float> divisors(static_cast<size_t>(factors.num_elements()));
  Dequantize(factors.dtype, factors.data, divisors);
  const nlohmann::json scaling = {{"rope_type", "llama3"},
                                  {"factor", *std::ranges::max_element(divisors)},
                                  {"low_freq_factor", 1.0},
                                  {"high_freq_factor", 4.0},
                                  {"original_max_position_embeddings", 8192}};
  const std::vector<float> plain = RopeFrequencies(base, dims, 1.0);
  std::vector<float> scaled = plain;
  ScaleLlama3(scaling, origin, &scaled);
  for (size_t i = 0; i < plain.size(); ++i) {
    if (std::fabs(plain[i] / scaled[i] - divisors[i]) > 1e-3F * divisors[i]) {
      Fail(ErrorCode::kUnsupported,
           "[{}] rope_freqs.weight: expected the factors of Llama 3, which config.json can name, found others; export "
           "to "
           "gguf",
           origin);
    }
  }
  return scaling;
}

nlohmann::json HubConfig(const GgufFile& file, const ModelConfig& config) {
  const auto dims =
      static_cast<int>(file.GetUint("llama.rope.dimension_count", static_cast<uint64_t>(config.head_dim)));
  if (dims != config.head_dim) {
    Fail(
        ErrorCode::kUnsupported,
        "[{}] llama.rope.dimension_count: expected the head size {}, found {}; config.json of a Llama cannot say that, "
        "export to gguf",
        file.origin(), config.head_dim, dims);
  }
  const double base = file.GetFloat("llama.rope.freq_base", 10000.0);
  nlohmann::json json = CommonHubConfig(config);
  json["architectures"] = {"LlamaForCausalLM"};
  json["model_type"] = "llama";
  json["hidden_act"] = "silu";
  json["mlp_bias"] = false;
  json["pretraining_tp"] = 1;
  json["rope_theta"] = base;
  json["rope_scaling"] = nullptr;
  if (const TensorView* factors = file.FindTensor("rope_freqs.weight")) {
    json["rope_scaling"] = Llama3Scaling(*factors, base, dims, file.origin());
  } else if (file.GetString("llama.rope.scaling.type", "none") == "linear") {
    json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", file.GetFloat("llama.rope.scaling.factor")}};
  }
  return json;
}

std::string HubTensorName(std::string_view canonical) {
  if (canonical == "token_embd.weight") return "model.embed_tokens.weight";
  if (canonical == "output_norm.weight") return "model.norm.weight";
  if (canonical == "output.weight") return "lm_head.weight";
  static constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {"attn_norm.weight", "input_layernorm.weight"},    {"attn_q.weight", "self_attn.q_proj.weight"},
      {"attn_k.weight", "self_attn.k_proj.weight"},      {"attn_v.weight", "self_attn.v_proj.weight"},
      {"attn_output.weight", "self_attn.o_proj.weight"}, {"ffn_norm.weight", "post_attention_layernorm.weight"},
      {"ffn_gate.weight", "mlp.gate_proj.weight"},       {"ffn_up.weight", "mlp.up_proj.weight"},
      {"ffn_down.weight", "mlp.down_proj.weight"},
  };
  const auto block = ParseBlockTensor(canonical);
  if (!block) return {};
  for (const auto& [name, hub] : kNames) {
    if (block->rest == name) return fmt::format("model.layers.{}.{}", block->layer, hub);
  }
  return {};
}

}  // namespace

const Architecture kLlama = {"llama", "llama", FromGguf, FromHub, HubTensorName, HubConfig, 0.0F};

}  // namespace gateskip
