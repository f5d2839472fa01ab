// SPDX-License-Identifier: Apache-2.0
#include "analysis/sweep_retention.h"

#include <gtest/gtest.h>

#include <cmath>

namespace gateskip {
namespace {

SweepTask Task(bool higher, double chance) {
  SweepTask task;
  task.higher_is_better = higher;
  task.chance = chance;
  return task;
}

void Add(SweepResults* r, size_t task, size_t arm, double requested, double net, Estimate score) {
  SweepPoint p;
  p.task = task;
  p.arm = arm;
  p.requested = requested;
  p.net = net;
  p.score = score;
  r->points.push_back(p);
}

// Two accuracies, one of them of a guesser, and a perplexity; sorted as the reader sorts.
SweepResults Results() {
  SweepResults r;
  r.arms.resize(3);
  r.arms[0].name = std::string("original");
  r.arms[1].name = std::string("gates");
  r.arms[2].name = std::string("random");
  r.tasks = {Task(true, 0.25), Task(true, 0.5), Task(false, 0), Task(true, 0)};
  Add(&r, 0, 0, 0, 0, {0.75, 0.01});
  Add(&r, 0, 1, 0, -0.01, {0.70, 0.01});
  Add(&r, 0, 1, 0.25, 0.24, {0.65, 0.02});
  Add(&r, 0, 2, 0.25, 0.25, {0.35, 0.02});
  Add(&r, 1, 0, 0, 0, {0.52, 0.012});  // less than two standard errors above chance
  Add(&r, 1, 1, 0, -0.01, {0.52, 0.012});
  Add(&r, 2, 0, 0, 0, {20, 0.5});
  Add(&r, 2, 1, 0.25, 0.24, {25, 1});
  Add(&r, 3, 0, 0, 0, {0.40, 0.01});
  Add(&r, 3, 1, 0, -0.03, {0.42, 0.01});
  Add(&r, 3, 1, 0.25, 0.26, {0.30, 0.03});
  return r;
}

TEST(RetentionTest, IsTheShareOfTheMarginThatIsKept) {
  const Estimate kept = Retention(Task(true, 0.25), {0.65, 0.02}, {0.75, 0.01});
  EXPECT_DOUBLE_EQ(kept.value, 0.8);   // 0.40 / 0.50
  EXPECT_DOUBLE_EQ(kept.error, 0.04);  // 0.02 / 0.50
  EXPECT_LT(Retention(Task(true, 0.25), {0.2, 0}, {0.75, 0}).value, 0);
  EXPECT_TRUE(std::isnan(Retention(Task(true, 0.5), {0.6, 0}, {0.5, 0}).value));
}

TEST(RetentionTest, IsARatioWhereLowerIsBetter) {
  const Estimate kept = Retention(Task(false, 0), {25, 1}, {20, 0.5});
  EXPECT_DOUBLE_EQ(kept.value, 0.8);
  EXPECT_DOUBLE_EQ(kept.error, 0.8 / 25);
  EXPECT_TRUE(std::isnan(Retention(Task(false, 0), {0, 1}, {20, 0.5}).value));
}

TEST(RetentionTest, TasksThatSayNothingDoNotCount) {
  const std::vector<TaskChoice> choices = ChooseTasks(Results());
  ASSERT_EQ(choices.size(), 4U);
  EXPECT_EQ(choices[0].reason, "");
  EXPECT_NE(choices[1].reason.find("chance"), std::string::npos);
  EXPECT_NE(choices[2].reason.find("ratio"), std::string::npos);
  EXPECT_EQ(choices[3].reason, "");
}

TEST(RetentionTest, TheMeanIsOverTasksInWhichTheArmHasAPoint) {
  const std::vector<MeanPoint> means = MeanRetention(Results(), Reference::kOriginal);
  ASSERT_EQ(means.size(), 3U);  // the original, and the gates at 0 and 25 %; random lacks a task
  EXPECT_EQ(means[0].arm, 0U);
  EXPECT_EQ(means[0].retention.value, 1.0);
  EXPECT_DOUBLE_EQ(means[0].retention.error, std::hypot(0.01 / 0.5, 0.01 / 0.4) / 2);
  EXPECT_DOUBLE_EQ(means[1].retention.value, (0.45 / 0.5 + 0.42 / 0.4) / 2);
  EXPECT_DOUBLE_EQ(means[1].net, -0.02);
  EXPECT_DOUBLE_EQ(means[2].retention.value, (0.8 + 0.75) / 2);
  EXPECT_DOUBLE_EQ(means[2].retention.error, std::hypot(0.02 / 0.5, 0.03 / 0.4) / 2);
  EXPECT_DOUBLE_EQ(means[2].net, 0.25);

  const std::vector<MeanPoint> gated = MeanRetention(Results(), Reference::kGatedDense);
  ASSERT_EQ(gated.size(), 3U);
  EXPECT_EQ(gated[1].retention.value, 1.0);
  EXPECT_NEAR(gated[2].retention.value, (0.40 / 0.45 + 0.30 / 0.42) / 2, 1e-15);
}

}  // namespace
}  // namespace gateskip
