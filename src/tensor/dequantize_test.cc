// SPDX-License-Identifier: Apache-2.0
// Every block format against the reference package `gguf`, bit for bit (tests/golden/make_dequant.py wrote the file);
// the half-precision conversions over all 65536 halves.
#include "tensor/dequantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gateskip/error.h"

namespace gateskip {
namespace {

std::vector<std::byte> FromHex(const std::string& hex) {
  const std::string digits = "0123456789abcdef";
  std::vector<std::byte> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(digits.find(hex[i]) * 16 + digits.find(hex[i + 1])));
  }
  return bytes;
}

uint32_t Bits(float value) { return std::bit_cast<uint32_t>(value); }

TEST(Dequantize, EqualsTheReferenceBitForBit) {
  std::ifstream in(GATESKIP_TEST_DATA "/dequantize.json");
  const nlohmann::json golden = nlohmann::json::parse(in);
  EXPECT_EQ(golden.size(), static_cast<size_t>(kNumDTypes));
  for (int t = 0; t < kNumDTypes; ++t) {
    const auto dtype = static_cast<DType>(t);
    const DTypeInfo& info = GetDTypeInfo(dtype);
    SCOPED_TRACE(info.name);
    const nlohmann::json& row = golden.at(std::string(info.name));
    const std::vector<std::byte> blocks = FromHex(row.at("blocks"));
    const std::vector<std::byte> expected_bytes = FromHex(row.at("values"));
    std::vector<float> expected(expected_bytes.size() / sizeof(float));
    std::memcpy(expected.data(), expected_bytes.data(), expected_bytes.size());
    ASSERT_EQ(StorageBytes(dtype, expected.size()), blocks.size());
    ASSERT_GE(expected.size(), 64U);

    std::vector<float> found(expected.size(), -1.0F);
    Dequantize(dtype, blocks, found);
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(Bits(found[i]), Bits(expected[i]))
          << "element " << i << ": " << found[i] << " instead of " << expected[i];
    }
  }
}

// Scales from a damaged file: nothing but IEEE arithmetic happens, and nothing traps.
TEST(Dequantize, InfiniteAndNanScalesSpreadOverTheirBlock) {
  for (const DType dtype : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kQ4_K,
                            DType::kQ5_K, DType::kQ6_K}) {
    const DTypeInfo& info = GetDTypeInfo(dtype);
    SCOPED_TRACE(info.name);
    for (const uint16_t scale : std::initializer_list<uint16_t>{0x7C00, 0xFC00, 0x7E00}) {
      std::vector<std::byte> block(info.block_bytes, std::byte{0x11});
      std::memcpy(block.data() + (dtype == DType::kQ6_K ? 208 : 0), &scale, sizeof(scale));
      std::vector<float> out(info.block_elements);
      Dequantize(dtype, block, out);
      for (const float value : out) ASSERT_FALSE(std::isfinite(value));
    }
  }
}

TEST(Dequantize, RowsAreWhereTheyShouldBe) {
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  TensorView tensor = {"t", DType::kF32, {3, 2}, std::as_bytes(std::span(values))};
  std::vector<float> row(2);
  DequantizeRow(tensor, 2, row);
  EXPECT_EQ(row, (std::vector<float>{5, 6}));
  EXPECT_THROW(DequantizeRow(tensor, 3, row), Error);
  std::vector<float> wrong(3);
  EXPECT_THROW(DequantizeRow(tensor, 0, wrong), Error);
  tensor.shape = {};
  EXPECT_THROW(DequantizeRow(tensor, 0, row), Error);
}

TEST(Dequantize, RefusesSizesThatDoNotFit) {
  const std::vector<std::byte> block(18);
  std::vector<float> out(32);
  EXPECT_NO_THROW(Dequantize(DType::kQ4_0, block, out));
  EXPECT_THROW(Dequantize(DType::kQ4_0, std::span(block).first(17), out), Error);
  EXPECT_THROW(Dequantize(DType::kQ4_0, block, std::span(out).first(31)), Error);
  EXPECT_THROW(Dequantize(static_cast<DType>(kNumDTypes), block, out), Error);
  EXPECT_NO_THROW(Dequantize(DType::kQ4_0, {}, {}));
}

TEST(StorageBytes, CountsWholeBlocksAndDoesNotWrap) {
  EXPECT_EQ(StorageBytes(DType::kQ4_0, 0), 0U);
  EXPECT_EQ(StorageBytes(DType::kQ4_0, 64), 36U);
  EXPECT_EQ(StorageBytes(DType::kQ4_0, 33), std::nullopt);
  EXPECT_EQ(StorageBytes(DType::kQ6_K, 512), 420U);
  EXPECT_EQ(StorageBytes(DType::kF32, UINT64_MAX / 4), UINT64_MAX / 4 * 4);
  EXPECT_EQ(StorageBytes(DType::kF32, UINT64_MAX / 4 + 1), std::nullopt);
  EXPECT_EQ(StorageBytes(DType::kQ8_0, (UINT64_MAX / 34 + 1) * 32), std::nullopt);
}

// binary16 by its definition: (-1)^s * 2^(e - 15) * 1.m, subnormals 2^-14 * 0.m.
double HalfByDefinition(uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1F;
  const double mantissa = bits & 0x3FF;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(mantissa + 1024, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

TEST(Half, ToFloatIsExactForAll) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const auto bits = static_cast<uint16_t>(h);
    const float found = HalfToFloat(bits);
    if ((bits & 0x7C00) == 0x7C00) {
      ASSERT_EQ(std::isinf(found), (bits & 0x3FF) == 0) << h;
      ASSERT_EQ(std::isnan(found), (bits & 0x3FF) != 0) << h;
      ASSERT_EQ(std::signbit(found), (bits & 0x8000) != 0) << h;
    } else {
      ASSERT_EQ(Bits(found), Bits(static_cast<float>(HalfByDefinition(bits)))) << h;
    }
  }
}

TEST(Half, FromFloatInvertsAndRoundsToEven) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const auto bits = static_cast<uint16_t>(h);
    if ((bits & 0x7C00) == 0x7C00 && (bits & 0x3FF) != 0) {
      ASSERT_EQ(FloatToHalf(HalfToFloat(bits)) & 0x7C00, 0x7C00) << "NaN stays NaN";
      ASSERT_NE(FloatToHalf(HalfToFloat(bits)) & 0x3FF, 0) << "NaN stays NaN";
      continue;
    }
    ASSERT_EQ(FloatToHalf(HalfToFloat(bits)), bits);
    if ((bits & 0x7FFF) >= 0x7BFF) continue;
    // The middle between this half and the next one away from zero is exact in f32: a tie. Its neighbours are not.
    const auto next = static_cast<uint16_t>(bits + 1);
    const auto middle = static_cast<float>((HalfByDefinition(bits) + HalfByDefinition(next)) / 2);
    const float away = middle < 0 ? -HUGE_VALF : HUGE_VALF;
    ASSERT_EQ(FloatToHalf(middle), bits % 2 == 0 ? bits : next) << h;
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, 0.0F)), bits) << h;
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, away)), next) << h;
  }
  EXPECT_EQ(FloatToHalf(65519.996F), 0x7BFF);
  EXPECT_EQ(FloatToHalf(65520.0F), 0x7C00) << "the tie above the largest half goes to infinity";
  EXPECT_EQ(FloatToHalf(-3e38F), 0xFC00);
  EXPECT_EQ(FloatToHalf(-std::numeric_limits<float>::denorm_min()), 0x8000);
}

}  // namespace
}  // namespace gateskip
