// SPDX-License-Identifier: Apache-2.0
// Law L3: the skipping path equals a masked dense reference that computes everything in double precision and then
// throws away what was skipped. Decisions exactly, logits within f32 rounding.
//
// Tolerance: each of the 2L branches adds terms rounded to 2^-24 of their size over reductions of depth K <= 128, whose
// errors add like sqrt(K); errors of different branches add like sqrt(2L) and the norms carry them on with a gain of
// about 8 per model (measured with perturbed inputs); the logits themselves are about 8 = sqrt(d) in size.
#include <cmath>

#include "laws/variants.h"
#include "model/config.h"
#include "support/reference_model.h"

namespace gateskip::testing {
namespace {

constexpr size_t kTokens = 29;
constexpr bool kExact = true;

class ReferenceTest : public VariantTest {
 protected:
  void ExpectEqual(const SkipPlanPtr& plan, uint64_t seed) {
    const auto ids = TinyTokens(kTokens, seed);
    ModelRunner runner(file_, &adapter_, kExact, 2);
    const RunResult found = runner.RunOne(ids, plan);
    const ReferenceResult expected = RunReference(*file_, &adapter_, ids, *plan);
    const double layers = ReadConfig(*file_).num_layers;
    const double tolerance = std::sqrt(2 * layers * 128) * 0x1p-24 * 8 * 8;
    uint64_t skipped = 0;
    for (int b = 0; b < branches_; ++b) {
      const auto branch = static_cast<size_t>(b);
      for (size_t t = 0; t < kTokens; ++t) {
        ASSERT_EQ((found.events[branch][t] & kRan) != 0, expected.ran[branch][t] != 0)
            << "branch " << b << " position " << t << " importance " << expected.importance[branch][t];
        skipped += expected.ran[branch][t] == 0;
        if (adapter_.config.gated[branch]) {
          ASSERT_NEAR(found.importances[branch][t], expected.importance[branch][t], tolerance);
        }
      }
    }
    for (size_t t = 0; t < kTokens; ++t) {
      for (size_t v = 0; v < expected.logits[t].size(); ++v) {
        ASSERT_NEAR(found.logits[t][v], expected.logits[t][v], tolerance) << "position " << t << " token " << v;
      }
    }
    if (plan->kind != SkipPlan::Kind::kDense) {
      EXPECT_GT(skipped, kTokens) << "the plan skips too little to show anything";
      EXPECT_LT(skipped, kTokens * static_cast<uint64_t>(branches_ - 1));
    }
  }
};

TEST_P(ReferenceTest, Dense) { ExpectEqual(DensePlan(), 51); }
TEST_P(ReferenceTest, GatesAtTwoBudgets) {
  ExpectEqual(Gates(0.2), 52);
  ExpectEqual(Gates(0.4), 53);
}
TEST_P(ReferenceTest, RandomMasks) {
  for (uint64_t seed = 1; seed <= 4; ++seed) ExpectEqual(RandomMask(kTokens, seed), 60 + seed);
}

INSTANTIATE_TEST_SUITE_P(Variants, ReferenceTest, ::testing::ValuesIn(AllVariants()), VariantName);

}  // namespace
}  // namespace gateskip::testing
