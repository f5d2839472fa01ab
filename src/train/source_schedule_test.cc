// SPDX-License-Identifier: Apache-2.0
#include "train/source_schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace gateskip::train {
namespace {

TEST(SourceSchedule, EverySourceKeepsItsShareAtAnyTime) {
  for (const std::vector<double>& weights :
       {std::vector<double>{1}, {1, 1}, {1, 2.5, 0.5}, {1e-6, 1, 1e6}, {3, 1, 1, 1, 1, 1, 1, 1}, {0.001, 0.999}}) {
    double total = 0;
    for (const double weight : weights) total += weight;
    SourceSchedule schedule(weights, 7);
    std::vector<int64_t> counts(weights.size());
    for (int64_t n = 0; n < 20'000; ++n) {
      const SourceSchedule::Draw draw = schedule.At(n);
      ASSERT_LT(draw.source, weights.size());
      ASSERT_EQ(draw.index, counts[draw.source]++) << "a source's own draws come in order, none left out";
      // At the end of a block each source before this one rounds what is left for it by less than one draw, each time
      // passing on no more than it got, and its own rounding is less than one.
      if ((n + 1) % 256 != 0) continue;
      for (size_t s = 0; s < weights.size(); ++s) {
        ASSERT_NEAR(static_cast<double>(counts[s]), static_cast<double>(n + 1) * weights[s] / total,
                    static_cast<double>(s) + 1.0)
            << "source " << s << " after " << n + 1;
      }
    }
  }
}

TEST(SourceSchedule, AnyDrawIsFoundAtOnce) {
  const std::vector<double> weights = {1, 3, 0.7};
  SourceSchedule in_order(weights, 3);
  std::vector<SourceSchedule::Draw> expected;
  for (int64_t n = 0; n < 3000; ++n) expected.push_back(in_order.At(n));
  SourceSchedule jumping(weights, 3);
  std::mt19937 random(4);
  for (int i = 0; i < 1000; ++i) {
    const size_t n = random() % expected.size();
    const auto draw = jumping.At(static_cast<int64_t>(n));
    ASSERT_EQ(draw.source, expected[n].source);
    ASSERT_EQ(draw.index, expected[n].index);
  }
  // Far out, where counting from the start would take years; neighbours still follow each other.
  const int64_t far = int64_t{1} << 50;
  int64_t sum = 0;
  SourceSchedule::Draw last[3] = {{0, -1}, {0, -1}, {0, -1}};
  for (int64_t n = far; n < far + 600; ++n) {
    const auto draw = jumping.At(n);
    if (last[draw.source].index >= 0) {
      EXPECT_EQ(draw.index, last[draw.source].index + 1);
    }
    last[draw.source] = draw;
  }
  for (const auto& draw : last) sum += draw.index + 1;
  EXPECT_NEAR(static_cast<double>(sum), static_cast<double>(far + 600), 256) << "each draw is of one source";
}

TEST(SourceSchedule, SeedsMixDifferently) {
  const std::vector<double> weights = {1, 1};
  SourceSchedule a(weights, 1);
  SourceSchedule b(weights, 2);
  int same = 0;
  int repeated = 0;
  for (int64_t n = 0; n < 2560; ++n) {
    same += a.At(n).source == b.At(n).source ? 1 : 0;
    repeated += a.At(n).source == a.At(n + 1).source ? 1 : 0;
  }
  // Half of them by chance, with a standard deviation of 25; a strict alternation would never repeat.
  EXPECT_NEAR(same, 1280, 200);
  EXPECT_NEAR(repeated, 1280, 200);
}

}  // namespace
}  // namespace gateskip::train
