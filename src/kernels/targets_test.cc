// SPDX-License-Identifier: Apache-2.0
// Every per-row kernel of every fast target this machine can run against the scalar reference: lengths 0 to two vectors
// and one, pointers that are aligned for nothing but their type, and nothing written beside the result. Products and
// attention, whose contracts are wider, have tests of their own (matmul_test.cc, attention_test.cc).
//
// Tolerances: each side rounds every step, at most half an ulp (2^-24) of its terms' magnitude; a sum of n terms is n
// steps on the scalar side and fewer on the other; exp, and what is built on it, is within 8 ulp on either side.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "kernels/packed_layout.h"
#include "kernels/test_weights.h"

namespace gateskip::kernels {
namespace {

constexpr size_t kLongest = 2 * 16 + 1;
constexpr double kHalfUlp = 0x1p-24;
constexpr double kExpError = 2 * 8 * 0x1p-23;

// `count` elements that begin `offset` elements after a 64-byte boundary, a fence of known bytes before and after them.
template <typename T>
class Fenced {
 public:
  Fenced(size_t count, size_t offset) : count_(count), begin_(kFence + offset), buffer_(begin_ + count + kFence) {
    std::memset(buffer_.data(), kByte, buffer_.bytes());
  }
  Fenced(const std::vector<T>& values, size_t offset) : Fenced(values.size(), offset) {
    std::copy(values.begin(), values.end(), data());
  }

  T* data() { return buffer_.data() + begin_; }
  T operator[](size_t i) const { return buffer_[begin_ + i]; }
  bool intact() const {
    const auto* bytes = reinterpret_cast<const unsigned char*>(buffer_.data());
    bool same = true;
    for (size_t i = 0; i < buffer_.bytes(); ++i) {
      const size_t element = i / sizeof(T);
      if (element < begin_ || element >= begin_ + count_) same = same && bytes[i] == kByte;
    }
    return same;
  }

 private:
  static constexpr size_t kFence = 64 / sizeof(T);
  static constexpr unsigned char kByte = 0xA5;
  size_t count_, begin_;
  AlignedBuffer<T> buffer_;
};

class TargetsTest : public ::testing::TestWithParam<CpuTarget> {
 protected:
  void SetUp() override {
    const CpuTarget before = ActiveCpuTarget();
    ForceCpuTarget(GetParam());
    fast_ = &ActiveKernels();
    ForceCpuTarget(before);
  }

  // Every length with every misalignment of the inputs and the output.
  static void ForShapes(const std::function<void(size_t n, size_t in, size_t out)>& check) {
    for (size_t n = 0; n <= kLongest; ++n) {
      for (size_t offset = 0; offset < 4; ++offset) check(n, offset, (3 * offset + 1) % 4);
    }
  }

  // y of both targets for an in-place op on y with one more input.
  using InPlace = std::function<void(const KernelTable&, const float* x, float* y, size_t n)>;
  void ExpectAlike(const InPlace& run, const std::function<double(double x, double y)>& tolerance) const {
    ForShapes([&](size_t n, size_t in, size_t out) {
      Fenced<float> x(RandomFloats(n, 1), in);
      const std::vector<float> y = RandomFloats(n, 2, 3.0F);
      Fenced<float> found(y, out);
      std::vector<float> expected = y;
      run(*fast_, x.data(), found.data(), n);
      run(scalar_, x.data(), expected.data(), n);
      for (size_t i = 0; i < n; ++i) {
        ASSERT_NEAR(found[i], expected[i], tolerance(x[i], y[i])) << "element " << i << " of " << n;
      }
      ASSERT_TRUE(found.intact() && x.intact()) << n;
    });
  }

  const KernelTable& scalar_ = ScalarKernels();
  const KernelTable* fast_ = nullptr;
};

TEST_P(TargetsTest, Add) {
  ExpectAlike([](const KernelTable& k, const float* x, float* y, size_t n) { k.add(x, n, y); },
              [](double, double) { return 0.0; });
}

TEST_P(TargetsTest, AddScaledAndAddProduct) {
  const auto two_roundings = [](double x, double y) { return 2 * kHalfUlp * (5 * std::fabs(x) + 2 * std::fabs(y)); };
  ExpectAlike([](const KernelTable& k, const float* x, float* y, size_t n) { k.add_scaled(x, 1.7F, n, y); },
              two_roundings);
  std::vector<float> gate = RandomFloats(kLongest, 3);
  for (float& g : gate) g = std::min(std::max(g, -2.5F), 2.5F);
  ExpectAlike([&](const KernelTable& k, const float* x, float* y, size_t n) { k.add_product(x, gate.data(), n, y); },
              two_roundings);
}

TEST_P(TargetsTest, GatedActivations) {
  const auto relative = [](double x, double y) { return kExpError * (1 + std::fabs(y)) * std::fabs(x * y) + 1e-37; };
  ExpectAlike([](const KernelTable& k, const float* x, float* y, size_t n) { k.gated_silu(y, x, n); }, relative);
  // 1 + tanh cancels where y is negative: the reference's error there is that of tanh, 8 ulp of 1.
  ExpectAlike([](const KernelTable& k, const float* x, float* y, size_t n) { k.gated_gelu(y, x, n); }, relative);
}

TEST_P(TargetsTest, Sigmoid) {
  ForShapes([&](size_t n, size_t in, size_t out) {
    Fenced<float> logits(RandomFloats(n, 4, 5.0F), in);
    Fenced<float> bias(RandomFloats(n, 5), out);
    Fenced<float> found(n, in);
    std::vector<float> expected(n);
    fast_->sigmoid(logits.data(), bias.data(), n, found.data());
    scalar_.sigmoid(logits.data(), bias.data(), n, expected.data());
    for (size_t i = 0; i < n; ++i) ASSERT_NEAR(found[i], expected[i], kExpError * expected[i]) << n;
    ASSERT_TRUE(found.intact());
  });
}

TEST_P(TargetsTest, DotAndSumExpAndArgMax) {
  ForShapes([&](size_t n, size_t in, size_t out) {
    Fenced<float> a(RandomFloats(n, 6), in);
    Fenced<float> b(RandomFloats(n, 7), out);
    double magnitude = 0;
    for (size_t i = 0; i < n; ++i) magnitude += std::fabs(static_cast<double>(a[i]) * b[i]);
    const auto steps = static_cast<double>(2 * n + 2);
    ASSERT_NEAR(fast_->dot(a.data(), b.data(), n), scalar_.dot(a.data(), b.data(), n), steps * kHalfUlp * magnitude);
    if (n == 0) return;
    const size_t largest = scalar_.arg_max(a.data(), n);
    ASSERT_EQ(fast_->arg_max(a.data(), n), largest);
    const double sum = scalar_.sum_exp(a.data(), n, a[largest]);
    ASSERT_NEAR(fast_->sum_exp(a.data(), n, a[largest]), sum, kExpError * sum);
  });
}

TEST_P(TargetsTest, RmsNormAlsoInPlace) {
  ForShapes([&](size_t n, size_t in, size_t out) {
    if (n == 0) return;  // no mean
    Fenced<float> x(RandomFloats(n, 8), in);
    Fenced<float> weight(RandomFloats(n, 9), out);
    Fenced<float> found(n, out);
    std::vector<float> expected(n);
    fast_->rms_norm(x.data(), weight.data(), n, 1e-5F, found.data());
    scalar_.rms_norm(x.data(), weight.data(), n, 1e-5F, expected.data());
    for (size_t i = 0; i < n; ++i) {
      // The mean's roundings, halved by the root, and six more steps, on both sides.
      ASSERT_NEAR(found[i], expected[i], (static_cast<double>(n) + 12) * kHalfUlp * std::fabs(expected[i])) << n;
    }
    ASSERT_TRUE(found.intact());
    fast_->rms_norm(x.data(), weight.data(), n, 1e-5F, x.data());
    for (size_t i = 0; i < n; ++i) ASSERT_EQ(x[i], found[i]);
    ASSERT_TRUE(x.intact());
  });
}

TEST_P(TargetsTest, Rope) {
  ForShapes([&](size_t n, size_t in, size_t out) {
    for (const RopeLayout layout : {RopeLayout::kInterleaved, RopeLayout::kHalves}) {
      Fenced<float> cosine(n, in);
      Fenced<float> sine(n, out);
      for (size_t i = 0; i < n; ++i) {
        cosine.data()[i] = std::cos(static_cast<float>(i) + 0.3F);
        sine.data()[i] = std::sin(static_cast<float>(i) + 0.3F);
      }
      const std::vector<float> head = RandomFloats(2 * n, 10);
      Fenced<float> found(head, out);
      std::vector<float> expected = head;
      fast_->rope(found.data(), layout, cosine.data(), sine.data(), n);
      scalar_.rope(expected.data(), layout, cosine.data(), sine.data(), n);
      for (size_t i = 0; i < 2 * n; ++i) {
        const bool pairs = layout == RopeLayout::kInterleaved;
        const float partner = head[pairs ? i ^ 1 : (i + n) % (2 * n)];
        // Three roundings on either side, of terms no larger than the two elements.
        ASSERT_NEAR(found[i], expected[i], 6 * kHalfUlp * (std::fabs(head[i]) + std::fabs(partner))) << n;
      }
      ASSERT_TRUE(found.intact());
    }
  });
}

TEST_P(TargetsTest, ToHalfIsExact) {
  ForShapes([&](size_t n, size_t in, size_t out) {
    Fenced<float> x(RandomFloats(n, 11, 1000.0F), in);
    Fenced<uint16_t> found(n, out);
    std::vector<uint16_t> expected(n);
    fast_->to_half(x.data(), n, found.data());
    scalar_.to_half(x.data(), n, expected.data());
    for (size_t i = 0; i < n; ++i) ASSERT_EQ(found[i], expected[i]) << x[i];
    ASSERT_TRUE(found.intact());
  });
}

TEST_P(TargetsTest, QuantizeRowIsTheSameToTheBit) {
  for (size_t n = 0; n <= 2 * kBlock + 1; ++n) {
    for (size_t offset = 0; offset < 4; ++offset) {
      const size_t blocks = NumBlocks(n);
      Fenced<float> x(RandomFloats(n, 12), offset);
      const auto run = [&](const KernelTable& kernels, Fenced<int8_t>& codes, Fenced<float>& scales,
                           Fenced<int32_t>& sums, Fenced<float>& scaled) {
        kernels.quantize_row(x.data(), n, {codes.data(), scales.data(), sums.data(), scaled.data()});
        ASSERT_TRUE(codes.intact() && scales.intact() && sums.intact() && scaled.intact()) << n;
      };
      Fenced<int8_t> codes(blocks * kBlock, offset), expected_codes(blocks * kBlock, 0);
      Fenced<float> scales(blocks, offset), expected_scales(blocks, 0);
      Fenced<int32_t> sums(2 * blocks, offset), expected_sums(2 * blocks, 0);
      Fenced<float> scaled(blocks, offset), expected_scaled(blocks, 0);
      run(*fast_, codes, scales, sums, scaled);
      run(scalar_, expected_codes, expected_scales, expected_sums, expected_scaled);
      for (size_t i = 0; i < blocks * kBlock; ++i) ASSERT_EQ(codes[i], expected_codes[i]) << n << " element " << i;
      for (size_t b = 0; b < blocks; ++b) {
        ASSERT_EQ(scales[b], expected_scales[b]);
        ASSERT_EQ(scaled[b], expected_scaled[b]);
        for (size_t s = 2 * b; s < 2 * b + 2; ++s) ASSERT_EQ(sums[s], expected_sums[s]);
      }
    }
  }
}

std::vector<CpuTarget> FastTargets() {
  std::vector<CpuTarget> targets = SupportedCpuTargets();
  targets.erase(targets.begin());  // the scalar one
  return targets;
}

std::string TargetName(const ::testing::TestParamInfo<CpuTarget>& info) {
  return std::string(CpuTargetName(info.param));
}
INSTANTIATE_TEST_SUITE_P(Targets, TargetsTest, ::testing::ValuesIn(FastTargets()), TargetName);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TargetsTest);  // machines with the scalar target only

}  // namespace
}  // namespace gateskip::kernels
