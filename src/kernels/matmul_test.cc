// SPDX-License-Identifier: Apache-2.0
// Linear layers on every CPU target of this machine: values against double precision, and row invariance in bits.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/packed_layout.h"
#include "kernels/test_weights.h"

namespace gateskip::kernels {
namespace {

constexpr double kHalfUlp = 0x1p-24;

struct Case {
  CpuTarget target;
  DType dtype;
};

std::string CaseName(const ::testing::TestParamInfo<Case>& info) {
  return std::string(CpuTargetName(info.param.target)) + "_" + std::string(GetDTypeInfo(info.param.dtype).name);
}

std::vector<Case> AllCases() {
  std::vector<Case> cases;
  for (const CpuTarget target : SupportedCpuTargets()) {
    for (int dtype = 0; dtype < kNumDTypes; ++dtype) cases.push_back({target, static_cast<DType>(dtype)});
  }
  return cases;
}

class MatMulTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    before_ = ActiveCpuTarget();
    ForceCpuTarget(GetParam().target);
  }
  void TearDown() override { ForceCpuTarget(before_); }

  // Lengths of K: the shortest, unrolled loops' edges, two vectors and one; whole blocks of the format.
  std::vector<size_t> AllColumns() const {
    const size_t block = GetDTypeInfo(GetParam().dtype).block_elements;
    if (block == 1) return {1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 83};
    return {block, 2 * block, 3 * block, 5 * block};
  }

  // A length of K that has whole blocks of the format, and is no multiple of 32 where the format allows it.
  size_t Columns() const {
    const size_t block = GetDTypeInfo(GetParam().dtype).block_elements;
    return block == 1 ? 83 : block == 32 ? 160 : 2 * block;
  }

  ThreadPool pool_{2};
  CpuTarget before_ = CpuTarget::kScalar;
};

std::vector<float> Multiply(const PackedMatrix& weight, ConstMatrixView x, std::span<const int32_t> rows,
                            ThreadPool& pool) {
  PackedRows packed;
  PackRows(x, rows, true, &packed, pool);
  std::vector<float> out(packed.num_rows * weight.rows);
  const Product product = {&weight, {out.data(), packed.num_rows, weight.rows, weight.rows}};
  MatMul(packed, {&product, 1}, pool);
  return out;
}

// The first rows of a tensor.
TensorView FirstRows(const RandomTensor& tensor, size_t rows) {
  TensorView view = tensor.view();
  view.data = view.data.first(view.data.size() / static_cast<size_t>(view.shape[0]) * rows);
  view.shape[0] = static_cast<int64_t>(rows);
  return view;
}

TEST_P(MatMulTest, EqualsDoublePrecisionWithinRounding) {
  for (const size_t cols : AllColumns()) {
    constexpr size_t kRows = 11;
    const std::vector<float> x = RandomFloats(kRows * cols, 5);
    for (const size_t out_rows : {size_t{1}, size_t{15}, size_t{16}, size_t{33}}) {
      const RandomTensor tensor(GetParam().dtype, out_rows, cols, 7);
      for (const PackFormat format : {PackFormat::kNative, PackFormat::kF32}) {
        const PackedMatrix weight = PackWeights(tensor.view(), format, pool_);
        const ConstMatrixView view = {x.data(), kRows, cols, cols};
        const std::vector<float> found = Multiply(weight, view, {}, pool_);
        PackedRows packed;
        PackRows(view, {}, true, &packed, pool_);
        const bool integer = IsIntegerLayout(weight.layout);
        std::vector<float> w(cols);
        for (size_t o = 0; o < out_rows; ++o) {
          DequantizeRow(tensor.view(), o, w);
          for (size_t r = 0; r < kRows; ++r) {
            double sum = 0;
            double magnitude = 0;
            for (size_t k = 0; k < cols; ++k) {
              const double value = integer ? static_cast<double>(packed.codes[r * RoundUp(cols, kBlock) + k]) *
                                                 static_cast<double>(packed.scales[r * NumBlocks(cols) + k / kBlock])
                                           : static_cast<double>(x[r * cols + k]);
              sum += static_cast<double>(w[k]) * value;
              magnitude += std::fabs(static_cast<double>(w[k]) * value);
            }
            // Integer blocks: the dot product is exact, each block rounds its scale product, its term and its sum, and
            // the code's offset from zero makes the terms up to four times the weights. Floats: every k rounds.
            const double roundings =
                integer ? 3.0 * static_cast<double>(NumBlocks(cols)) * 4 : static_cast<double>(cols);
            ASSERT_NEAR(found[r * out_rows + o], sum, roundings * kHalfUlp * magnitude)
                << out_rows << " outputs, output " << o << " row " << r << " format " << static_cast<int>(format);
          }
        }
      }
    }
  }
}

// Outputs beyond the last whole panel: their bits are those of a whole one, and nothing is written beside them.
TEST_P(MatMulTest, AnOutputDependsOnItsOwnWeightsOnly) {
  ThreadPool one(1);
  const size_t cols = Columns();
  constexpr size_t kOut = 2 * kPanelRows + 1;
  const RandomTensor tensor(GetParam().dtype, kOut, cols, 19);
  for (const size_t rows : {size_t{1}, size_t{7}}) {
    const std::vector<float> x = RandomFloats(rows * cols + 1, 20);
    const ConstMatrixView view = {x.data() + 1, rows, cols, cols};  // aligned for nothing but floats
    for (const PackFormat format : {PackFormat::kNative, PackFormat::kF32, PackFormat::kQ8, PackFormat::kQ4}) {
      const std::vector<float> all = Multiply(PackWeights(tensor.view(), format, one), view, {}, one);
      for (size_t out_rows = 1; out_rows <= kOut; ++out_rows) {
        const PackedMatrix weight = PackWeights(FirstRows(tensor, out_rows), format, one);
        PackedRows packed;
        PackRows(view, {}, true, &packed, one);
        constexpr float kUntouched = 77.0F;
        const size_t stride = out_rows + 3;
        std::vector<float> out(1 + rows * stride, kUntouched);
        const Product product = {&weight, {out.data() + 1, rows, out_rows, stride}};
        MatMul(packed, {&product, 1}, one);
        for (size_t i = 0; i < out.size(); ++i) {
          const size_t column = i == 0 ? out_rows : (i - 1) % stride;
          const float expected = column < out_rows ? all[(i - 1) / stride * kOut + column] : kUntouched;
          ASSERT_EQ(out[i], expected) << out_rows << " outputs, element " << i;
        }
      }
    }
  }
}

TEST_P(MatMulTest, EightBitRepackingStaysWithinHalfACode) {
  const size_t cols = Columns();
  const RandomTensor tensor(GetParam().dtype, 17, cols, 8);
  const PackedMatrix weight = PackWeights(tensor.view(), PackFormat::kQ8, pool_);
  const std::vector<float> x = RandomFloats(cols, 6);
  const std::vector<float> found = Multiply(weight, {x.data(), 1, cols, cols}, {}, pool_);
  PackedRows packed;
  PackRows({x.data(), 1, cols, cols}, {}, true, &packed, pool_);
  std::vector<float> w(cols);
  for (size_t o = 0; o < 17; ++o) {
    DequantizeRow(tensor.view(), o, w);
    double sum = 0;
    double bound = 0;
    for (size_t b = 0; b < cols; b += kBlock) {
      double largest = 0;
      double activations = 0;
      for (size_t k = b; k < std::min(cols, b + kBlock); ++k) {
        const double value = static_cast<double>(packed.codes[k]) * static_cast<double>(packed.scales[b / kBlock]);
        sum += static_cast<double>(w[k]) * value;
        activations += std::fabs(value);
        largest = std::max(largest, std::fabs(static_cast<double>(w[k])));
      }
      // Half a code of amax / 127, and the scale's own rounding to f16 or f32 (2^-11 of each weight at most).
      bound += (largest / 127 * 0.5 * 1.01 + largest * 0x1p-11) * activations;
    }
    EXPECT_NEAR(found[o], sum, bound) << "output " << o;
  }
}

TEST_P(MatMulTest, ARowsResultDependsOnNothingElse) {
  const size_t cols = Columns();
  constexpr size_t kRows = 21;
  const RandomTensor tensor(GetParam().dtype, 37, cols, 9);
  const std::vector<float> x = RandomFloats(kRows * cols, 10);
  const ConstMatrixView view = {x.data(), kRows, cols, cols};
  for (const PackFormat format : {PackFormat::kNative, PackFormat::kF32, PackFormat::kQ8}) {
    const PackedMatrix weight = PackWeights(tensor.view(), format, pool_);
    const std::vector<float> all = Multiply(weight, view, {}, pool_);
    for (int threads = 1; threads <= 4; ++threads) {
      ThreadPool other(threads);
      EXPECT_EQ(Multiply(weight, view, {}, other), all) << threads << " threads";
    }
    for (size_t count = 1; count <= kRows; ++count) {
      std::vector<int32_t> rows;
      for (size_t i = 0; i < count; ++i) rows.push_back(static_cast<int32_t>((i * 8 + count) % kRows));
      const std::vector<float> some = Multiply(weight, view, rows, pool_);
      for (size_t i = 0; i < count; ++i) {
        for (size_t o = 0; o < weight.rows; ++o) {
          ASSERT_EQ(some[i * weight.rows + o], all[static_cast<size_t>(rows[i]) * weight.rows + o])
              << count << " rows, row " << rows[i];
        }
      }
    }
  }
}

TEST_P(MatMulTest, JointProductsAndCountedBytes) {
  const size_t cols = Columns();
  const RandomTensor first(GetParam().dtype, 20, cols, 11);
  const RandomTensor second(GetParam().dtype, 50, cols, 12);
  const PackedMatrix a = PackWeights(first.view(), PackFormat::kNative, pool_);
  const PackedMatrix b = PackWeights(second.view(), PackFormat::kNative, pool_);
  const std::vector<float> x = RandomFloats(3 * cols, 13);
  const ConstMatrixView view = {x.data(), 3, cols, cols};
  PackedRows packed;
  PackRows(view, {}, true, &packed, pool_);
  std::vector<float> out_a(3 * 20);
  std::vector<float> out_b(3 * 50);
  const std::array<Product, 2> products = {{{&a, {out_a.data(), 3, 20, 20}}, {&b, {out_b.data(), 3, 50, 50}}}};
  const uint64_t before = WeightBytesRead();
  MatMul(packed, products, pool_);
  EXPECT_EQ(WeightBytesRead() - before, a.bytes + b.bytes);
  EXPECT_GE(a.bytes, *StorageBytes(GetParam().dtype, 20 * cols));
  EXPECT_EQ(out_a, Multiply(a, view, {}, pool_));
  EXPECT_EQ(out_b, Multiply(b, view, {}, pool_));
  // However the panels of both are dealt.
  for (int threads = 1; threads <= 7; ++threads) {
    ThreadPool other(threads);
    std::fill(out_a.begin(), out_a.end(), -1.0F);
    std::fill(out_b.begin(), out_b.end(), -1.0F);
    MatMul(packed, products, other);
    EXPECT_EQ(out_a, Multiply(a, view, {}, pool_)) << threads << " threads";
    EXPECT_EQ(out_b, Multiply(b, view, {}, pool_)) << threads << " threads";
  }
  // No rows: nothing is read.
  PackedRows none;
  PackRows({x.data(), 0, cols, cols}, {}, true, &none, pool_);
  const Product product = {&a, {out_a.data(), 0, 20, 20}};
  const uint64_t then = WeightBytesRead();
  MatMul(none, {&product, 1}, pool_);
  EXPECT_EQ(WeightBytesRead(), then);
}

INSTANTIATE_TEST_SUITE_P(Targets, MatMulTest, ::testing::ValuesIn(AllCases()), CaseName);

class TargetTest : public ::testing::TestWithParam<CpuTarget> {
 protected:
  void SetUp() override {
    before_ = ActiveCpuTarget();
    ForceCpuTarget(GetParam());
  }
  void TearDown() override { ForceCpuTarget(before_); }
  ThreadPool pool_{2};
  CpuTarget before_ = CpuTarget::kScalar;
};

TEST_P(TargetTest, LowRankDeltaEqualsDoublePrecision) {
  constexpr size_t kIn = 96, kOut = 40, kRank = 5, kRows = 6;
  const RandomTensor a(DType::kF32, kRank, kIn, 14);
  const RandomTensor b(DType::kF32, kOut, kRank, 15);
  const PackedMatrix pa = PackWeights(a.view(), PackFormat::kF32, pool_);
  const PackedMatrix pb = PackWeights(b.view(), PackFormat::kF32, pool_);
  const std::vector<float> x = RandomFloats(kRows * kIn, 16);
  const std::vector<float> start = RandomFloats(kRows * kOut, 17);
  std::vector<float> y = start;
  // The first factor's results lie between those of another matrix: strides are honoured.
  constexpr size_t kStride = kRank + 3;
  std::vector<float> first(kRows * kStride, 99.0F);
  const MatrixView inner_view = {first.data() + 1, kRows, kRank, kStride};
  PackedRows packed;
  PackRows({x.data(), kRows, kIn, kIn}, {}, false, &packed, pool_);
  const Product down = {&pa, inner_view};
  MatMul(packed, {&down, 1}, pool_);
  AddScaledProduct(inner_view, pb, 0.75F, {y.data(), kRows, kOut, kOut}, pool_);
  for (size_t i = 0; i < first.size(); ++i) {
    const size_t column = i % kStride;
    if (column < 1 || column > kRank) {
      EXPECT_EQ(first[i], 99.0F);
    }
  }
  std::vector<float> wa(kIn);
  std::vector<float> wb(kRank);
  for (size_t r = 0; r < kRows; ++r) {
    std::vector<double> inner(kRank);
    for (size_t j = 0; j < kRank; ++j) {
      DequantizeRow(a.view(), j, wa);
      for (size_t k = 0; k < kIn; ++k) inner[j] += static_cast<double>(wa[k]) * x[r * kIn + k];
    }
    for (size_t o = 0; o < kOut; ++o) {
      DequantizeRow(b.view(), o, wb);
      double sum = start[r * kOut + o];
      double magnitude = std::fabs(sum);
      for (size_t j = 0; j < kRank; ++j) {
        sum += 0.75 * wb[j] * inner[j];
        magnitude += std::fabs(0.75 * wb[j]) * 5;  // inner sums of 96 products of 0.1 x 1 stay below 5
      }
      EXPECT_NEAR(y[r * kOut + o], sum, (kIn + kRank + 2) * kHalfUlp * magnitude);
    }
  }
}

TEST_P(TargetTest, RowsAreQuantisedEachOnItsOwn) {
  constexpr size_t kCols = 83;
  std::vector<float> x = RandomFloats(4 * kCols, 18);
  for (size_t k = 0; k < kCols; ++k) x[kCols + k] = 0.0F;         // a row of zeros
  for (size_t k = 0; k < kCols; ++k) x[2 * kCols + k] *= 1e-30F;  // tiny
  for (size_t k = 0; k < kCols; ++k) x[3 * kCols + k] *= 1e30F;   // huge
  PackedRows packed;
  PackRows({x.data(), 4, kCols, kCols}, {}, true, &packed, pool_);
  const size_t blocks = NumBlocks(kCols);
  for (size_t r = 0; r < 4; ++r) {
    for (size_t b = 0; b < blocks; ++b) {
      float largest = 0;
      for (size_t k = b * kBlock; k < std::min(kCols, (b + 1) * kBlock); ++k) {
        largest = std::max(largest, std::fabs(x[r * kCols + k]));
      }
      const float scale = packed.scales[r * blocks + b];
      EXPECT_NEAR(scale, largest / 127, largest * 0x1p-22);
      for (size_t s = 0; s < 2; ++s) {
        int32_t sum = 0;
        for (size_t i = 0; i < kSubBlock; ++i) {
          const size_t k = b * kBlock + s * kSubBlock + i;
          const int code = packed.codes[r * blocks * kBlock + k];
          sum += code;
          ASSERT_LE(std::abs(code), 127);
          if (k < kCols) {
            ASSERT_LE(std::fabs(static_cast<float>(code) * scale - x[r * kCols + k]), 0.5001F * scale);
          } else {
            ASSERT_EQ(code, 0) << "padding";
          }
        }
        EXPECT_EQ(packed.sums[(r * blocks + b) * 2 + s], sum);
      }
    }
  }
}

std::string TargetName(const ::testing::TestParamInfo<CpuTarget>& info) {
  return std::string(CpuTargetName(info.param));
}
INSTANTIATE_TEST_SUITE_P(Targets, TargetTest, ::testing::ValuesIn(SupportedCpuTargets()), TargetName);

}  // namespace
}  // namespace gateskip::kernels
