// SPDX-License-Identifier: Apache-2.0
// Gemma 3, text part (arXiv 2503.19786): scaled embeddings, norms before and after each branch, QK norm, GeGLU,
// five sliding-window layers to each global one, with a RoPE base of their own.
#include <cmath>

#include "base/check.h"
#include "io/hub_directory.h"
#include "io/json.h"
#include "model/architecture.h"

namespace gateskip {
namespace {

constexpr int kGlobalEvery = 6;
constexpr double kLocalRopeBase = 10000.0;
constexpr float kHubNormShift = 1.0F;

void SetGemma(ModelConfig* config, int64_t window, int global_every, double global_base, double global_factor,
              double local_base) {
  config->rope_layout = kernels::RopeLayout::kHalves;
  config->activation = kernels::Activation::kGeluTanh;
  config->qk_norm = true;
  config->post_norms = true;
  config->embedding_scale = std::sqrt(static_cast<float>(config->hidden_size));
  const LayerAttention local = {.window = window, .inv_freq = RopeFrequencies(local_base, config->head_dim, 1.0)};
  const LayerAttention global = {.window = 0,
                                 .inv_freq = RopeFrequencies(global_base, config->head_dim, global_factor)};
  for (int l = 0; l < config->num_layers; ++l) {
    config->layers.push_back((l + 1) % global_every == 0 ? global : local);
  }
}

ModelConfig FromGguf(const GgufFile& file) {
  ModelConfig config = ReadCommonGguf(file);
  const auto window = static_cast<int64_t>(file.GetUint("gemma3.attention.sliding_window"));
  if (window < 1 || window > (1 << 24)) {
    Fail(ErrorCode::kCorruptData,
         "[{}] gemma3.attention.sliding_window: expected 1 to 2^24, found {}; the file is "
         "damaged",
         file.origin(), window);
  }
  SetGemma(&config, window, kGlobalEvery, file.GetFloat("gemma3.rope.freq_base", 1e6),
           file.GetFloat("gemma3.rope.scaling.factor", 1.0), kLocalRopeBase);
  return config;
}

ModelConfig FromHub(const HubDirectory& directory) {
  ModelConfig config = ReadCommonHub(directory);
  const nlohmann::json& json = directory.config();
  const std::string& origin = directory.origin();
  config.norm_weight_shift = kHubNormShift;
  config.attention_scale = static_cast<float>(
      1.0 / std::sqrt(GetNumber(json, "query_pre_attn_scalar", origin, static_cast<double>(config.head_dim))));
  double factor = 1.0;
  if (const auto scaling = json.find("rope_scaling"); scaling != json.end() && scaling->is_object()) {
    factor = GetNumber(*scaling, "factor", origin);
  }
  const auto window = GetInt(json, "sliding_window", origin);
  const auto every = GetInt(json, "sliding_window_pattern", origin, kGlobalEvery);
  if (window < 1 || every < 1 || every > kMaxLayers) {
    Fail(ErrorCode::kCorruptData,
         "[{}] sliding_window, sliding_window_pattern: expected positive numbers, found {} and "
         "{}; the file is damaged",
         origin, window, every);
  }
  SetGemma(&config, window, static_cast<int>(every), GetNumber(json, "rope_theta", origin, 1e6), factor,
           GetNumber(json, "rope_local_base_freq", origin, kLocalRopeBase));
  return config;
}

nlohmann::json HubConfig(const GgufFile& file, const ModelConfig& config) {
  nlohmann::json json = CommonHubConfig(config);
  json["architectures"] = {"Gemma3ForCausalLM"};
  json["model_type"] = "gemma3_text";
  json["hidden_activation"] = "gelu_pytorch_tanh";
  json["query_pre_attn_scalar"] = config.head_dim;
  json["rope_theta"] = file.GetFloat("gemma3.rope.freq_base", 1e6);
  json["rope_local_base_freq"] = kLocalRopeBase;
  json["rope_scaling"] = nullptr;
  if (const double factor = file.GetFloat("gemma3.rope.scaling.factor", 1.0); factor != 1.0) {
    json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", factor}};
  }
  json["sliding_window_pattern"] = kGlobalEvery;
  json["layer_types"] = nlohmann::json::array();
  for (const LayerAttention& layer : config.layers) {
    if (layer.window > 0) json["sliding_window"] = layer.window;
    json["layer_types"].push_back(layer.window > 0 ? "sliding_attention" : "full_attention");
  }
  json["final_logit_softcapping"] = nullptr;
  json["attn_logit_softcapping"] = nullptr;
  return json;
}

std::string HubTensorName(std::string_view canonical) {
  static constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {"attn_q_norm.weight", "self_attn.q_norm.weight"},
      {"attn_k_norm.weight", "self_attn.k_norm.weight"},
      {"post_attention_norm.weight", "post_attention_layernorm.weight"},
      {"ffn_norm.weight", "pre_feedforward_layernorm.weight"},
      {"post_ffw_norm.weight", "post_feedforward_layernorm.weight"},
  };
  if (const auto block = ParseBlockTensor(canonical)) {
    for (const auto& [name, hub] : kNames) {
      if (block->rest == name) return fmt::format("model.layers.{}.{}", block->layer, hub);
    }
  }
  return kLlama.hub_tensor_name(canonical);
}

}  // namespace

const Architecture kGemma3 = {"gemma3", "gemma3_text", FromGguf, FromHub, HubTensorName, HubConfig, kHubNormShift};

}  // namespace gateskip
