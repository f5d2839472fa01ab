// SPDX-License-Identifier: Apache-2.0
#include "support/tiny_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "base/check.h"
#include "model/config.h"
#include "tensor/dequantize.h"

namespace gateskip::testing {
namespace {

constexpr int kHidden = 64;
constexpr int kFfn = 128;
constexpr int kByteTokens = 256;
constexpr const char* kChatTemplate =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  // Box-Muller over the raw generator: std::normal_distribution differs between libraries.
  float Normal() {
    const double u = (static_cast<double>(engine_() >> 11) + 1.0) * 0x1.0p-53;
    const double v = static_cast<double>(engine_() >> 11) * 0x1.0p-53;
    return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * 3.14159265358979323846 * v));
  }
  std::vector<float> Normals(size_t count, float sigma) {
    std::vector<float> values(count);
    for (float& value : values) value = sigma * Normal();
    return values;
  }
  uint64_t Bits() { return engine_(); }

 private:
  std::mt19937_64 engine_;
};

template <typename T>
void Put(std::vector<std::byte>* out, T value) {
  out->resize(out->size() + sizeof(T));
  std::memcpy(out->data() + out->size() - sizeof(T), &value, sizeof(T));
}

// Minimal quantisers of the two block formats the tiny models use (round to nearest).
std::vector<std::byte> Encode(DType dtype, const std::vector<float>& values) {
  std::vector<std::byte> out;
  if (dtype == DType::kF32) {
    for (float v : values) Put(&out, v);
    return out;
  }
  if (dtype == DType::kF16) {
    for (float v : values) Put(&out, FloatToHalf(v));
    return out;
  }
  for (size_t b = 0; b < values.size(); b += 32) {
    const float* block = values.data() + b;
    if (dtype == DType::kQ8_0) {
      float amax = 0;
      for (int i = 0; i < 32; ++i) amax = std::max(amax, std::fabs(block[i]));
      const uint16_t d = FloatToHalf(amax / 127.0F);
      const float scale = HalfToFloat(d);
      Put(&out, d);
      for (int i = 0; i < 32; ++i) {
        Put(&out, static_cast<int8_t>(scale == 0 ? 0 : std::clamp(std::lround(block[i] / scale), -127L, 127L)));
      }
    } else {
      GS_CHECK(dtype == DType::kQ4_1);
      const auto [low, high] = std::minmax_element(block, block + 32);
      const uint16_t d = FloatToHalf((*high - *low) / 15.0F);
      const uint16_t m = FloatToHalf(*low);
      const float scale = HalfToFloat(d);
      const auto code = [&](int i) {
        return static_cast<uint8_t>(scale == 0 ? 0
                                               : std::clamp(std::lround((block[i] - HalfToFloat(m)) / scale), 0L, 15L));
      };
      Put(&out, d);
      Put(&out, m);
      for (int i = 0; i < 16; ++i) Put(&out, static_cast<uint8_t>(code(i) | (code(i + 16) << 4)));
    }
  }
  return out;
}

// GPT-2's printable stand-ins for bytes (github.com/openai/gpt-2, encoder.py): code point of a byte's character.
int StandIn(int byte) {
  const auto printable = [](int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  };
  if (printable(byte)) return byte;
  int offset = 0;
  for (int b = 0; b < byte; ++b) offset += !printable(b);
  return 256 + offset;
}

std::string Utf8(int code) {
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

void SetByteLevelVocabulary(GgufWriter* writer) {
  std::vector<std::string> tokens;
  std::vector<int32_t> types(kByteTokens, 1);
  for (int b = 0; b < kByteTokens; ++b) tokens.push_back(Utf8(StandIn(b)));
  const std::vector<std::string> merges = {"t h", "th e", "a n", "i n", Utf8(StandIn(' ')) + " t"};
  for (const char* merged : {"th", "the", "an", "in"}) tokens.push_back(merged);
  tokens.push_back(Utf8(StandIn(' ')) + "t");
  types.insert(types.end(), 5, 1);
  for (const char* special : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) {
    tokens.push_back(special);
    types.push_back(3);
  }
  writer->SetString("tokenizer.ggml.model", "gpt2");
  writer->SetString("tokenizer.ggml.pre", "smollm");
  writer->SetStrings("tokenizer.ggml.tokens", tokens);
  writer->SetInt32s("tokenizer.ggml.token_type", types);
  writer->SetStrings("tokenizer.ggml.merges", merges);
  writer->SetUint32("tokenizer.ggml.bos_token_id", 262);
  writer->SetUint32("tokenizer.ggml.eos_token_id", 263);
  writer->SetBool("tokenizer.ggml.add_bos_token", false);
  writer->SetString("tokenizer.chat_template", kChatTemplate);
}

void SetSentencePieceVocabulary(GgufWriter* writer) {
  std::vector<std::string> tokens = {"<pad>", "<eos>", "<bos>", "<unk>"};
  std::vector<int32_t> types = {3, 3, 3, 2};
  std::vector<float> scores(4, 0.0F);
  for (int b = 0; b < kByteTokens; ++b) {
    tokens.push_back(fmt::format("<0x{:02X}>", b));
    types.push_back(6);
    scores.push_back(0.0F);
  }
  float score = -1.0F;
  for (const char* piece : {"t", "h", "e", "a", "n", "i", "\xE2\x96\x81", "th", "the", "an", "in"}) {
    tokens.push_back(piece);
    types.push_back(1);
    scores.push_back(score--);
  }
  writer->SetString("tokenizer.ggml.model", "llama");
  writer->SetString("tokenizer.ggml.pre", "default");
  writer->SetStrings("tokenizer.ggml.tokens", tokens);
  writer->SetInt32s("tokenizer.ggml.token_type", types);
  writer->SetFloats("tokenizer.ggml.scores", scores);
  writer->SetUint32("tokenizer.ggml.bos_token_id", 2);
  writer->SetUint32("tokenizer.ggml.eos_token_id", 1);
  writer->SetUint32("tokenizer.ggml.unknown_token_id", 3);
  writer->SetBool("tokenizer.ggml.add_bos_token", true);
  writer->SetBool("tokenizer.ggml.add_space_prefix", false);
}

}  // namespace

std::vector<std::byte> TinyGguf(const TinyOptions& options) {
  const bool gemma = options.arch == TinyArch::kGemma3;
  const std::string arch = gemma ? "gemma3" : "llama";
  const int layers = gemma ? 7 : 4;
  const int heads = 4;
  const int kv_heads = gemma ? 1 : 2;
  const int head_dim = gemma ? 32 : 16;
  const int vocab = gemma ? 4 + kByteTokens + 11 : kByteTokens + 8;
  GgufWriter writer;
  writer.SetString("general.architecture", arch);
  writer.SetString("general.name", "tiny-" + arch);
  const auto set = [&](const char* key, int value) {
    writer.SetUint32(arch + "." + key, static_cast<uint32_t>(value));
  };
  set("block_count", layers);
  set("embedding_length", kHidden);
  set("feed_forward_length", kFfn);
  set("attention.head_count", heads);
  set("attention.head_count_kv", kv_heads);
  set("context_length", 512);
  writer.SetFloat32(arch + ".attention.layer_norm_rms_epsilon", 1e-5F);
  if (gemma) {
    set("attention.key_length", head_dim);
    set("attention.value_length", head_dim);
    set("attention.sliding_window", 8);
    SetSentencePieceVocabulary(&writer);
  } else {
    SetByteLevelVocabulary(&writer);
  }

  Random random(options.seed);
  const auto matrix = [&](const std::string& name, int out, int in, DType dtype, float sigma) {
    writer.AddTensor(name, dtype, {out, in}, Encode(dtype, random.Normals(static_cast<size_t>(out) * in, sigma)));
  };
  const auto norm = [&](const std::string& name, int size) {
    std::vector<float> weight = random.Normals(static_cast<size_t>(size), 0.1F);
    for (float& w : weight) w += 1.0F;
    writer.AddTensor(name, DType::kF32, {size}, Encode(DType::kF32, weight));
  };
  const auto fan_in = [](int in) { return 1.0F / std::sqrt(static_cast<float>(in)); };
  matrix("token_embd.weight", vocab, kHidden, options.dtype == DType::kF32 ? DType::kF32 : DType::kQ8_0, 1.0F);
  norm("output_norm.weight", kHidden);
  for (int l = 0; l < layers; ++l) {
    const std::string p = fmt::format("blk.{}.", l);
    norm(p + "attn_norm.weight", kHidden);
    matrix(p + "attn_q.weight", heads * head_dim, kHidden, options.dtype, 2 * fan_in(kHidden));
    matrix(p + "attn_k.weight", kv_heads * head_dim, kHidden, options.dtype, 2 * fan_in(kHidden));
    matrix(p + "attn_v.weight", kv_heads * head_dim, kHidden, options.dtype, fan_in(kHidden));
    matrix(p + "attn_output.weight", kHidden, heads * head_dim, options.dtype, fan_in(heads * head_dim));
    norm(p + "ffn_norm.weight", kHidden);
    matrix(p + "ffn_gate.weight", kFfn, kHidden, options.dtype, fan_in(kHidden));
    matrix(p + "ffn_up.weight", kFfn, kHidden, options.dtype, fan_in(kHidden));
    matrix(p + "ffn_down.weight", kHidden, kFfn, options.dtype, fan_in(kFfn));
    if (gemma) {
      norm(p + "attn_q_norm.weight", head_dim);
      norm(p + "attn_k_norm.weight", head_dim);
      norm(p + "post_attention_norm.weight", kHidden);
      norm(p + "post_ffw_norm.weight", kHidden);
    }
  }
  return writer.Serialize();
}

std::shared_ptr<const GgufFile> OpenTiny(const std::vector<std::byte>& bytes) { return GgufFile::Parse(bytes, "tiny"); }

Adapter TinyAdapter(const GgufFile& base, const TinyAdapterOptions& options) {
  const ModelConfig c = ReadConfig(base);
  Random random(options.seed);
  Adapter adapter;
  AdapterConfig& config = adapter.config;
  config.base_model_name = c.name;
  config.base_fingerprint = base.Fingerprint();
  config.architecture = c.architecture;
  config.num_layers = c.num_layers;
  config.hidden_size = c.hidden_size;
  config.gate_kind = options.kind;
  config.gate_rank = GateHasRank(options.kind) ? 4 : 0;
  config.gate_shared = options.shared;
  config.gate_product = options.product;
  config.gate_scope = options.scope;
  config.kv_rule = options.kv_rule;
  config.gated.assign(static_cast<size_t>(c.num_branches()), true);
  if (!options.all_gated) config.gated[1] = false;
  if (!options.all_gated && options.scope == GateScope::kLayer) config.gated[0] = false;
  config.skip_rank = options.skip_rank;
  config.lora_rank = options.lora_rank;
  config.lora_alpha = 8.0F;
  if (options.lora_rank > 0) config.lora_targets = {"attn_q", "attn_k", "attn_output", "ffn_up", "ffn_down"};

  const int64_t d = c.hidden_size;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape, float sigma) {
    size_t count = 1;
    for (int64_t dim : shape) count *= static_cast<size_t>(dim);
    std::vector<float> values = random.Normals(count, sigma);
    for (float& v : values) v = HalfToFloat(FloatToHalf(v));  // survives storage in half precision
    adapter.tensors[name] = {std::move(shape), std::move(values)};
  };
  const float gate_sigma = 2.0F / std::sqrt(static_cast<float>(d));
  // Shared matrices are drawn once.
  const auto add_gate = [&](const std::string& matrix, const std::string& p) {
    const bool drawn = adapter.tensors.contains(matrix + "gate.weight") || adapter.tensors.contains(matrix + "gate.up");
    switch (options.kind) {
      case GateKind::kScalar:
        if (!drawn) add(matrix + "gate.weight", {d}, gate_sigma);
        add(p + "gate.bias", {1}, 0.3F);
        break;
      case GateKind::kLowRank:
      case GateKind::kMlp:
        if (!drawn) add(matrix + "gate.down", {4, d}, gate_sigma);
        if (!drawn) add(matrix + "gate.up", {d, 4}, 1.0F);
        add(p + "gate.bias", {d}, 0.3F);
        break;
      case GateKind::kVector:
        if (!drawn) add(matrix + "gate.weight", {d, d}, gate_sigma);
        add(p + "gate.bias", {d}, 0.3F);
        add(p + "decision.weight", {d}, gate_sigma);
        add(p + "decision.bias", {1}, 0.3F);
        break;
    }
  };
  for (int b = 0; b < c.num_branches(); ++b) {
    if (!config.gated[static_cast<size_t>(b)]) continue;
    const std::string p = BranchPrefix(b);
    if (config.HasGate(b)) add_gate(GateMatrixPrefix(config, b), p);
    if (options.skip_rank >= 0) add(p + "skip.bias", {d}, 0.2F);
    if (options.skip_rank > 0) {
      add(p + "skip.down", {options.skip_rank, d}, 0.2F);
      add(p + "skip.up", {d, options.skip_rank}, 0.2F);
    }
  }
  const auto lora = [&](int layer, const char* target, int64_t out, int64_t in) {
    add(fmt::format("blk.{}.{}.lora_a", layer, target), {options.lora_rank, in}, 0.1F);
    add(fmt::format("blk.{}.{}.lora_b", layer, target), {out, options.lora_rank}, 0.1F);
  };
  for (int l = 0; options.lora_rank > 0 && l < c.num_layers; ++l) {
    lora(l, "attn_q", c.query_size(), d);
    lora(l, "attn_k", c.kv_size(), d);
    lora(l, "attn_output", d, c.query_size());
    lora(l, "ffn_up", c.ffn_size, d);
    lora(l, "ffn_down", d, c.ffn_size);
  }
  config.budgets = {0.0, 0.2, 0.4};
  config.realised_net_saving = {0.0, 0.2, 0.4};
  const auto branches = static_cast<size_t>(c.num_branches());
  // The importance of these gates is a mean over d values and stays near one half.
  const bool narrow = GateHasRank(options.kind);
  config.thresholds = {std::vector<float>(branches, -1.0F), std::vector<float>(branches, narrow ? 0.48F : 0.35F),
                       std::vector<float>(branches, 0.5F)};
  for (size_t b = 0; b < branches; ++b) {
    if (config.gated[b]) continue;
    for (std::vector<float>& row : config.thresholds) row[b] = -1.0F;
  }
  return adapter;
}

std::vector<int32_t> TinyTokens(size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<int32_t> ids(count);
  for (int32_t& id : ids) id = static_cast<int32_t>(4 + random.Bits() % 250);
  return ids;
}

}  // namespace gateskip::testing
