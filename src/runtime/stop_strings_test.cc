// SPDX-License-Identifier: Apache-2.0
#include "runtime/stop_strings.h"

#include <gtest/gtest.h>

#include "gateskip/error.h"

namespace gateskip {
namespace {

std::string Feed(StopStrings* stops, std::initializer_list<const char*> pieces) {
  std::string text;
  for (const char* piece : pieces) text += stops->Push(piece);
  return text;
}

TEST(StopStrings, EndsBeforeTheFirstOne) {
  StopStrings stops({"END", "\n\n"});
  EXPECT_EQ(Feed(&stops, {"abc E", "N", "D and on"}), "abc ");
  EXPECT_TRUE(stops.stopped());
  EXPECT_EQ(stops.Finish(), "");
}

TEST(StopStrings, HoldsBackOnlyWhatMayBecomeOne) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.Push("abcEN"), "abc");
  EXPECT_EQ(stops.Push("x"), "ENx");
  EXPECT_EQ(stops.Push("E"), "");
  EXPECT_EQ(stops.Finish(), "E");
  EXPECT_FALSE(stops.stopped());
}

TEST(StopStrings, EarliestMatchWinsWhateverTheOrder) {
  StopStrings stops({"later", "so"});
  EXPECT_EQ(Feed(&stops, {"and so later"}), "and ");
}

TEST(StopStrings, SelfOverlapIsFound) {
  StopStrings stops({"aab"});
  EXPECT_EQ(Feed(&stops, {"a", "a", "a", "b"}), "a");
  EXPECT_TRUE(stops.stopped());
}

TEST(StopStrings, RefusesEmptyLongAndMany) {
  EXPECT_THROW(StopStrings({""}), Error);
  EXPECT_THROW(StopStrings({std::string(257, 'x')}), Error);
  EXPECT_THROW(StopStrings(std::vector<std::string>(17, "x")), Error);
}

}  // namespace
}  // namespace gateskip
