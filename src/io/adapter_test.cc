// SPDX-License-Identifier: Apache-2.0
// The adapter directory: the round trip of every kind, and tables of damaged configs and tensor files. (That an adapter
// belongs to its base model is checked where the two meet, in model/adapter_weights.h.)
#include "io/adapter.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "io/safetensors.h"
#include "io/testing/expect_error.h"
#include "io/testing/small_adapter.h"
#include "io/testing/split_input.h"
#include "io/testing/temp_directory.h"

namespace gateskip::testing {
namespace {

using nlohmann::json;
constexpr ErrorCode kCorrupt = ErrorCode::kCorruptData;
constexpr ErrorCode kUnsupported = ErrorCode::kUnsupported;

void ExpectEqual(const AdapterConfig& a, const AdapterConfig& b) {
  EXPECT_EQ(a.base_model_name, b.base_model_name);
  EXPECT_EQ(a.base_fingerprint, b.base_fingerprint);
  EXPECT_EQ(a.architecture, b.architecture);
  EXPECT_EQ(a.num_layers, b.num_layers);
  EXPECT_EQ(a.hidden_size, b.hidden_size);
  EXPECT_EQ(a.gate_kind, b.gate_kind);
  EXPECT_EQ(a.gate_rank, b.gate_rank);
  EXPECT_EQ(a.gate_shared, b.gate_shared);
  EXPECT_EQ(a.gate_product, b.gate_product);
  EXPECT_EQ(a.gate_scope, b.gate_scope);
  EXPECT_EQ(a.kv_rule, b.kv_rule);
  EXPECT_EQ(a.gated, b.gated);
  EXPECT_EQ(a.always_run_positions, b.always_run_positions);
  EXPECT_EQ(a.skip_rank, b.skip_rank);
  EXPECT_EQ(a.lora_rank, b.lora_rank);
  EXPECT_EQ(a.lora_alpha, b.lora_alpha);
  EXPECT_EQ(a.lora_targets, b.lora_targets);
  EXPECT_EQ(a.budgets, b.budgets);
  EXPECT_EQ(a.thresholds, b.thresholds);
  EXPECT_EQ(a.realised_net_saving, b.realised_net_saving);
  EXPECT_EQ(a.calibration_sha256, b.calibration_sha256);
  EXPECT_EQ(a.calibration_tokens, b.calibration_tokens);
  EXPECT_EQ(json::parse(a.training_json), json::parse(b.training_json));
  EXPECT_EQ(a.self_test.token_ids, b.self_test.token_ids);
  EXPECT_EQ(a.self_test.budget, b.self_test.budget);
  EXPECT_EQ(a.self_test.expected_mask, b.self_test.expected_mask);
  EXPECT_EQ(a.self_test.top_ids, b.self_test.top_ids);
  EXPECT_EQ(a.self_test.top_logits, b.self_test.top_logits);
}

void ExpectRoundTrip(const Adapter& adapter, bool half_precision) {
  const TempDirectory directory;
  WriteAdapter(adapter, directory / "adapter", half_precision);
  const Adapter read = ReadAdapter(directory / "adapter");
  ExpectEqual(adapter.config, read.config);
  ASSERT_EQ(adapter.tensors.size(), read.tensors.size());
  for (const auto& [name, tensor] : adapter.tensors) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(read.tensors.contains(name));
    EXPECT_EQ(tensor.shape, read.tensors.at(name).shape);
    EXPECT_EQ(tensor.values, read.tensors.at(name).values);
  }
}

TEST(Adapter, RoundTripOfEveryKind) {
  for (const auto& [kind, name] : kGateKinds) {
    SCOPED_TRACE(name);
    for (const int skip_rank : {-1, 0, 3}) {
      for (const int lora_rank : {0, 2}) {
        for (const bool half : {false, true}) {
          SCOPED_TRACE(fmt::format("{} {} {}", skip_rank, lora_rank, half));
          ExpectRoundTrip(SmallAdapter({kind, KvRule::kDrop, skip_rank, lora_rank}), half);
        }
      }
    }
    for (const auto& [product, product_name] : kGateProducts) {
      for (const auto& [scope, scope_name] : kGateScopes) {
        for (const bool shared : {false, true}) {
          SCOPED_TRACE(fmt::format("{} {} {}", product_name, scope_name, shared));
          ExpectRoundTrip(
              SmallAdapter({.kind = kind, .skip_rank = 0, .product = product, .shared = shared, .scope = scope}),
              false);
        }
      }
    }
  }
  for (const KvRule rule : {KvRule::kCompute, KvRule::kCopy}) {
    ExpectRoundTrip(SmallAdapter({.kind = GateKind::kScalar, .kv_rule = rule}), false);
  }
}

TEST(Adapter, SharedMatricesAndTheGatesOfLayersAreStoredOnce) {
  const auto names = [](const SmallAdapterOptions& options) {
    std::string list;
    for (const auto& [name, tensor] : SmallAdapter(options).tensors) list += name + " ";
    return list;
  };
  EXPECT_EQ(names({.kind = GateKind::kMlp, .shared = true}),
            "blk.0.attn.gate.bias blk.0.mlp.gate.bias blk.1.attn.gate.bias shared.attn.gate.down shared.attn.gate.up "
            "shared.mlp.gate.down shared.mlp.gate.up ");
  EXPECT_EQ(names({.kind = GateKind::kVector, .skip_rank = 0, .shared = true, .scope = GateScope::kLayer}),
            "blk.0.attn.decision.bias blk.0.attn.decision.weight blk.0.attn.gate.bias blk.0.attn.skip.bias "
            "blk.0.mlp.skip.bias shared.attn.gate.weight ");
}

// Files written by the first version of the format: gates decide, or multiply the output, and belong to one branch.
TEST(Adapter, ReadsTheFirstFormatVersion) {
  const std::pair<const char*, SmallAdapterOptions> files[] = {
      {"v1_scalar", {GateKind::kScalar, KvRule::kCompute, -1, 0}},
      {"v1_low_rank", {GateKind::kLowRank, KvRule::kDrop, 2, 2}},
      {"v1_vector_multiplying", {GateKind::kVector, KvRule::kCopy, 0, 0, GateProduct::kOutput}}};
  for (const auto& [name, options] : files) {
    SCOPED_TRACE(name);
    const std::string file = ReadBack(GATESKIP_TEST_DATA "/fuzz/adapter/" + std::string(name));
    std::string_view input = file;
    const std::string_view config = TakePart(&input);
    const std::string_view header = TakePart(&input);
    EXPECT_NE(config.find("\"format_version\": 1"), config.npos);
    const std::string tensors = JoinSafetensors(header, input);
    const Adapter read = ParseAdapter(config, "config", AsBytes(tensors), "tensors");
    const Adapter expected = SmallAdapter(options);
    ExpectEqual(expected.config, read.config);
    EXPECT_EQ(expected.tensors.size(), read.tensors.size());
    ExpectRoundTrip(read, false);
    // A key of one version is none of the other.
    json mixed = json::parse(config);
    mixed["gate_product"] = "none";
    ExpectError([&] { ParseAdapter(mixed.dump(), "config", AsBytes(tensors), "tensors"); }, kUnsupported,
                "key gate_product: expected only known keys");
  }
}

TEST(Adapter, RoundTripOfOddValues) {
  Adapter adapter = SmallAdapter({});
  adapter.config.base_model_name = "n\xC3\xA4me \"quoted\"\n";
  adapter.config.training_json = "[1,{\"a\":null}]";
  adapter.config.self_test = {};
  adapter.config.budgets = {0.0};
  adapter.config.thresholds = {{-1, -1, -1, -1}};
  adapter.config.realised_net_saving = {0.1 + 0.2};
  adapter.config.calibration_tokens = (int64_t{1} << 53) + 1;  // not a double
  adapter.tensors["blk.0.attn.gate.weight"].values = {-0.0F, 1e-45F, 3.4e38F, 1.0F / 3};
  ExpectRoundTrip(adapter, false);
}

TEST(Adapter, WritingReplacesTheOldOneWhole) {
  const TempDirectory directory;
  WriteAdapter(SmallAdapter({.lora_rank = 2}), directory / "a", false);
  WriteAdapter(SmallAdapter({}), directory / "a", true);
  EXPECT_EQ(ReadAdapter(directory / "a").config.lora_rank, 0);
  EXPECT_EQ(directory.Names(), std::set<std::string>{"a"});
}

TEST(Adapter, WritingRefusesWhatTheReaderWould) {
  const TempDirectory directory;
  for (const float value : {std::nanf(""), -HUGE_VALF, 70000.0F}) {
    Adapter adapter = SmallAdapter({});
    adapter.tensors["blk.0.mlp.gate.bias"].values = {value};
    ExpectError([&] { WriteAdapter(adapter, directory / "a", true); }, ErrorCode::kInvalidArgument,
                "tensor blk.0.mlp.gate.bias: expected numbers that are finite as f16");
  }
  EXPECT_TRUE(directory.Names().empty());
}

// What the two files of an adapter hold.
struct Files {
  json config;
  std::vector<SafetensorsEntry> entries;

  SafetensorsEntry& Entry(std::string_view name) {
    for (SafetensorsEntry& entry : entries) {
      if (entry.name == name) return entry;
    }
    throw std::out_of_range(std::string(name));
  }
};

Files GoodFiles() {
  const TempDirectory directory;
  WriteAdapter(SmallAdapter({GateKind::kLowRank, KvRule::kCompute, 1, 2}), directory / "a", false);
  Files files;
  files.config = json::parse(ReadBack(directory / "a/adapter_config.json"));
  const auto tensors = SafetensorsFile::Open(directory / "a/adapter_model.safetensors");
  for (const auto& [name, view] : tensors->tensors()) {
    files.entries.push_back({name, view.dtype, view.shape, {view.data.begin(), view.data.end()}});
  }
  return files;
}

Adapter Parse(const Files& files) {
  return ParseAdapter(files.config.dump(), "config", SerializeSafetensors(files.entries, {}), "tensors");
}

void SetFloat(SafetensorsEntry* entry, float value) { std::memcpy(entry->data.data(), &value, sizeof(value)); }

struct BadAdapter {
  const char* name;
  void (*damage)(Files* files);
  ErrorCode code;
  const char* words;
};
void PrintTo(const BadAdapter& row, std::ostream* out) { *out << row.name; }

const BadAdapter kBadConfigs[] = {
    {"NoObject", [](Files* f) { f->config = json::array(); }, kCorrupt, "expected an object, found array"},
    {"EmptyObject", [](Files* f) { f->config = json::object(); }, kCorrupt, "key format_version"},
    {"Version0", [](Files* f) { f->config["format_version"] = 0; }, kUnsupported, "expected 1 to 2, found 0"},
    {"Version3", [](Files* f) { f->config["format_version"] = 3; }, kUnsupported, "expected 1 to 2, found 3"},
    {"Version1WithItsOwnKeyMissing", [](Files* f) { f->config["format_version"] = 1; }, kCorrupt,
     "key multiply_output"},
    {"VersionMinus1", [](Files* f) { f->config["format_version"] = -1; }, kCorrupt, "format_version"},
    {"VersionText", [](Files* f) { f->config["format_version"] = "1"; }, kCorrupt, "an integer, found \"1\""},
    {"Version2To63", [](Files* f) { f->config["format_version"] = 1ULL << 63; }, kCorrupt, "an integer"},
    {"UnknownKey", [](Files* f) { f->config["gate_knd"] = 1; }, kUnsupported, "key gate_knd: expected only known keys"},
    {"MissingKey", [](Files* f) { f->config.erase("kv_rule"); }, kCorrupt, "key kv_rule: expected a string"},
    {"MissingTraining", [](Files* f) { f->config.erase("training"); }, kCorrupt, "key training"},
    {"MissingSelfTest", [](Files* f) { f->config.erase("self_test"); }, kCorrupt, "key self_test"},
    {"Layers0", [](Files* f) { f->config["num_layers"] = 0; }, kCorrupt, "key num_layers: expected 1 to 512, found 0"},
    {"Layers513", [](Files* f) { f->config["num_layers"] = 513; }, kCorrupt, "1 to 512"},
    {"Layers2To31", [](Files* f) { f->config["num_layers"] = 1U << 31; }, kCorrupt, "found 2147483648"},
    {"LayersFloat", [](Files* f) { f->config["num_layers"] = 2.0; }, kCorrupt, "an integer, found 2.0"},
    {"LayersOther", [](Files* f) { f->config["num_layers"] = 3; }, kCorrupt, "key gated: expected 6 entries, found 4"},
    {"Hidden0", [](Files* f) { f->config["hidden_size"] = 0; }, kCorrupt, "key hidden_size"},
    {"HiddenOther", [](Files* f) { f->config["hidden_size"] = 8; }, kCorrupt, "expected shape [8], found [4]"},
    {"KindUnknown", [](Files* f) { f->config["gate_kind"] = "matrix"; }, kUnsupported,
     "expected one of scalar, low_rank, vector, mlp, found matrix"},
    {"KindOther", [](Files* f) { f->config["gate_kind"] = "vector"; }, kCorrupt, "key gate_rank"},
    {"KvUnknown", [](Files* f) { f->config["kv_rule"] = "Compute"; }, kUnsupported, "compute, copy, drop"},
    {"Rank0", [](Files* f) { f->config["gate_rank"] = 0; }, kCorrupt, "a positive rank for low_rank and mlp gates"},
    {"RankOther", [](Files* f) { f->config["gate_rank"] = 3; }, kCorrupt, "expected shape [3,4], found [2,4]"},
    {"RankHuge", [](Files* f) { f->config["gate_rank"] = 5000; }, kCorrupt, "0 to 4096"},
    {"SharedNumber", [](Files* f) { f->config["gate_shared"] = 1; }, kCorrupt, "true or false, found 1"},
    {"SharedOther", [](Files* f) { f->config["gate_shared"] = true; }, kCorrupt,
     "tensor shared.attn.gate.down: expected shape [2,4], found no such tensor"},
    {"ProductUnknown", [](Files* f) { f->config["gate_product"] = "both"; }, kUnsupported,
     "expected one of none, output, input, found both"},
    {"ProductBool", [](Files* f) { f->config["gate_product"] = true; }, kCorrupt, "key gate_product"},
    {"ScopeUnknown", [](Files* f) { f->config["gate_scope"] = "model"; }, kUnsupported,
     "expected one of branch, layer"},
    {"ScopeOfHalfALayer", [](Files* f) { f->config["gate_scope"] = "layer"; }, kCorrupt,
     "the same for both branches of a layer, the gates' scope, found layer 0 of two minds"},
    {"ScopeGatesOneBranch",
     [](Files* f) {
       f->config["gate_scope"] = "layer";
       f->config["thresholds"] = {{-1, -1, -1, -1}, {-1, -1, -1, -1}, {-1, -1, -1, -1}};
     },
     kCorrupt, "found layer 1 of two minds"},
    {"ScopeOther",
     [](Files* f) {
       f->config["gate_scope"] = "layer";
       f->config["gated"] = {true, true, false, false};
       f->config["thresholds"] = {{-1, -1, -1, -1}, {-1, -1, -1, -1}, {-1, -1, -1, -1}};
     },
     kCorrupt, "tensor blk.0.mlp.gate.bias: expected only"},
    {"GatedNumber", [](Files* f) { f->config["gated"][0] = 1; }, kCorrupt, "key gated: expected true or false"},
    {"GatedShort", [](Files* f) { f->config["gated"].erase(0); }, kCorrupt, "key gated: expected 4 entries, found 3"},
    {"GatedLong", [](Files* f) { f->config["gated"].push_back(true); }, kCorrupt, "an array of at most 4"},
    {"GatedText", [](Files* f) { f->config["gated"] = "1110"; }, kCorrupt, "an array of at most 4, found string"},
    {"AlwaysNegative", [](Files* f) { f->config["always_run_positions"] = -1; }, kCorrupt, "always_run_positions"},
    {"SkipRankMinus2", [](Files* f) { f->config["skip_rank"] = -2; }, kCorrupt, "key skip_rank: expected -1 to 4096"},
    {"SkipRankOther", [](Files* f) { f->config["skip_rank"] = 2; }, kCorrupt, "skip.down: expected shape [2,4]"},
    {"LoraRankOther", [](Files* f) { f->config["lora_rank"] = 3; }, kCorrupt, "lora_a: expected shape [3,-1]"},
    {"LoraAlphaNegative", [](Files* f) { f->config["lora_alpha"] = -1; }, kCorrupt, "key lora_alpha"},
    {"LoraAlphaHuge", [](Files* f) { f->config["lora_alpha"] = 1e300; }, kCorrupt, "key lora_alpha"},
    {"LoraAlphaNull", [](Files* f) { f->config["lora_alpha"] = nullptr; }, kCorrupt, "found null"},
    {"LoraTargetUnknown", [](Files* f) { f->config["lora_targets"][0] = "embed"; }, kCorrupt, "names of linear layers"},
    {"LoraTargetNumber", [](Files* f) { f->config["lora_targets"][0] = 1; }, kCorrupt, "names of linear layers"},
    {"LoraTargetTwice", [](Files* f) { f->config["lora_targets"][1] = "attn_q"; }, kCorrupt, "each once"},
    {"BudgetsEmpty", [](Files* f) { f->config["budgets"] = json::array(); }, kCorrupt, "ascending from 0"},
    {"BudgetsNotFrom0", [](Files* f) { f->config["budgets"][0] = 0.1; }, kCorrupt, "ascending from 0"},
    {"BudgetsEqual", [](Files* f) { f->config["budgets"][2] = 0.15; }, kCorrupt, "ascending from 0"},
    {"BudgetsFalling",
     [](Files* f) {
       f->config["budgets"] = {0.0, 0.3, 0.2};
     },
     kCorrupt, "ascending from 0"},
    {"BudgetNegative", [](Files* f) { f->config["budgets"][0] = -0.1; }, kCorrupt, "finite numbers from 0 to 0.95"},
    {"Budget1", [](Files* f) { f->config["budgets"][2] = 1.0; }, kCorrupt, "finite numbers from 0 to 0.95"},
    {"BudgetNull", [](Files* f) { f->config["budgets"][1] = nullptr; }, kCorrupt, "found null"},  // how JSON has NaN
    {"BudgetsTooMany", [](Files* f) { f->config["budgets"] = std::vector<double>(257, 0.5); }, kCorrupt, "at most 256"},
    {"ThresholdsShort", [](Files* f) { f->config["thresholds"].erase(2); }, kCorrupt, "one entry per budget (3)"},
    {"ThresholdRowShort", [](Files* f) { f->config["thresholds"][1].erase(0); }, kCorrupt,
     "thresholds: expected rows of 4"},
    {"ThresholdRowNumber", [](Files* f) { f->config["thresholds"][1] = 0.5; }, kCorrupt,
     "thresholds: expected rows of 4"},
    {"ThresholdAbove1", [](Files* f) { f->config["thresholds"][1][0] = 1.5; }, kCorrupt, "from -1 to 1, found 1.5"},
    {"ThresholdBelow", [](Files* f) { f->config["thresholds"][1][0] = -1.5; }, kCorrupt, "from -1 to 1"},
    {"ThresholdNull", [](Files* f) { f->config["thresholds"][1][0] = nullptr; }, kCorrupt, "found null"},
    {"ThresholdText", [](Files* f) { f->config["thresholds"][1][0] = "0.5"; }, kCorrupt, "finite numbers"},
    {"ThresholdUngated", [](Files* f) { f->config["thresholds"][1][3] = 0.5; }, kCorrupt,
     "-1 for a branch without a gate"},
    {"SavingsShort", [](Files* f) { f->config["realised_net_saving"].erase(0); }, kCorrupt, "one entry per budget"},
    {"SavingHuge", [](Files* f) { f->config["realised_net_saving"][0] = -7; }, kCorrupt, "realised_net_saving"},
    {"TokensNegative", [](Files* f) { f->config["calibration_tokens"] = -1; }, kCorrupt, "key calibration_tokens"},
    {"TokensHuge", [](Files* f) { f->config["calibration_tokens"] = 1e300; }, kCorrupt,
     "calibration_tokens: expected an integer"},
    {"SelfTestArray", [](Files* f) { f->config["self_test"] = json::array(); }, kCorrupt,
     "self_test] JSON: expected an object"},
    {"SelfTestUnknownKey", [](Files* f) { f->config["self_test"]["x"] = 1; }, kUnsupported, "self_test] key x"},
    {"SelfTestIdNegative", [](Files* f) { f->config["self_test"]["token_ids"][0] = -1; }, kCorrupt, "token_ids"},
    {"SelfTestIdFloat", [](Files* f) { f->config["self_test"]["token_ids"][0] = 1.5; }, kCorrupt,
     "token ids, found 1.5"},
    {"SelfTestId2To31", [](Files* f) { f->config["self_test"]["token_ids"][0] = 1U << 31; }, kCorrupt, "token_ids"},
    {"SelfTestId2To64", [](Files* f) { f->config["self_test"]["token_ids"][0] = UINT64_MAX; }, kCorrupt, "token_ids"},
    {"SelfTestIdsMany", [](Files* f) { f->config["self_test"]["token_ids"] = std::vector<int>(4097, 1); }, kCorrupt,
     "at most 4096"},
    {"SelfTestBudget", [](Files* f) { f->config["self_test"]["budget"] = 2; }, kCorrupt, "key budget"},
    {"SelfTestMaskLetters", [](Files* f) { f->config["self_test"]["expected_mask"][0] = "1x"; }, kCorrupt,
     "rows of 0 and 1"},
    {"SelfTestMaskLength", [](Files* f) { f->config["self_test"]["expected_mask"][0] = "111"; }, kCorrupt,
     "one per token"},
    {"SelfTestMaskNumber", [](Files* f) { f->config["self_test"]["expected_mask"][0] = 11; }, kCorrupt,
     "rows of 0 and 1"},
    {"SelfTestMaskRows", [](Files* f) { f->config["self_test"]["expected_mask"].erase(0); }, kCorrupt,
     "matching counts"},
    {"SelfTestTopCounts", [](Files* f) { f->config["self_test"]["top_ids"].erase(0); }, kCorrupt, "matching counts"},
    {"SelfTestLogitNull", [](Files* f) { f->config["self_test"]["top_logits"][0] = nullptr; }, kCorrupt, "top_logits"},
    {"SelfTestLogitHuge", [](Files* f) { f->config["self_test"]["top_logits"][0] = 1e30; }, kCorrupt, "top_logits"},
};

const BadAdapter kBadTensors[] = {
    {"Missing", [](Files* f) { f->entries.erase(f->entries.begin()); }, kCorrupt, "no such tensor"},
    {"None", [](Files* f) { f->entries.clear(); }, kCorrupt, "no such tensor"},
    {"Renamed", [](Files* f) { f->Entry("blk.0.attn.gate.bias").name = "blk.0.attn.gate.Bias"; }, kCorrupt,
     "tensor blk.0.attn.gate.bias: expected shape [4], found no such tensor"},
    {"Extra",
     [](Files* f) {
       f->entries.push_back({"x", DType::kF32, {0}, {}});
     },
     kCorrupt, "tensor x: expected only what"},
    {"ExtraLayer",
     [](Files* f) {
       f->entries.push_back({"blk.2.attn.gate.bias", DType::kF32, {0}, {}});
     },
     kCorrupt, "tensor blk.2.attn.gate.bias: expected only"},
    {"ExtraBranch",
     [](Files* f) {
       f->entries.push_back({"blk.1.mlp.gate.bias", DType::kF32, {0}, {}});
     },
     kCorrupt, "tensor blk.1.mlp.gate.bias: expected only"},
    {"Transposed",
     [](Files* f) {
       f->Entry("blk.0.attn.gate.down").shape = {4, 2};
     },
     kCorrupt, "expected shape [2,4], found [4,2]"},
    {"OtherRank",
     [](Files* f) {
       f->Entry("blk.0.attn.gate.bias").shape = {4, 1};
     },
     kCorrupt, "expected shape [4], found [4,1]"},
    {"LoraEmpty",
     [](Files* f) {
       f->Entry("blk.0.attn_q.lora_a").shape = {2, 0};
       f->Entry("blk.0.attn_q.lora_a").data.clear();
     },
     kCorrupt, "lora_a: expected shape [2,-1], found [2,0]"},
    {"Nan", [](Files* f) { SetFloat(&f->Entry("blk.1.attn.gate.up"), std::nanf("")); }, kCorrupt,
     "tensor blk.1.attn.gate.up: expected finite numbers"},
    {"Inf", [](Files* f) { SetFloat(&f->Entry("blk.0.mlp.skip.bias"), HUGE_VALF); }, kCorrupt,
     "expected finite numbers"},
    {"MinusInf", [](Files* f) { SetFloat(&f->Entry("blk.1.ffn_down.lora_b"), -HUGE_VALF); }, kCorrupt,
     "expected finite numbers"},
};

class BadAdapterTest : public ::testing::TestWithParam<BadAdapter> {};

TEST_P(BadAdapterTest, EndsInItsError) {
  static const Files good = GoodFiles();
  ASSERT_NO_THROW(Parse(good));
  Files files = good;
  GetParam().damage(&files);
  ExpectError([&] { Parse(files); }, GetParam().code, GetParam().words);
}

std::string NameOf(const ::testing::TestParamInfo<BadAdapter>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Config, BadAdapterTest, ::testing::ValuesIn(kBadConfigs), NameOf);
INSTANTIATE_TEST_SUITE_P(Tensors, BadAdapterTest, ::testing::ValuesIn(kBadTensors), NameOf);

TEST(Adapter, RefusesMissingAndDamagedFiles) {
  const TempDirectory directory;
  ExpectError([&] { ReadAdapter(directory / "absent"); }, ErrorCode::kNotFound, "expected a directory");
  ExpectError([&] { ReadAdapter(directory.Write("file", "x")); }, ErrorCode::kNotFound, "expected a directory");
  WriteAdapter(SmallAdapter({}), directory / "a", false);
  const std::string config = ReadBack(directory / "a/adapter_config.json");
  const std::string tensors = ReadBack(directory / "a/adapter_model.safetensors");
  for (const size_t size : {size_t{0}, size_t{1}, config.size() / 2, config.size() - 3}) {
    directory.Write("a/adapter_config.json", config.substr(0, size));
    ExpectError([&] { ReadAdapter(directory / "a"); }, kCorrupt, "adapter_config.json] JSON");
  }
  directory.Write("a/adapter_config.json", config);
  for (const size_t size : {size_t{0}, tensors.size() / 2, tensors.size() - 1}) {
    directory.Write("a/adapter_model.safetensors", tensors.substr(0, size));
    ExpectError([&] { ReadAdapter(directory / "a"); }, kCorrupt, "adapter_model.safetensors]");
  }
  std::filesystem::remove(directory / "a/adapter_model.safetensors");
  ExpectError([&] { ReadAdapter(directory / "a"); }, ErrorCode::kNotFound, "adapter_model.safetensors");
  directory.Write("a/adapter_config.json", std::string((size_t{16} << 20) + 1, ' '));
  ExpectError([&] { ReadAdapter(directory / "a"); }, ErrorCode::kLimitExceeded, "at most 16777216 bytes");
}

}  // namespace
}  // namespace gateskip::testing
