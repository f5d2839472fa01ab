// SPDX-License-Identifier: Apache-2.0
// Block formats against ggml's reference quantisers, bit for bit (tests/golden/make_quant.py wrote the file); BF16 by
// its definition; what does not fit is refused, not stored as infinity.
#include "tensor/quantize.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gateskip/error.h"
#include "tensor/dequantize.h"

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

TEST(Quantize, EqualsTheReferenceBitForBit) {
  std::ifstream in(GATESKIP_TEST_DATA "/quantize.json");
  const nlohmann::json golden = nlohmann::json::parse(in);
  const std::vector<std::byte> raw = FromHex(golden.at("values"));
  std::vector<float> values(raw.size() / sizeof(float));
  std::memcpy(values.data(), raw.data(), raw.size());
  ASSERT_GE(values.size(), 640U);
  for (const DType dtype : {DType::kQ8_0, DType::kQ4_0, DType::kQ4_1}) {
    const DTypeInfo& info = GetDTypeInfo(dtype);
    SCOPED_TRACE(info.name);
    const std::vector<std::byte> expected = FromHex(golden.at(std::string(info.name)));
    std::vector<std::byte> found(*StorageBytes(dtype, values.size()));
    ASSERT_EQ(found.size(), expected.size());
    ASSERT_TRUE(Quantize(dtype, values, found));
    for (size_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(found[i], expected[i]) << "byte " << i % info.block_bytes << " of block " << i / info.block_bytes;
    }
  }
}

TEST(Quantize, FloatsComeBack) {
  const std::vector<float> values = {0.0F, -0.0F, 1.0F, -2.5F, 65504.0F, 0x1p-24F, 0x1.8p-14F, 0.33325195F};
  for (const DType dtype : {DType::kF32, DType::kF16}) {
    std::vector<std::byte> bytes(*StorageBytes(dtype, values.size()));
    ASSERT_TRUE(Quantize(dtype, values, bytes));
    std::vector<float> back(values.size());
    Dequantize(dtype, bytes, back);
    EXPECT_EQ(back, values) << GetDTypeInfo(dtype).name;
  }
}

// Every BF16 comes back; the middle of two goes to the even one, its neighbours to the nearer one.
TEST(Quantize, Bf16RoundsToNearestEven) {
  for (uint32_t high = 0; high < 0x7F7F; ++high) {
    for (const uint32_t sign : {0U, 0x8000U}) {
      const auto bits = static_cast<uint16_t>(high | sign);
      const auto next = static_cast<uint16_t>(bits + 1);
      const uint32_t middle = (static_cast<uint32_t>(bits) << 16) | 0x8000;
      ASSERT_EQ(FloatToBf16(Bf16ToFloat(bits)), bits);
      ASSERT_EQ(FloatToBf16(std::bit_cast<float>(middle)), bits % 2 == 0 ? bits : next);
      ASSERT_EQ(FloatToBf16(std::bit_cast<float>(middle - 1)), bits);
      ASSERT_EQ(FloatToBf16(std::bit_cast<float>(middle + 1)), next);
    }
  }
  EXPECT_TRUE(std::isnan(Bf16ToFloat(FloatToBf16(std::bit_cast<float>(0x7F800001U)))));
  EXPECT_EQ(FloatToBf16(HUGE_VALF), 0x7F80);
}

TEST(Quantize, RefusesWhatDoesNotFit) {
  constexpr float kMax = std::numeric_limits<float>::max();
  struct Case {
    DType dtype;
    float largest;  // that fits, alone in a block of zeros
    float beyond;
  };
  // Half rounds up to 65519.99; the scales are the largest value over 8, 15, 16, 31 and 127.
  for (const Case& c :
       {Case{DType::kF16, 65519.0F, 65520.0F}, Case{DType::kBF16, 0x1.FEp127F, kMax},
        Case{DType::kQ4_0, 65519.0F * 8, 65520.0F * 8}, Case{DType::kQ8_0, 65519.0F * 127, 65520.0F * 127},
        Case{DType::kQ4_1, 65519.0F * 15, 65520.0F * 15}, Case{DType::kQ5_0, 65519.0F * 16, 65520.0F * 16},
        Case{DType::kQ5_1, 65519.0F * 31, 65520.0F * 31}}) {
    SCOPED_TRACE(GetDTypeInfo(c.dtype).name);
    std::vector<std::byte> bytes(*StorageBytes(c.dtype, 32));
    std::vector<float> values(32);
    values[7] = c.largest;
    EXPECT_TRUE(Quantize(c.dtype, values, bytes));
    std::vector<float> back(32);
    Dequantize(c.dtype, bytes, back);
    EXPECT_TRUE(std::isfinite(back[7]));
    values[7] = c.beyond;
    EXPECT_FALSE(Quantize(c.dtype, values, bytes));
  }
  for (int type = 0; type < kNumDTypes; ++type) {
    const auto dtype = static_cast<DType>(type);
    std::vector<std::byte> bytes(*StorageBytes(dtype, 256));
    std::vector<float> values(256, 1.0F);
    for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
      values[31] = bad;
      EXPECT_FALSE(Quantize(dtype, values, bytes)) << GetDTypeInfo(dtype).name;
      EXPECT_FALSE(QuantizeSearched(dtype, values, {}, bytes)) << GetDTypeInfo(dtype).name;
    }
    values[31] = kMax;
    const bool fits = dtype == DType::kF32 || dtype == DType::kBF16;
    if (dtype != DType::kBF16) {
      EXPECT_EQ(QuantizeSearched(dtype, values, {}, bytes), fits) << GetDTypeInfo(dtype).name;
    }
  }
  // A span of the whole range of f32 has no scale at all.
  std::vector<float> wide(32, -kMax);
  wide[0] = kMax;
  std::vector<std::byte> bytes(20);
  EXPECT_FALSE(Quantize(DType::kQ4_1, wide, bytes));
}

// The inverse of a scale below 2^-128 is infinite.
TEST(Quantize, TinyBlocksBecomeZeros) {
  const std::vector<float> values(256, -1e-39F);
  for (int type = 0; type < kNumDTypes; ++type) {
    const auto dtype = static_cast<DType>(type);
    if (GetDTypeInfo(dtype).block_elements == 1) continue;
    std::vector<std::byte> bytes(*StorageBytes(dtype, 256));
    for (const bool searched : {false, true}) {
      ASSERT_TRUE(searched ? QuantizeSearched(dtype, values, {}, bytes) : Quantize(dtype, values, bytes));
      std::vector<float> back(256, 1.0F);
      Dequantize(dtype, bytes, back);
      for (const float value : back) EXPECT_EQ(value, 0.0F) << GetDTypeInfo(dtype).name;
    }
  }
}

TEST(Quantize, RefusesSizes) {
  const std::vector<float> values(32);
  std::vector<std::byte> bytes(18);
  EXPECT_THROW((void)Quantize(DType::kQ8_0, values, bytes), Error);
  EXPECT_THROW((void)Quantize(DType::kQ4_0, std::span(values).first(31), bytes), Error);
  EXPECT_THROW((void)Quantize(DType::kQ4_K, values, bytes), Error);
}

}  // namespace
}  // namespace gateskip
