// SPDX-License-Identifier: Apache-2.0
// The per-row ops on every CPU target of this machine, against double precision.
//
// Tolerances: an op of n rounded steps is within n half-ulps (2^-24) of its terms' magnitude; exp and what is built on
// it within 4 ulp of the value, tanh through exp within 8.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/packed_layout.h"
#include "kernels/test_weights.h"

namespace gateskip::kernels {
namespace {

constexpr double kUlp = 0x1p-23;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class RowOpsTest : public ::testing::TestWithParam<CpuTarget> {
 protected:
  void SetUp() override {
    before_ = ActiveCpuTarget();
    ForceCpuTarget(GetParam());
  }
  void TearDown() override { ForceCpuTarget(before_); }
  ThreadPool pool_{2};
  CpuTarget before_ = CpuTarget::kScalar;
};

MatrixView View(std::vector<float>& values, size_t rows) {
  return {values.data(), rows, values.size() / rows, values.size() / rows};
}

TEST_P(RowOpsTest, RmsNormAlsoInPlace) {
  for (const size_t n : {size_t{1}, size_t{15}, size_t{64}, size_t{579}}) {
    std::vector<float> x = RandomFloats(3 * n, 1);
    const std::vector<float> weight = RandomFloats(n, 2);
    std::vector<float> out(3 * n);
    RmsNorm(View(x, 3), weight, 1e-5F, View(out, 3), pool_);
    for (size_t r = 0; r < 3; ++r) {
      double square = 0;
      for (size_t i = 0; i < n; ++i) square += static_cast<double>(x[r * n + i]) * x[r * n + i];
      const double scale = 1.0 / std::sqrt(square / static_cast<double>(n) + 1e-5F);
      for (size_t i = 0; i < n; ++i) {
        const double expected = x[r * n + i] * scale * weight[i];
        // The squares are summed in 16 or more lanes: n / 16 + 4 roundings, halved by the root.
        EXPECT_NEAR(out[r * n + i], expected, std::fabs(expected) * kUlp * (static_cast<double>(n) / 16 + 8));
      }
    }
    RmsNorm(View(x, 3), weight, 1e-5F, View(x, 3), pool_);
    EXPECT_EQ(x, out);
  }
}

TEST_P(RowOpsTest, RmsNormHeadsIsRmsNormOfEverySlice) {
  std::vector<float> x = RandomFloats(5 * 96, 3);
  const std::vector<float> weight = RandomFloats(32, 4);
  std::vector<float> slices = x;
  RmsNorm({slices.data(), 15, 32, 32}, weight, 1e-6F, {slices.data(), 15, 32, 32}, pool_);
  RmsNormHeads(View(x, 5), 32, weight, 1e-6F, pool_);
  EXPECT_EQ(x, slices);
}

TEST_P(RowOpsTest, DotRows) {
  for (const size_t n : {size_t{1}, size_t{17}, size_t{576}}) {
    std::vector<float> x = RandomFloats(4 * n, 5);
    const std::vector<float> weight = RandomFloats(n, 6);
    std::vector<float> scores(4);
    DotRows(View(x, 4), weight, 0.5F, scores, pool_);
    for (size_t r = 0; r < 4; ++r) {
      double sum = 0.5;
      double magnitude = 0.5;
      for (size_t i = 0; i < n; ++i) {
        sum += static_cast<double>(x[r * n + i]) * weight[i];
        magnitude += std::fabs(static_cast<double>(x[r * n + i]) * weight[i]);
      }
      EXPECT_NEAR(scores[r], sum, magnitude * kUlp * (static_cast<double>(n) / 16 + 8));
    }
  }
}

TEST_P(RowOpsTest, SigmoidMean) {
  constexpr size_t kCols = 67;
  std::vector<float> logits = RandomFloats(3 * kCols, 7, 5.0F);
  logits[3] = 100.0F;
  logits[4] = -100.0F;
  const std::vector<float> bias = RandomFloats(kCols, 8);
  std::vector<float> importance(3);
  std::vector<float> gates(3 * kCols);
  MatrixView view = View(gates, 3);
  SigmoidMeanRows(View(logits, 3), bias, importance, &view, pool_);
  for (size_t r = 0; r < 3; ++r) {
    double mean = 0;
    for (size_t i = 0; i < kCols; ++i) {
      const double expected = 1.0 / (1.0 + std::exp(-(static_cast<double>(logits[r * kCols + i]) + bias[i])));
      // exp turns the rounding of the sum (half an ulp of up to 128: 2^-18) into a relative error.
      EXPECT_NEAR(gates[r * kCols + i], expected, expected * (0x1p-18 + 8 * kUlp) + 1e-37);
      mean += expected / kCols;
    }
    EXPECT_NEAR(importance[r], mean, 0x1p-18);
  }
  std::vector<float> alone(3);
  SigmoidMeanRows(View(logits, 3), bias, alone, nullptr, pool_);
  EXPECT_EQ(alone, importance);
}

TEST_P(RowOpsTest, RopeRotatesPairsOfBothLayouts) {
  const std::vector<int32_t> positions = {0, 3, 1000};
  for (const size_t n : {size_t{3}, size_t{16}, size_t{37}}) {  // angles; a head has two elements more than they rotate
    std::vector<float> frequencies(n);
    for (size_t i = 0; i < n; ++i) frequencies[i] = 1.0F / static_cast<float>(1 + i * i);
    RopeTable table(frequencies);
    for (const int32_t p : positions) table.Cover(p);
    const size_t head_dim = 2 * n + 2;
    for (const RopeLayout layout : {RopeLayout::kInterleaved, RopeLayout::kHalves}) {
      std::vector<float> x = RandomFloats(3 * 2 * head_dim, 9);
      const std::vector<float> before = x;
      Rope(View(x, 3), head_dim, layout, table, positions, pool_);
      for (size_t head = 0; head < 6; ++head) {
        const size_t at = head * head_dim;
        for (size_t i = 0; i < n; ++i) {
          const bool pairs = layout == RopeLayout::kInterleaved;
          const size_t first = at + (pairs ? 2 * i : i);
          const size_t second = at + (pairs ? 2 * i + 1 : i + n);
          const double angle = static_cast<float>(positions[head / 2]) * frequencies[i];
          const double a = before[first];
          const double b = before[second];
          EXPECT_NEAR(x[first], a * std::cos(angle) - b * std::sin(angle), 4 * kUlp * (std::fabs(a) + std::fabs(b)));
          EXPECT_NEAR(x[second], a * std::sin(angle) + b * std::cos(angle), 4 * kUlp * (std::fabs(a) + std::fabs(b)));
        }
        for (size_t i = 2 * n; i < head_dim; ++i) EXPECT_EQ(x[at + i], before[at + i]) << "beyond the rotated part";
      }
    }
  }
}

TEST_P(RowOpsTest, GatedActivationsOverTheWholeRange) {
  std::vector<float> range;
  for (float v = -30; v <= 30; v += 0.37F) range.push_back(v);
  for (const float v : {0.0F, -0.0F, 1e-20F, -1e-20F, 90.0F, -90.0F}) range.push_back(v);
  std::vector<float> up = RandomFloats(range.size(), 10);
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    std::vector<float> gate = range;
    GatedActivation(activation, View(gate, 1), View(up, 1), pool_);
    for (size_t i = 0; i < range.size(); ++i) {
      const double v = range[i];
      const double expected =
          activation == Activation::kSilu
              ? v / (1 + std::exp(-v))
              : 0.5 * v * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (v + 0.044715 * v * v * v)));
      // 1 + tanh cancels for negative v: its absolute error is that of tanh, 8 ulp of 1, times |v|.
      const double tolerance = activation == Activation::kSilu
                                   ? std::fabs(expected) * kUlp * (8 + std::fabs(v))
                                   : std::fabs(v) * 8 * kUlp + std::fabs(expected) * 8 * kUlp;
      // exp saturates where its argument leaves [-87, 88]: what is left there is below |v| e^-87.
      const double floor = std::fabs(v) * std::exp(-87.0);
      EXPECT_NEAR(gate[i], expected * up[i], (tolerance + floor) * std::fabs(up[i])) << v;
    }
  }
}

TEST_P(RowOpsTest, ScatterAddTouchesOnlyItsRows) {
  constexpr size_t kCols = 35;
  std::vector<float> branch = RandomFloats(2 * kCols, 11);
  std::vector<float> scalar = {0.5F, -2.0F};
  std::vector<float> vector = RandomFloats(2 * kCols, 12);
  const std::vector<int32_t> rows = {3, 1};
  for (int kind = 0; kind < 3; ++kind) {
    std::vector<float> x = RandomFloats(4 * kCols, 13);
    const std::vector<float> before = x;
    const ConstMatrixView gates = kind == 1 ? ConstMatrixView(View(scalar, 2)) : ConstMatrixView(View(vector, 2));
    ScatterAdd(View(branch, 2), rows, kind == 0 ? nullptr : &gates, View(x, 4), pool_);
    for (size_t i = 0; i < 2; ++i) {
      for (size_t c = 0; c < kCols; ++c) {
        const size_t at = static_cast<size_t>(rows[i]) * kCols + c;
        const double gate = kind == 0 ? 1.0 : kind == 1 ? scalar[i] : vector[i * kCols + c];
        const double added = gate * branch[i * kCols + c];
        EXPECT_NEAR(x[at], before[at] + added, kUlp * (std::fabs(before[at]) + std::fabs(added)));
      }
    }
    for (const size_t untouched : {size_t{0}, size_t{2}}) {
      for (size_t c = 0; c < kCols; ++c) EXPECT_EQ(x[untouched * kCols + c], before[untouched * kCols + c]);
    }
  }
}

TEST_P(RowOpsTest, LogSumExpStableAndDefinedAtTheEdges) {
  EXPECT_FLOAT_EQ(LogSumExp(std::vector<float>{0.0F, 0.0F}), std::log(2.0F));
  EXPECT_FLOAT_EQ(LogSumExp(std::vector<float>{1000.0F, 1000.0F}), 1000.0F + std::log(2.0F));
  EXPECT_EQ(LogSumExp(std::vector<float>{-kInfinity, -kInfinity}), -kInfinity);
  EXPECT_FLOAT_EQ(LogSumExp(std::vector<float>{-kInfinity, 1.0F}), 1.0F);
  for (size_t at = 0; at < 20; ++at) {
    std::vector<float> x(20, 1.0F);
    x[at] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isnan(LogSumExp(x))) << at;
  }
  for (const size_t n : {size_t{1}, size_t{15}, size_t{33}, size_t{5000}}) {
    const std::vector<float> x = RandomFloats(n, 21);
    double sum = 0;
    for (const float v : x) sum += std::exp(static_cast<double>(v));
    // Each exponential is within 4 ulp, so is their sum; the logarithm turns that into as much, absolute. Two
    // roundings.
    EXPECT_NEAR(LogSumExp(x), std::log(sum), 4 * kUlp + 2 * kUlp * std::max(1.0, std::fabs(std::log(sum)))) << n;
  }
}

TEST_P(RowOpsTest, ArgMaxIsTheFirstOfTheLargest) {
  for (const size_t n : {size_t{1}, size_t{16}, size_t{17}, size_t{100}}) {
    for (size_t at = 0; at < n; ++at) {
      std::vector<float> x(n, -3.0F);
      x[at] = -2.0F;
      x[n - 1] = -2.0F;
      EXPECT_EQ(ArgMax(x), at) << n;
    }
  }
}

// The cache's 16-bit floats, through StoreKv: what the portable conversion gives, for every class of number.
TEST_P(RowOpsTest, KeysAndValuesAreStoredAsThePortableConversionHasThem) {
  std::vector<float> numbers = {
      0.0F,      -0.0F,    1.0F,     65504.0F, 65519.9F,   65520.0F,        -1e30F,
      kInfinity, 0x1p-14F, 0x1p-24F, 0x1p-25F, 0x1.8p-25F, 1.0F + 0x1p-11F, 1.0F + 0x1.8p-10F};
  const std::vector<float> random = RandomFloats(40 - numbers.size(), 22);
  numbers.insert(numbers.end(), random.begin(), random.end());
  const KvShape shape = {2, 20, KvType::kF16};
  std::vector<std::byte> page(KvLayerBytes(shape));
  const size_t slot = 5;
  StoreKv(shape, page.data(), slot, numbers.data(), numbers.data());
  const auto* halves = reinterpret_cast<const uint16_t*>(page.data());
  for (size_t i = 0; i < numbers.size(); ++i) {
    const uint16_t* keys = halves + i / 20 * 2 * 20 * kKvPagePositions;
    EXPECT_EQ(keys[i % 20 * kKvPagePositions + slot], FloatToHalf(numbers[i])) << numbers[i];
    EXPECT_EQ(keys[20 * kKvPagePositions + slot * 20 + i % 20], FloatToHalf(numbers[i])) << numbers[i];
  }
}

// The cache's 8-bit blocks: every element within half a code of what was stored, nothing else in the page touched.
TEST_P(RowOpsTest, KeysAndValuesInEightBitsAreWithinHalfACode) {
  constexpr size_t kHeads = 2;
  constexpr size_t kSlot = 37;
  for (const size_t head_dim : {size_t{16}, size_t{20}, size_t{64}, size_t{80}}) {
    std::vector<float> k = RandomFloats(kHeads * head_dim, 23);
    const std::vector<float> v = RandomFloats(kHeads * head_dim, 24, 1e-3F);
    std::fill_n(k.begin(), head_dim, 0.0F);
    const KvShape shape = {kHeads, head_dim, KvType::kQ8};
    const KvHeadLayout at = LayoutOfKvHead(shape);
    const size_t blocks = NumBlocks(head_dim);
    std::vector<std::byte> page(KvLayerBytes(shape), std::byte{0x5A});
    StoreKv(shape, page.data(), kSlot, k.data(), v.data());
    size_t written = 0;
    for (size_t h = 0; h < kHeads; ++h) {
      const std::byte* head = page.data() + h * at.bytes;
      const auto* keys = reinterpret_cast<const int8_t*>(head);
      const auto* values = reinterpret_cast<const int8_t*>(head + at.values);
      const auto* key_scales = reinterpret_cast<const float*>(head + at.key_scales);
      const auto* value_scales = reinterpret_cast<const float*>(head + at.value_scales);
      for (size_t d = 0; d < head_dim; ++d) {
        const float key_scale = key_scales[d / kBlock * kKvPagePositions + kSlot];
        const float value_scale = value_scales[kSlot * blocks + d / kBlock];
        const float key = static_cast<float>(keys[d * kKvPagePositions + kSlot]) * key_scale;
        const float value = static_cast<float>(values[kSlot * head_dim + d]) * value_scale;
        // The scale's rounding moves the largest code by 127 half-ulps of it: far below 1e-4 of a code.
        EXPECT_LE(std::fabs(key - k[h * head_dim + d]), 0.5001F * key_scale);
        EXPECT_LE(std::fabs(value - v[h * head_dim + d]), 0.5001F * value_scale);
        EXPECT_LE(std::abs(static_cast<int>(values[kSlot * head_dim + d])), 127);
      }
    }
    for (const std::byte byte : page) written += byte != std::byte{0x5A} ? 1 : 0;
    EXPECT_LE(written, kHeads * 2 * (head_dim + blocks * sizeof(float)));
  }
}

std::string TargetName(const ::testing::TestParamInfo<CpuTarget>& info) {
  return std::string(CpuTargetName(info.param));
}
INSTANTIATE_TEST_SUITE_P(Targets, RowOpsTest, ::testing::ValuesIn(SupportedCpuTargets()), TargetName);

}  // namespace
}  // namespace gateskip::kernels
