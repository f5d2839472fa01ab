// SPDX-License-Identifier: Apache-2.0
// Checked arithmetic against 128-bit arithmetic, on values around every edge; and buffers of impossible sizes.
#include "base/checked_math.h"

#include <gtest/gtest.h>

#include <new>
#include <vector>

#include "base/aligned_buffer.h"

namespace gateskip {
namespace {

std::vector<uint64_t> Edges() {
  std::vector<uint64_t> edges = {0};
  for (int bit = 0; bit < 64; ++bit) {
    for (const int64_t delta : {-1, 0, 1}) edges.push_back((uint64_t{1} << bit) + static_cast<uint64_t>(delta));
  }
  edges.push_back(UINT64_MAX);
  return edges;
}

__extension__ using Wide = unsigned __int128;

std::optional<uint64_t> Fitting(Wide value) {
  return value > UINT64_MAX ? std::nullopt : std::optional(static_cast<uint64_t>(value));
}

TEST(CheckedMath, AgreesWith128Bits) {
  for (const uint64_t a : Edges()) {
    for (const uint64_t b : Edges()) {
      ASSERT_EQ(CheckedMul(a, b), Fitting(Wide{a} * b)) << a << " * " << b;
      ASSERT_EQ(CheckedAdd(a, b), Fitting(Wide{a} + b)) << a << " + " << b;
    }
  }
}

TEST(CheckedMath, AlignUp) {
  for (const uint64_t value : Edges()) {
    for (int bit = 0; bit < 64; ++bit) {
      const uint64_t alignment = uint64_t{1} << bit;
      // Conservative at the edge only: the sum before rounding down must fit, and it does where the result does.
      const Wide exact = (Wide{value} + alignment - 1) / alignment * alignment;
      ASSERT_EQ(CheckedAlignUp(value, alignment).value_or(0), Wide{value} + alignment - 1 > UINT64_MAX ? 0 : exact)
          << value << " to " << alignment;
    }
  }
  for (const uint64_t alignment : {uint64_t{0}, uint64_t{3}, uint64_t{48}, UINT64_MAX}) {
    EXPECT_EQ(CheckedAlignUp(0, alignment), std::nullopt) << alignment;
  }
  EXPECT_EQ(CheckedAlignUp(33, 32), 64U);
  EXPECT_EQ(CheckedAlignUp(64, 32), 64U);
  EXPECT_EQ(CheckedAlignUp(UINT64_MAX - 30, 32), std::nullopt) << "must not wrap to 0";
}

TEST(AlignedBuffer, RefusesSizesThatWrap) {
  EXPECT_THROW(AlignedBuffer<float>((SIZE_MAX / sizeof(float)) + 2), std::bad_alloc);  // 4 bytes, if it wrapped
  EXPECT_EQ(AlignedBuffer<float>(0).data(), nullptr);
  AlignedBuffer<float> buffer(3);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % kCacheLineBytes, 0U);
  EXPECT_EQ(buffer.bytes(), 12U);
}

}  // namespace
}  // namespace gateskip
