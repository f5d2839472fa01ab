// SPDX-License-Identifier: Apache-2.0
// adapter_config.json <-> AdapterConfig, and the tensors beside it.
#include "io/adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>

#include "base/check.h"
#include "io/atomic_write.h"
#include "io/hub_directory.h"
#include "io/json.h"
#include "io/mapped_file.h"
#include "io/safetensors.h"
#include "tensor/dequantize.h"

namespace gateskip {
namespace {

using nlohmann::json;

constexpr size_t kMaxConfigBytes = size_t{16} << 20;
constexpr size_t kMaxBudgets = 256;
constexpr const char* kConfigFile = "adapter_config.json";
constexpr const char* kTensorFile = "adapter_model.safetensors";
constexpr const char* kLoraTargets[] = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};

// Reads fields with their origin, and remembers which keys it has seen.
class Fields {
 public:
  Fields(const json& object, std::string origin) : object_(object), origin_(std::move(origin)) {
    if (!object.is_object()) {
      Fail(ErrorCode::kCorruptData, "[{}] JSON: expected an object, found {}; the file is damaged", origin_,
           object.type_name());
    }
  }

  int Int(const char* key, int low, int high) {
    seen_.insert(key);
    const int64_t value = GetInt(object_, key, origin_);
    if (value < low || value > high) FailRange(key, fmt::format("{} to {}", low, high), std::to_string(value));
    return static_cast<int>(value);
  }
  int64_t Count(const char* key) {
    seen_.insert(key);
    const int64_t value = GetInt(object_, key, origin_);
    if (value < 0) FailRange(key, "a count", std::to_string(value));
    return value;
  }
  bool Bool(const char* key) {
    seen_.insert(key);
    return gateskip::GetBool(object_, key, origin_);
  }
  std::string String(const char* key) {
    seen_.insert(key);
    return GetString(object_, key, origin_);
  }
  template <typename Table>
  auto Enum(const char* key, const Table& table) {
    const std::string text = String(key);
    std::string names;
    for (const auto& [value, name] : table) {
      if (text == name) return value;
      names += (names.empty() ? "" : ", ") + std::string(name);
    }
    Fail(ErrorCode::kUnsupported, "[{}] key {}: expected one of {}, found {}; this gateskip cannot run the adapter",
         origin_, key, names, text);
  }
  const json& Array(const char* key, size_t max_size) {
    seen_.insert(key);
    const auto found = object_.find(key);
    if (found == object_.end() || !found->is_array() || found->size() > max_size) {
      FailRange(key, fmt::format("an array of at most {}", max_size),
                found == object_.end() ? "nothing" : found->type_name());
    }
    return *found;
  }
  const json& Member(const char* key) {
    seen_.insert(key);
    const auto found = object_.find(key);
    if (found == object_.end()) FailRange(key, "a value", "nothing");
    return *found;
  }
  void RefuseOthers() const {
    for (const auto& [key, value] : object_.items()) {
      if (!seen_.contains(key)) {
        Fail(ErrorCode::kUnsupported,
             "[{}] key {}: expected only known keys, found this one; it was written by a newer "
             "gateskip or is a typing error",
             origin_, key);
      }
    }
  }
  [[noreturn]] void FailRange(const std::string& key, const std::string& expected, const std::string& found) const {
    Fail(ErrorCode::kCorruptData, "[{}] key {}: expected {}, found {}; the file is damaged", origin_, key, expected,
         found.size() > 200 ? found.substr(0, 200) + "..." : found);
  }

 private:
  const json& object_;
  std::string origin_;
  std::set<std::string> seen_;
};

double FiniteNumber(const Fields& fields, const json& value, const char* key, double low, double high) {
  if (!value.is_number() || !(value.get<double>() >= low && value.get<double>() <= high)) {
    fields.FailRange(key, fmt::format("finite numbers from {} to {}", low, high), value.dump());
  }
  return value.get<double>();
}

int32_t TokenId(const Fields& fields, const json& value, const char* key) {
  if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() > INT32_MAX) {
    fields.FailRange(key, "token ids", value.dump());
  }
  return value.get<int32_t>();
}

AdapterSelfTest ReadSelfTest(const json& object, const std::string& origin, int num_branches) {
  Fields fields(object, origin + ": self_test");
  AdapterSelfTest test;
  for (const json& id : fields.Array("token_ids", 4096)) {
    test.token_ids.push_back(TokenId(fields, id, "token_ids"));
  }
  test.budget = FiniteNumber(fields, fields.Member("budget"), "budget", 0.0, 0.95);
  const json& mask = fields.Array("expected_mask", static_cast<size_t>(num_branches));
  for (const json& row : mask) {
    const bool good = row.is_string() && row.get_ref<const std::string&>().size() == test.token_ids.size() &&
                      row.get_ref<const std::string&>().find_first_not_of("01") == std::string::npos;
    if (!good) fields.FailRange("expected_mask", "rows of 0 and 1, one per token", row.dump());
    test.expected_mask.push_back(row.get<std::string>());
  }
  for (const json& id : fields.Array("top_ids", 64)) {
    test.top_ids.push_back(TokenId(fields, id, "top_ids"));
  }
  for (const json& logit : fields.Array("top_logits", 64)) {
    test.top_logits.push_back(static_cast<float>(FiniteNumber(fields, logit, "top_logits", -1e6, 1e6)));
  }
  fields.RefuseOthers();
  if (test.top_ids.size() != test.top_logits.size() ||
      (!test.token_ids.empty() && test.expected_mask.size() != static_cast<size_t>(num_branches))) {
    fields.FailRange("expected_mask, top_ids, top_logits", "matching counts", "others");
  }
  return test;
}

// One decision for both branches of a layer.
void CheckLayerScope(const Fields& fields, const AdapterConfig& c) {
  for (size_t b = 0; c.gate_scope == GateScope::kLayer && b < c.gated.size(); b += 2) {
    const bool same = std::ranges::all_of(c.thresholds, [b](const auto& row) { return row[b] == row[b + 1]; });
    if (c.gated[b] != c.gated[b + 1] || !same) {
      fields.FailRange("gated, thresholds", "the same for both branches of a layer, the gates' scope",
                       fmt::format("layer {} of two minds", b / 2));
    }
  }
}

AdapterConfig ConfigFromJson(const json& object, const std::string& origin) {
  Fields fields(object, origin);
  AdapterConfig c;
  const int version = fields.Int("format_version", 0, INT32_MAX);
  if (version < 1 || version > kAdapterFormatVersion) {
    Fail(ErrorCode::kUnsupported,
         "[{}] format_version: expected 1 to {}, found {}; this gateskip cannot read the adapter", origin,
         kAdapterFormatVersion, version);
  }
  c.base_model_name = fields.String("base_model_name");
  c.base_fingerprint = fields.String("base_fingerprint");
  c.architecture = fields.String("architecture");
  c.num_layers = fields.Int("num_layers", 1, 512);
  c.hidden_size = fields.Int("hidden_size", 1, 1 << 16);
  c.gate_kind = fields.Enum("gate_kind", kGateKinds);
  c.gate_rank = fields.Int("gate_rank", 0, 4096);
  if (version == 1) {
    c.gate_product = fields.Bool("multiply_output") ? GateProduct::kOutput : GateProduct::kNone;
  } else {
    c.gate_shared = fields.Bool("gate_shared");
    c.gate_product = fields.Enum("gate_product", kGateProducts);
    c.gate_scope = fields.Enum("gate_scope", kGateScopes);
  }
  c.kv_rule = fields.Enum("kv_rule", kKvRules);
  const auto branches = 2 * static_cast<size_t>(c.num_layers);
  for (const json& gated : fields.Array("gated", branches)) {
    if (!gated.is_boolean()) fields.FailRange("gated", "true or false", gated.dump());
    c.gated.push_back(gated.get<bool>());
  }
  if (c.gated.size() != branches)
    fields.FailRange("gated", fmt::format("{} entries", branches), std::to_string(c.gated.size()));
  if (GateHasRank(c.gate_kind) != (c.gate_rank > 0)) {
    fields.FailRange("gate_rank", "a positive rank for low_rank and mlp gates and 0 for others",
                     std::to_string(c.gate_rank));
  }
  c.always_run_positions = fields.Int("always_run_positions", 0, 1 << 20);
  c.skip_rank = fields.Int("skip_rank", -1, 4096);
  c.lora_rank = fields.Int("lora_rank", 0, 4096);
  c.lora_alpha = static_cast<float>(FiniteNumber(fields, fields.Member("lora_alpha"), "lora_alpha", 0, 1e6));
  for (const json& target : fields.Array("lora_targets", std::size(kLoraTargets))) {
    if (!target.is_string() || std::ranges::find(kLoraTargets, target.get<std::string>()) == std::end(kLoraTargets)) {
      fields.FailRange("lora_targets", "names of linear layers", target.dump());
    }
    if (std::ranges::find(c.lora_targets, target.get<std::string>()) != c.lora_targets.end()) {
      fields.FailRange("lora_targets", "each once", target.dump() + " twice");
    }
    c.lora_targets.push_back(target.get<std::string>());
  }
  for (const json& budget : fields.Array("budgets", kMaxBudgets)) {
    c.budgets.push_back(FiniteNumber(fields, budget, "budgets", 0.0, 0.95));
  }
  if (c.budgets.empty() || c.budgets.front() != 0.0 || !std::ranges::is_sorted(c.budgets, std::less_equal<>())) {
    fields.FailRange("budgets", "numbers ascending from 0", json(c.budgets).dump());
  }
  for (const json& row : fields.Array("thresholds", kMaxBudgets)) {
    if (!row.is_array() || row.size() != branches)
      fields.FailRange("thresholds", fmt::format("rows of {}", branches), "another");
    std::vector<float> thresholds;
    for (const json& t : row)
      thresholds.push_back(static_cast<float>(FiniteNumber(fields, t, "thresholds", -1.0, 1.0)));
    c.thresholds.push_back(std::move(thresholds));
  }
  for (const json& saving : fields.Array("realised_net_saving", kMaxBudgets)) {
    c.realised_net_saving.push_back(FiniteNumber(fields, saving, "realised_net_saving", -1.0, 1.0));
  }
  if (c.thresholds.size() != c.budgets.size() || c.realised_net_saving.size() != c.budgets.size()) {
    fields.FailRange("thresholds, realised_net_saving", fmt::format("one entry per budget ({})", c.budgets.size()),
                     "others");
  }
  for (size_t b = 0; b < branches; ++b) {
    for (const std::vector<float>& row : c.thresholds) {
      if (!c.gated[b] && row[b] >= 0.0F)
        fields.FailRange("thresholds", "-1 for a branch without a gate", std::to_string(row[b]));
    }
  }
  CheckLayerScope(fields, c);
  c.calibration_sha256 = fields.String("calibration_sha256");
  c.calibration_tokens = fields.Count("calibration_tokens");
  c.training_json = fields.Member("training").dump();
  c.self_test = ReadSelfTest(fields.Member("self_test"), origin, 2 * c.num_layers);
  fields.RefuseOthers();
  return c;
}

json ConfigToJson(const AdapterConfig& c) {
  return {{"format_version", kAdapterFormatVersion},
          {"base_model_name", c.base_model_name},
          {"base_fingerprint", c.base_fingerprint},
          {"architecture", c.architecture},
          {"num_layers", c.num_layers},
          {"hidden_size", c.hidden_size},
          {"gate_kind", NameIn(kGateKinds, c.gate_kind)},
          {"gate_rank", c.gate_rank},
          {"gate_shared", c.gate_shared},
          {"gate_product", NameIn(kGateProducts, c.gate_product)},
          {"gate_scope", NameIn(kGateScopes, c.gate_scope)},
          {"kv_rule", NameIn(kKvRules, c.kv_rule)},
          {"gated", c.gated},
          {"always_run_positions", c.always_run_positions},
          {"skip_rank", c.skip_rank},
          {"lora_rank", c.lora_rank},
          {"lora_alpha", c.lora_alpha},
          {"lora_targets", c.lora_targets},
          {"budgets", c.budgets},
          {"thresholds", c.thresholds},
          {"realised_net_saving", c.realised_net_saving},
          {"calibration_sha256", c.calibration_sha256},
          {"calibration_tokens", c.calibration_tokens},
          {"training", ParseJson(c.training_json, "training")},
          {"self_test",
           {{"token_ids", c.self_test.token_ids},
            {"budget", c.self_test.budget},
            {"expected_mask", c.self_test.expected_mask},
            {"top_ids", c.self_test.top_ids},
            {"top_logits", c.self_test.top_logits}}}};
}

// Every tensor the config calls for, with its shape; -1 is a size only the base model knows.
std::map<std::string, std::vector<int64_t>> ExpectedTensors(const AdapterConfig& c) {
  std::map<std::string, std::vector<int64_t>> expected;
  const int64_t d = c.hidden_size;
  for (int b = 0; b < 2 * c.num_layers; ++b) {
    if (!c.gated[static_cast<size_t>(b)]) continue;
    const std::string p = BranchPrefix(b);
    if (c.HasGate(b)) {
      const std::string matrix = GateMatrixPrefix(c, b);
      if (GateHasRank(c.gate_kind)) {
        expected[matrix + "gate.down"] = {c.gate_rank, d};
        expected[matrix + "gate.up"] = {d, c.gate_rank};
      } else {
        expected[matrix + "gate.weight"] =
            c.gate_kind == GateKind::kVector ? std::vector<int64_t>{d, d} : std::vector<int64_t>{d};
      }
      expected[p + "gate.bias"] = {c.gate_kind == GateKind::kScalar ? 1 : d};
      if (c.gate_kind == GateKind::kVector) {
        expected[p + "decision.weight"] = {d};
        expected[p + "decision.bias"] = {1};
      }
    }
    if (c.skip_rank >= 0) expected[p + "skip.bias"] = {d};
    if (c.skip_rank > 0) {
      expected[p + "skip.down"] = {c.skip_rank, d};
      expected[p + "skip.up"] = {d, c.skip_rank};
    }
  }
  for (int l = 0; c.lora_rank > 0 && l < c.num_layers; ++l) {
    for (const std::string& target : c.lora_targets) {
      expected[fmt::format("blk.{}.{}.lora_a", l, target)] = {c.lora_rank, -1};
      expected[fmt::format("blk.{}.{}.lora_b", l, target)] = {-1, c.lora_rank};
    }
  }
  return expected;
}

bool ShapeFits(const std::vector<int64_t>& expected, const std::vector<int64_t>& found) {
  if (expected.size() != found.size()) return false;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (expected[i] == -1 ? found[i] < 1 : expected[i] != found[i]) return false;
  }
  return true;
}

AdapterTensor ReadTensor(const TensorView& view, const std::string& origin) {
  AdapterTensor tensor = {view.shape, std::vector<float>(static_cast<size_t>(view.num_elements()))};
  Dequantize(view.dtype, view.data, tensor.values);
  if (!std::ranges::all_of(tensor.values, [](float v) { return std::isfinite(v); })) {
    Fail(ErrorCode::kCorruptData,
         "[{}] tensor {}: expected finite numbers, found NaN or infinity; train or fetch the "
         "adapter again",
         origin, view.name);
  }
  return tensor;
}

}  // namespace

std::string BranchPrefix(int branch) { return fmt::format("blk.{}.{}.", branch / 2, branch % 2 == 0 ? "attn" : "mlp"); }

std::string GateMatrixPrefix(const AdapterConfig& config, int branch) {
  if (!config.gate_shared) return BranchPrefix(branch);
  return branch % 2 == 0 ? "shared.attn." : "shared.mlp.";
}

Adapter ReadAdapter(const std::string& directory) {
  const std::filesystem::path root = directory;
  std::error_code ignored;
  if (!std::filesystem::is_directory(root, ignored)) {
    Fail(ErrorCode::kNotFound, "[{}] adapter: expected a directory, found none there; check the path", directory);
  }
  const std::string config_path = (root / kConfigFile).string();
  const std::string tensor_path = (root / kTensorFile).string();
  const std::string config = ReadTextFile(config_path, kMaxConfigBytes);
  const MappedFile tensors(tensor_path);
  return ParseAdapter(config, config_path, tensors.bytes(), tensor_path);
}

Adapter ParseAdapter(std::string_view config_json, const std::string& config_origin,
                     std::span<const std::byte> safetensors, const std::string& tensor_origin) {
  const auto file = SafetensorsFile::Parse(safetensors, tensor_origin);
  std::vector<std::string> names;
  for (const auto& [name, view] : file->tensors()) names.push_back(name);
  return AdapterFromTensors(
      config_json, config_origin, [&](const std::string& name) { return file->FindTensor(name); }, names,
      tensor_origin);
}

Adapter AdapterFromTensors(std::string_view config_json, const std::string& config_origin,
                           const std::function<const TensorView*(const std::string&)>& find,
                           const std::vector<std::string>& names, const std::string& tensor_origin) {
  Adapter adapter;
  adapter.config = ConfigFromJson(ParseJson(config_json, config_origin), config_origin);
  const auto expected = ExpectedTensors(adapter.config);
  for (const auto& [name, shape] : expected) {
    const TensorView* view = find(name);
    if (view == nullptr || !ShapeFits(shape, view->shape)) {
      Fail(ErrorCode::kCorruptData, "[{}] tensor {}: expected shape {}, found {}; the adapter is incomplete",
           tensor_origin, name, json(shape).dump(), view == nullptr ? "no such tensor" : json(view->shape).dump());
    }
    adapter.tensors[name] = ReadTensor(*view, tensor_origin);
  }
  for (const std::string& name : names) {
    if (!expected.contains(name)) {
      Fail(ErrorCode::kCorruptData,
           "[{}] tensor {}: expected only what adapter_config.json calls for, found this one; the "
           "two do not belong together",
           tensor_origin, name);
    }
  }
  return adapter;
}

std::string AdapterConfigJson(const AdapterConfig& config) { return ConfigToJson(config).dump(1) + "\n"; }

void WriteAdapter(const Adapter& adapter, const std::string& directory, bool half_precision) {
  std::vector<SafetensorsEntry> entries;
  for (const auto& [name, tensor] : adapter.tensors) {
    const auto is_finite = [half_precision](float v) {
      return std::isfinite(half_precision ? HalfToFloat(FloatToHalf(v)) : v);
    };
    if (!std::ranges::all_of(tensor.values, is_finite)) {
      Fail(ErrorCode::kInvalidArgument,
           "[{}] tensor {}: expected numbers that are finite as {}, found others; train again at a lower learning rate",
           directory, name, half_precision ? "f16" : "f32");
    }
    SafetensorsEntry entry = {name, half_precision ? DType::kF16 : DType::kF32, tensor.shape, {}};
    if (half_precision) {
      std::vector<uint16_t> halves(tensor.values.size());
      std::ranges::transform(tensor.values, halves.begin(), FloatToHalf);
      const auto bytes = std::as_bytes(std::span<const uint16_t>(halves));
      entry.data.assign(bytes.begin(), bytes.end());
    } else {
      const auto bytes = std::as_bytes(std::span<const float>(tensor.values));
      entry.data.assign(bytes.begin(), bytes.end());
    }
    entries.push_back(std::move(entry));
  }
  const std::vector<std::byte> tensors = SerializeSafetensors(entries, {{"format", "gateskip"}});
  const std::string config = AdapterConfigJson(adapter.config);
  WriteDirectoryAtomically(directory, [&](const std::string& temporary) {
    const std::filesystem::path root = temporary;
    WriteFileAtomically((root / kConfigFile).string(), std::as_bytes(std::span<const char>(config)));
    WriteFileAtomically((root / kTensorFile).string(), tensors);
  });
}

}  // namespace gateskip
