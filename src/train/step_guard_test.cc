// SPDX-License-Identifier: Apache-2.0
#include "train/step_guard.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/check.h"

namespace gateskip::train {
namespace {

TEST(StepGuard, RefusesWhatIsNotFinite) {
  StepGuard guard(0);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(guard.Refuses(1, 1), "");
  EXPECT_EQ(guard.Refuses(nan, 1), "non-finite");
  EXPECT_EQ(guard.Refuses(1, std::numeric_limits<double>::infinity()), "non-finite");
  EXPECT_EQ(guard.in_a_row(), 2);
  EXPECT_EQ(guard.Refuses(1e30, 1), "");
  EXPECT_EQ(guard.in_a_row(), 0);
  EXPECT_EQ(guard.total(), 2);
}

TEST(StepGuard, RefusesSpikesOnceItKnowsTheLoss) {
  StepGuard guard(3);
  EXPECT_EQ(guard.Refuses(100, 1), "");  // the first: nothing to compare with
  for (size_t i = 1; i < StepGuard::kWindow; ++i) EXPECT_EQ(guard.Refuses(1, 1), "");
  EXPECT_EQ(guard.Refuses(301, 1), "loss spike");
  EXPECT_EQ(guard.Refuses(299, 1), "");
  for (size_t i = 0; i < StepGuard::kWindow; ++i) EXPECT_EQ(guard.Refuses(1, 1), "");  // the large ones leave
  EXPECT_EQ(guard.Refuses(4, 1), "loss spike");
  EXPECT_EQ(guard.Refuses(4, 1), "loss spike") << "a spike is not remembered as a good loss";
  EXPECT_EQ(guard.Refuses(3, 1), "");
}

TEST(StepGuard, GoesOnFromItsState) {
  StepGuard guard(2);
  for (size_t i = 0; i < StepGuard::kWindow + 5; ++i) guard.Refuses(1 + 0.01 * static_cast<double>(i), 1);
  guard.Refuses(1e9, 1);
  StepGuard copy(2);
  copy.SetState(guard.State());
  EXPECT_EQ(copy.total(), 1);
  EXPECT_EQ(copy.in_a_row(), 1);
  EXPECT_EQ(copy.Refuses(3.1, 1), "loss spike");
  EXPECT_THROW(copy.SetState({1}), Error);
  EXPECT_THROW(copy.SetState(std::vector<double>(StepGuard::kWindow + 3, 0.0)), Error);
}

}  // namespace
}  // namespace gateskip::train
