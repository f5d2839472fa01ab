// SPDX-License-Identifier: Apache-2.0
// The table of architectures, and what their files share.
#include "model/architecture.h"

#include <charconv>
#include <cmath>

#include "base/check.h"
#include "io/hub_directory.h"
#include "io/json.h"

namespace gateskip {
namespace {

const Architecture* const kArchitectures[] = {&kLlama, &kGemma3};

// Ranges that every later product of sizes relies on.
struct Range {
  const char* name;
  int64_t value, low, high;
};

void CheckRanges(const std::string& origin, std::initializer_list<Range> ranges) {
  for (const Range& r : ranges) {
    if (r.value < r.low || r.value > r.high) {
      Fail(ErrorCode::kCorruptData, "[{}] {}: expected {} to {}, found {}; the file is damaged or not supported",
           origin, r.name, r.low, r.high, r.value);
    }
  }
}

int ToInt(uint64_t value) { return value > static_cast<uint64_t>(INT32_MAX) ? INT32_MAX : static_cast<int>(value); }

void Validate(const std::string& origin, const ModelConfig& c) {
  CheckRanges(origin, {{"number of layers", c.num_layers, 1, kMaxLayers},
                       {"hidden size", c.hidden_size, 1, kMaxHiddenSize},
                       {"number of heads", c.num_heads, 1, 1024},
                       {"number of KV heads", c.num_kv_heads, 1, 1024},
                       {"head size", c.head_dim, 2, 1024},
                       {"feed-forward size", c.ffn_size, 1, 1 << 20},
                       {"vocabulary size", c.vocab_size, 1, kMaxVocabSize},
                       {"context length", c.context_length, 1, 1 << 24}});
  if (c.num_heads % c.num_kv_heads != 0 || c.head_dim % 2 != 0) {
    Fail(ErrorCode::kCorruptData,
         "[{}] attention: expected an even head size and heads a multiple of KV heads, found "
         "head size {}, {} heads, {} KV heads; the file is damaged",
         origin, c.head_dim, c.num_heads, c.num_kv_heads);
  }
  if (!(c.norm_eps > 0.0F && c.norm_eps < 1.0F)) {
    Fail(ErrorCode::kCorruptData, "[{}] norm epsilon: expected a number in (0, 1), found {}; the file is damaged",
         origin, c.norm_eps);
  }
}

}  // namespace

const Architecture* FindByGgufName(std::string_view name) {
  for (const Architecture* a : kArchitectures) {
    if (a->gguf_name == name) return a;
  }
  return nullptr;
}

const Architecture* FindByHubType(std::string_view type) {
  for (const Architecture* a : kArchitectures) {
    if (a->hub_type == type) return a;
  }
  return nullptr;
}

std::string KnownArchitectures() {
  std::string names;
  for (const Architecture* a : kArchitectures) {
    if (!names.empty()) names += ", ";
    names += a->gguf_name;
  }
  return names;
}

std::vector<float> RopeFrequencies(double base, int dims, double factor) {
  if (!(base > 0.0 && base < 1e12 && factor > 0.0 && factor < 1e6)) {
    Fail(ErrorCode::kCorruptData,
         "[model] RoPE: expected a base in (0, 1e12) and a factor in (0, 1e6), found {} and {}; "
         "the file is damaged",
         base, factor);
  }
  std::vector<float> inv_freq(static_cast<size_t>(dims / 2));
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    inv_freq[i] = static_cast<float>(std::pow(base, -2.0 * static_cast<double>(i) / dims) / factor);
  }
  return inv_freq;
}

std::optional<BlockTensor> ParseBlockTensor(std::string_view canonical) {
  constexpr std::string_view kPrefix = "blk.";
  if (!canonical.starts_with(kPrefix)) return std::nullopt;
  canonical.remove_prefix(kPrefix.size());
  int layer = 0;
  const auto [end, error] = std::from_chars(canonical.data(), canonical.data() + canonical.size(), layer);
  if (error != std::errc() || end == canonical.data() + canonical.size() || *end != '.') return std::nullopt;
  canonical.remove_prefix(static_cast<size_t>(end - canonical.data()) + 1);
  return BlockTensor{layer, canonical};
}

ModelConfig ReadCommonGguf(const GgufFile& file) {
  ModelConfig c;
  c.architecture = file.GetString("general.architecture");
  c.name = file.GetString("general.name", "unnamed");
  const std::string p = c.architecture + ".";
  c.num_layers = ToInt(file.GetUint(p + "block_count"));
  c.hidden_size = ToInt(file.GetUint(p + "embedding_length"));
  c.ffn_size = ToInt(file.GetUint(p + "feed_forward_length"));
  c.num_heads = ToInt(file.GetUint(p + "attention.head_count"));
  c.num_kv_heads = ToInt(file.GetUint(p + "attention.head_count_kv", static_cast<uint64_t>(c.num_heads)));
  c.context_length = ToInt(file.GetUint(p + "context_length"));
  c.norm_eps = static_cast<float>(file.GetFloat(p + "attention.layer_norm_rms_epsilon"));
  const uint64_t default_head = c.num_heads > 0 ? static_cast<uint64_t>(c.hidden_size / c.num_heads) : 0;
  c.head_dim = ToInt(file.GetUint(p + "attention.key_length", default_head));
  if (const uint64_t v = file.GetUint(p + "attention.value_length", static_cast<uint64_t>(c.head_dim));
      v != static_cast<uint64_t>(c.head_dim)) {
    Fail(ErrorCode::kUnsupported,
         "[{}] {}attention.value_length: expected the key length {}, found {}; gateskip has no "
         "separate value size",
         file.origin(), p, c.head_dim, v);
  }
  const TensorView* embedding = file.FindTensor("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) {
    Fail(ErrorCode::kCorruptData, "[{}] token_embd.weight: expected a matrix, found {}; the file is damaged",
         file.origin(), embedding == nullptr ? "nothing" : "another rank");
  }
  c.vocab_size = ToInt(static_cast<uint64_t>(embedding->shape[0]));
  Validate(file.origin(), c);
  c.attention_scale = 1.0F / std::sqrt(static_cast<float>(c.head_dim));
  return c;
}

ModelConfig ReadCommonHub(const HubDirectory& directory) {
  const nlohmann::json& json = directory.config();
  const std::string& origin = directory.origin();
  const auto clamp = [](int64_t v) { return v < 0 || v > INT32_MAX ? -1 : static_cast<int>(v); };
  ModelConfig c;
  c.architecture = FindByHubType(GetString(json, "model_type", origin))->gguf_name;
  c.name = GetString(json, "_name_or_path", origin, "unnamed");
  c.num_layers = clamp(GetInt(json, "num_hidden_layers", origin));
  c.hidden_size = clamp(GetInt(json, "hidden_size", origin));
  c.ffn_size = clamp(GetInt(json, "intermediate_size", origin));
  c.num_heads = clamp(GetInt(json, "num_attention_heads", origin));
  c.num_kv_heads = clamp(GetInt(json, "num_key_value_heads", origin, c.num_heads));
  c.context_length = clamp(GetInt(json, "max_position_embeddings", origin));
  c.vocab_size = clamp(GetInt(json, "vocab_size", origin));
  c.norm_eps = static_cast<float>(GetNumber(json, "rms_norm_eps", origin, 1e-6));
  c.head_dim = clamp(GetInt(json, "head_dim", origin, c.num_heads > 0 ? c.hidden_size / c.num_heads : 0));
  Validate(origin, c);
  c.attention_scale = 1.0F / std::sqrt(static_cast<float>(c.head_dim));
  return c;
}

nlohmann::json CommonHubConfig(const ModelConfig& c) {
  return {{"_name_or_path", c.name},
          {"hidden_size", c.hidden_size},
          {"intermediate_size", c.ffn_size},
          {"num_hidden_layers", c.num_layers},
          {"num_attention_heads", c.num_heads},
          {"num_key_value_heads", c.num_kv_heads},
          {"head_dim", c.head_dim},
          {"max_position_embeddings", c.context_length},
          {"vocab_size", c.vocab_size},
          // In as few digits as make this float: 1e-05.
          {"rms_norm_eps", nlohmann::json::parse(fmt::format("{}", c.norm_eps))},
          {"attention_bias", false},
          {"attention_dropout", 0.0},
          {"use_cache", true}};
}

int KvCopySource(const ModelConfig& config, int layer) {
  const LayerAttention& own = config.layers[static_cast<size_t>(layer)];
  for (int below = layer - 1; below >= 0; --below) {
    const LayerAttention& other = config.layers[static_cast<size_t>(below)];
    if (other.window == own.window && other.inv_freq == own.inv_freq) return below;
  }
  return -1;
}

LayerDims DimsOf(const ModelConfig& config) {
  return {.num_layers = config.num_layers,
          .hidden_size = config.hidden_size,
          .query_size = config.query_size(),
          .kv_size = config.kv_size(),
          .ffn_size = config.ffn_size};
}

ModelConfig ReadConfig(const GgufFile& file) {
  const std::string_view name = file.GetString("general.architecture");
  const Architecture* architecture = FindByGgufName(name);
  if (architecture == nullptr) {
    Fail(ErrorCode::kUnsupported,
         "[{}] general.architecture: expected one of {}, found {}; gateskip cannot run this "
         "model yet",
         file.origin(), KnownArchitectures(), name);
  }
  return architecture->from_gguf(file);
}

ModelConfig ReadConfig(const HubDirectory& directory) {
  const std::string type = GetString(directory.config(), "model_type", directory.origin());
  const Architecture* architecture = FindByHubType(type);
  if (architecture == nullptr) {
    Fail(ErrorCode::kUnsupported,
         "[{}] model_type: expected llama or gemma3_text, found {}; gateskip cannot run this "
         "model yet",
         directory.origin(), type);
  }
  return architecture->from_hub(directory);
}

}  // namespace gateskip
