// SPDX-License-Identifier: Apache-2.0
// Adapters inside GGUF files: what is put in comes out, and a damaged one is refused when it is read.
#include "io/embedded_adapter.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "io/testing/expect_error.h"
#include "io/testing/small_adapter.h"

namespace gateskip::testing {
namespace {

constexpr const char* kConfigKey = "gateskip.adapter_config";

std::shared_ptr<const GgufFile> Open(const std::vector<std::byte>& bytes) { return GgufFile::Parse(bytes, "merged"); }

std::vector<std::byte> Embedded(const Adapter& adapter, bool requantized = false) {
  GgufWriter writer;
  writer.SetString("general.architecture", "toy");
  EmbedAdapter({adapter, requantized, "earlier"}, DType::kF32, &writer);
  return writer.Serialize();
}

TEST(EmbeddedAdapter, ComesBackWithoutItsDeltas) {
  for (const GateKind kind : {GateKind::kScalar, GateKind::kLowRank, GateKind::kVector}) {
    const Adapter adapter = SmallAdapter({.kind = kind, .kv_rule = KvRule::kDrop, .skip_rank = 2, .lora_rank = 1});
    const std::vector<std::byte> bytes = Embedded(adapter, /*requantized=*/true);
    const auto file = Open(bytes);
    ASSERT_TRUE(HasEmbeddedAdapter(*file));
    const EmbeddedAdapter found = ReadEmbeddedAdapter(*file);
    EXPECT_TRUE(found.requantized);
    EXPECT_TRUE(found.merged_deltas.starts_with("earlier; rank 1, alpha ")) << found.merged_deltas;
    EXPECT_EQ(found.adapter.config.lora_rank, 0);
    EXPECT_TRUE(found.adapter.config.lora_targets.empty());
    AdapterConfig config = adapter.config;
    config.lora_rank = 0;
    config.lora_alpha = 0;
    config.lora_targets.clear();
    EXPECT_EQ(AdapterConfigJson(found.adapter.config), AdapterConfigJson(config));
    size_t kept = 0;
    for (const auto& [name, tensor] : adapter.tensors) {
      if (IsDelta(name)) continue;
      ++kept;
      ASSERT_TRUE(found.adapter.tensors.contains(name)) << name;
      EXPECT_EQ(found.adapter.tensors.at(name).values, tensor.values) << name;
      EXPECT_EQ(found.adapter.tensors.at(name).shape, tensor.shape) << name;
    }
    EXPECT_EQ(found.adapter.tensors.size(), kept);
    EXPECT_LT(kept, adapter.tensors.size()) << "the adapter had deltas";
  }
}

// Biases stay as they are, and so do rows that are no whole blocks.
TEST(EmbeddedAdapter, GatesMayBeOfAnotherType) {
  Adapter adapter = SmallAdapter({});
  AdapterTensor& weight = adapter.tensors.at("blk.0.attn.gate.weight");
  weight.values[0] = 0.1F;  // which f16 does not hold
  for (const DType type : {DType::kF16, DType::kQ8_0}) {
    GgufWriter writer;
    EmbedAdapter({adapter, false, {}}, type, &writer);
    const std::vector<std::byte> bytes = writer.Serialize();
    const auto file = Open(bytes);
    const bool half = type == DType::kF16;
    EXPECT_EQ(file->FindTensor("gateskip.blk.0.attn.gate.weight")->dtype, half ? DType::kF16 : DType::kF32);
    EXPECT_EQ(file->FindTensor("gateskip.blk.0.attn.gate.bias")->dtype, DType::kF32);
    Adapter rounded = adapter;
    RoundGates(type, &rounded);
    EXPECT_EQ(rounded.tensors.at("blk.0.attn.gate.weight").values[0] == 0.1F, !half);
    const Adapter found = ReadEmbeddedAdapter(*file).adapter;
    for (const auto& [name, tensor] : rounded.tensors) EXPECT_EQ(found.tensors.at(name).values, tensor.values) << name;
  }
  weight.values[0] = 1e6F;
  GgufWriter writer;
  ExpectError(
      [&] {
        EmbedAdapter({adapter, false, {}}, DType::kF16, &writer);
      },
      ErrorCode::kInvalidArgument, "blk.0.attn.gate.weight");
  ExpectError([&] { RoundGates(DType::kF16, &adapter); }, ErrorCode::kInvalidArgument, "wider type");
}

TEST(EmbeddedAdapter, AnOrdinaryFileHasNone) {
  GgufWriter writer;
  writer.SetString("general.architecture", "toy");
  const std::vector<std::byte> bytes = writer.Serialize();
  const auto file = Open(bytes);
  EXPECT_FALSE(HasEmbeddedAdapter(*file));
  ExpectError([&] { ReadEmbeddedAdapter(*file); }, ErrorCode::kCorruptData, "found nothing");
}

// G14 of the catalogue of bugs: damage is found at loading, never in the middle of a run.
TEST(EmbeddedAdapter, DamageIsRefused) {
  const Adapter whole = SmallAdapter({.skip_rank = 0});
  const std::string config = AdapterConfigJson(whole.config);
  const auto expect = [](const std::function<void(GgufWriter*)>& build, ErrorCode code, std::string_view words) {
    GgufWriter writer;
    build(&writer);
    const std::vector<std::byte> bytes = writer.Serialize();
    const auto file = Open(bytes);
    ExpectError([&] { ReadEmbeddedAdapter(*file); }, code, words);
  };
  const auto embed = [](const Adapter& adapter) {
    return [&adapter](GgufWriter* writer) { EmbedAdapter({adapter, false, {}}, DType::kF32, writer); };
  };
  const std::string name = "blk.0.attn.gate.weight";

  Adapter missing = whole;
  missing.tensors.erase(name);
  expect(embed(missing), ErrorCode::kCorruptData, "no such tensor");

  Adapter misshapen = whole;
  misshapen.tensors[name].shape = {1, 4};
  expect(embed(misshapen), ErrorCode::kCorruptData, "expected shape [4]");

  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    Adapter poisoned = whole;
    poisoned.tensors[name].values[1] = bad;
    expect(embed(poisoned), ErrorCode::kCorruptData, "finite numbers");
  }

  Adapter surplus = whole;
  surplus.tensors["blk.9.attn.gate.weight"] = {{1}, {0.0F}};
  expect(embed(surplus), ErrorCode::kCorruptData, "found this one");

  expect([](GgufWriter* writer) { writer->SetString(kConfigKey, "{"); }, ErrorCode::kCorruptData, "JSON");
  expect([](GgufWriter* writer) { writer->SetUint32(kConfigKey, 1); }, ErrorCode::kCorruptData, "expected a string");
  expect([](GgufWriter* writer) { writer->SetString(kConfigKey, std::string(100, '[')); }, ErrorCode::kLimitExceeded,
         "levels");
  expect([](GgufWriter* writer) { writer->SetString(kConfigKey, std::string((size_t{16} << 20) + 1, ' ')); },
         ErrorCode::kLimitExceeded, "at most");
  expect(
      [&](GgufWriter* writer) {
        EmbedAdapter({whole, false, {}}, DType::kF32, writer);
        writer->AddTensor("gateskip.extra", DType::kF32, {1}, std::as_bytes(std::span<const float, 1>({0.0F})));
      },
      ErrorCode::kCorruptData, "tensor extra");
}

}  // namespace
}  // namespace gateskip::testing
