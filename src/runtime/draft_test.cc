// SPDX-License-Identifier: Apache-2.0
// Look-up of n-grams, and when to draft. That drafts change no text is tests/laws/speculation_test.cc.
#include "runtime/draft.h"

#include <gtest/gtest.h>

namespace gateskip {
namespace {

std::vector<int32_t> Found(std::vector<int32_t> ids, size_t limit) {
  const NgramMatch match = FindNgram(ids, limit);
  return {match.tokens.begin(), match.tokens.end()};
}

TEST(FindNgram, TakesWhatFollowedTheLatestOccurrence) {
  EXPECT_EQ(Found({1, 2, 7, 1, 2, 8, 9, 1, 2}, 3), (std::vector<int32_t>{8, 9, 1}));
  EXPECT_EQ(Found({1, 2, 7, 1, 2, 8, 9, 1, 2}, 1), (std::vector<int32_t>{8}));
}

TEST(FindNgram, PrefersALongerOccurrence) {
  // The last two tokens are at 5, too; the last three only at 0.
  EXPECT_EQ(Found({1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3}, 1), (std::vector<int32_t>{4}));
}

TEST(FindNgram, ARunContinuesItself) { EXPECT_EQ(Found({5, 6, 6, 6}, 4), (std::vector<int32_t>{6})); }

TEST(FindNgram, FindsNothingInLittle) {
  EXPECT_TRUE(Found({}, 4).empty());
  EXPECT_TRUE(Found({1}, 4).empty());
  EXPECT_TRUE(Found({1, 2}, 4).empty());
  EXPECT_TRUE(Found({1, 2, 3, 1}, 4).empty());  // one token alone is no occurrence
  EXPECT_TRUE(Found({1, 2, 3, 1, 2}, 0).empty());
}

// Drafts as the caller does, all tokens sure by `confidence`, and lets the first `accepted` of them pass.
size_t DraftOnce(DraftControl* control, double confidence, size_t accepted, double cost = 0.3) {
  control->Begin(DraftCosts(cost));
  size_t drafted = 0;
  while (drafted < static_cast<size_t>(kMaxDraftTokens) && control->WantsAnother()) {
    control->Drafted(confidence);
    if (!control->LastIsWorthVerifying()) break;
    ++drafted;
  }
  control->Verified(drafted, std::min(accepted, drafted));
  return drafted;
}

TEST(DraftControl, DraftsFartherTheMoreIsAccepted) {
  DraftControl all;
  DraftControl none;
  for (int i = 0; i < 100; ++i) {
    DraftOnce(&all, 0.95, kMaxDraftTokens);
    DraftOnce(&none, 0.95, 0);
  }
  EXPECT_GE(DraftOnce(&all, 0.95, kMaxDraftTokens), 16U);
  EXPECT_LE(DraftOnce(&none, 0.95, 0), 1U);
}

TEST(DraftControl, StopsWhereTheDraftIsUnsure) {
  DraftControl control;
  for (int i = 0; i < 50; ++i) DraftOnce(&control, 0.95, kMaxDraftTokens);
  control.Begin(DraftCosts(0.3));
  control.Drafted(0.95);
  EXPECT_TRUE(control.WantsAnother());
  control.Drafted(0.05);
  EXPECT_FALSE(control.WantsAnother());
}

TEST(DraftControl, ACheaperDraftGoesFarther) {
  DraftControl cheap;
  DraftControl dear;
  size_t cheap_tokens = 0, dear_tokens = 0;
  for (int i = 0; i < 50; ++i) {
    cheap_tokens += DraftOnce(&cheap, 0.85, 4, 0.1);
    dear_tokens += DraftOnce(&dear, 0.85, 4, 0.5);
  }
  EXPECT_GT(cheap_tokens, dear_tokens);
}

TEST(DraftCosts, AreMeasuredInPlainSteps) {
  DraftCosts costs(0.9);
  costs.Draft(1, 7.0);  // says nothing yet
  EXPECT_EQ(costs.draft(), 0.9);
  for (int i = 0; i < 200; ++i) {
    costs.Target(1, 0, 2.0);
    costs.Target(1, 3, 2.9);
    costs.Draft(1, 0.5);
  }
  EXPECT_NEAR(costs.row(), 0.15, 1e-6);
  EXPECT_NEAR(costs.draft(), 0.25, 1e-6);
  costs.Target(2, 4, 100.0);  // a plain step of two sequences has not been seen
  EXPECT_NEAR(costs.row(), 0.15, 1e-6);
}

TEST(DraftControl, TriesAgainNowAndThen) {
  DraftControl control;
  for (int i = 0; i < 200; ++i) DraftOnce(&control, 0.9, 0);
  size_t drafted = 0;
  for (int i = 0; i < 64; ++i) drafted += DraftOnce(&control, 0.9, 0);
  EXPECT_EQ(drafted, 4U);  // one of 16
  // And notices when it pays again.
  for (int i = 0; i < 2000; ++i) DraftOnce(&control, 0.9, kMaxDraftTokens);
  EXPECT_GE(DraftOnce(&control, 0.9, kMaxDraftTokens), 4U);
}

}  // namespace
}  // namespace gateskip
