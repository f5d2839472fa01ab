// SPDX-License-Identifier: Apache-2.0
// The laws of rounding: how far a stored value may be from its own, that a search never leaves more weighted error than
// ranges from extremes, that it leaves much less where there is something to gain, and that weights steer it.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "gateskip/error.h"
#include "tensor/dequantize.h"
#include "tensor/quantize.h"

namespace gateskip {
namespace {

constexpr size_t kValues = 4096;

struct Format {
  DType dtype;
  double levels;       // steps from one end of a (sub-)block's range to the other
  bool symmetric;      // the range is centred on 0
  double integer;      // the largest that a stored factor is multiplied by to give a scale
  double scale_error;  // of the scale as stored, relative to the largest of the block
  double gain;         // least share of the error that a search takes off Gaussian numbers
};
// A factor is stored in f16 (2^-11), in the K formats a scale as an integer of 6 or 8 bits, too: half a unit of it.
constexpr Format kFormats[] = {
    {DType::kQ4_0, 16, true, 1, 0x1p-11, 0.09},     {DType::kQ4_1, 15, false, 1, 0x1p-11, 0.10},
    {DType::kQ5_0, 32, true, 1, 0x1p-11, 0.04},     {DType::kQ5_1, 31, false, 1, 0x1p-11, 0.04},
    {DType::kQ8_0, 254, true, 1, 0x1p-11, 0.0},     {DType::kQ4_K, 15, false, 63, 1.0 / 126, 0.10},
    {DType::kQ5_K, 31, false, 63, 1.0 / 126, 0.05}, {DType::kQ6_K, 64, true, 128, 1.0 / 256, 0.02},
};

std::vector<std::vector<float>> Inputs() {
  std::mt19937_64 random(7);
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> inputs;
  for (const float scale : {1.0F, 0.02F, 1e-6F, 300.0F}) {
    std::vector<float> values(kValues);
    for (float& v : values) v = scale * normal(random);
    inputs.push_back(values);
    for (size_t i = 0; i < kValues; i += 37) values[i] *= 10.0F;  // outliers
    inputs.push_back(values);
    for (float& v : values) v = std::fabs(v) + scale;  // far from 0 on one side
    inputs.push_back(values);
    for (float& v : values) v = -v;
    inputs.push_back(values);
  }
  inputs.emplace_back(kValues, 0.0F);
  inputs.emplace_back(kValues, -3.0F);
  return inputs;
}

std::vector<std::vector<float>> Weights() {
  std::mt19937_64 random(8);
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> weights = {std::vector<float>(kValues, 1.0F), std::vector<float>(kValues, 0.0F)};
  std::vector<float> spread(kValues);
  for (float& w : spread) w = std::exp(3.0F * normal(random));
  weights.push_back(spread);
  for (size_t i = 0; i < kValues; i += 2) spread[i] = 0.0F;
  weights.push_back(spread);
  for (float& w : spread) w *= 1e-12F;
  weights.push_back(spread);
  return weights;
}

std::vector<float> Stored(DType dtype, const std::vector<float>& values, const std::vector<float>* weights) {
  std::vector<std::byte> bytes(*StorageBytes(dtype, values.size()));
  const bool fits =
      weights == nullptr ? Quantize(dtype, values, bytes) : QuantizeSearched(dtype, values, *weights, bytes);
  EXPECT_TRUE(fits) << GetDTypeInfo(dtype).name;
  std::vector<float> back(values.size());
  Dequantize(dtype, bytes, back);
  return back;
}

double WeightedError(const std::vector<float>& values, const std::vector<float>& stored,
                     const std::vector<float>& weights, size_t begin, size_t end) {
  double error = 0;
  for (size_t i = begin; i < end; ++i) {
    const double off = static_cast<double>(values[i]) - static_cast<double>(stored[i]);
    error += static_cast<double>(weights[i]) * off * off;
  }
  return error;
}

// A plain block's values are within a step of theirs: half of one where codes are rounded, a whole one at the end that
// a symmetric range of an even number of codes lacks; and a scale that is off by e moves the far end by levels * e.
TEST(QuantizeLaws, PlainValuesAreWithinAStep) {
  for (const Format& format : kFormats) {
    for (const std::vector<float>& values : Inputs()) {
      const std::vector<float> stored = Stored(format.dtype, values, nullptr);
      const size_t super = GetDTypeInfo(format.dtype).block_elements;
      for (size_t i = 0; i < kValues; ++i) {
        // The range that the step follows from: of the super-block, whose largest scale the others are rounded by.
        double low = 0;
        double high = 0;
        for (size_t j = i / super * super; j < (i / super + 1) * super; ++j) {
          low = std::min(low, static_cast<double>(values[j]));
          high = std::max(high, static_cast<double>(values[j]));
        }
        const double range = format.symmetric ? 2 * std::max(-low, high) : high - low;
        const double step = range / format.levels;
        // A scale and a minimum, each off by scale_error of the whole range; half the smallest f16 for tiny factors.
        const double tolerance = step + 2 * range * format.scale_error + (format.levels + 1) * format.integer * 0x1p-25;
        ASSERT_LE(std::fabs(values[i] - stored[i]), tolerance) << GetDTypeInfo(format.dtype).name << " " << i;
      }
    }
  }
}

TEST(QuantizeLaws, SearchNeverLeavesMoreThanPlain) {
  for (const Format& format : kFormats) {
    const size_t block = GetDTypeInfo(format.dtype).block_elements;
    for (const std::vector<float>& values : Inputs()) {
      const std::vector<float> plain = Stored(format.dtype, values, nullptr);
      for (const std::vector<float>& weights : Weights()) {
        const std::vector<float> searched = Stored(format.dtype, values, &weights);
        for (size_t b = 0; b < kValues; b += block) {
          ASSERT_LE(WeightedError(values, searched, weights, b, b + block),
                    WeightedError(values, plain, weights, b, b + block))
              << GetDTypeInfo(format.dtype).name << " block at " << b;
        }
      }
    }
  }
}

TEST(QuantizeLaws, SearchGainsOnGaussianNumbers) {
  const std::vector<float> values = Inputs()[0];
  const std::vector<float> ones(kValues, 1.0F);
  for (const Format& format : kFormats) {
    const double plain = WeightedError(values, Stored(format.dtype, values, nullptr), ones, 0, kValues);
    const double searched = WeightedError(values, Stored(format.dtype, values, &ones), ones, 0, kValues);
    EXPECT_LT(searched, plain * (1 - format.gain)) << GetDTypeInfo(format.dtype).name << " " << searched / plain;
  }
}

// Columns that count for more come out nearer than without weights.
TEST(QuantizeLaws, WeightsSteerTheSearch) {
  const std::vector<float> values = Inputs()[1];
  const std::vector<float> ones(kValues, 1.0F);
  std::vector<float> heavy(kValues, 0.0F);
  for (size_t i = 0; i < kValues; i += 4) heavy[i] = 1.0F;
  for (const Format& format : kFormats) {
    const double unweighted = WeightedError(values, Stored(format.dtype, values, &ones), heavy, 0, kValues);
    const double weighted = WeightedError(values, Stored(format.dtype, values, &heavy), heavy, 0, kValues);
    EXPECT_LT(weighted, 0.9 * unweighted) << GetDTypeInfo(format.dtype).name;
  }
}

// Ten times coarser data leaves the codes as they are: nothing in the search knows an absolute size.
TEST(QuantizeLaws, PowersOfTwoScaleThrough) {
  const std::vector<float> values = Inputs()[1];
  std::vector<float> larger = values;
  for (float& v : larger) v *= 16.0F;
  const std::vector<float> weights = Weights()[2];
  for (const Format& format : kFormats) {
    const std::vector<float> small = Stored(format.dtype, values, &weights);
    const std::vector<float> large = Stored(format.dtype, larger, &weights);
    for (size_t i = 0; i < kValues; ++i) ASSERT_EQ(small[i] * 16.0F, large[i]) << GetDTypeInfo(format.dtype).name;
  }
}

TEST(QuantizeLaws, FloatsAreRoundedAsEver) {
  const std::vector<float> values = Inputs()[0];
  const std::vector<float> weights = Weights()[2];
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    EXPECT_EQ(Stored(dtype, values, &weights), Stored(dtype, values, nullptr));
  }
}

TEST(QuantizeLaws, RefusesWeightsThatAreNone) {
  const std::vector<float> values(32, 1.0F);
  std::vector<std::byte> bytes(*StorageBytes(DType::kQ4_0, 32));
  for (const float bad : {-1.0F, HUGE_VALF, std::nanf("")}) {
    std::vector<float> weights(32, 1.0F);
    weights[3] = bad;
    EXPECT_THROW((void)QuantizeSearched(DType::kQ4_0, values, weights, bytes), Error);
  }
  EXPECT_THROW((void)QuantizeSearched(DType::kQ4_0, values, std::vector<float>(31), bytes), Error);
}

}  // namespace
}  // namespace gateskip
