// SPDX-License-Identifier: Apache-2.0
#include "analysis/token_class.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gateskip {
namespace {

using enum TokenClass;
using ::testing::ElementsAre;

std::vector<TokenClass> Classes(const std::vector<std::string>& pieces) { return ClassifyPieces(pieces); }

TEST(TokenClassTest, IsThatOfTheFirstCharacterWhichIsNoSpace) {
  EXPECT_THAT(Classes({"The", " ferry", ",", " and", " 42", "\n\n", " ", " Ma", "rie", " (", "ok", ")."}),
              ElementsAre(kFunctionWord, kWordStart, kPunctuation, kFunctionWord, kDigits, kSpace, kSpace, kCapitalised,
                          kContinuation, kPunctuation, kWordStart, kPunctuation));
}

TEST(TokenClassTest, AWordThatGoesOnIsNoFunctionWord) {
  EXPECT_THAT(Classes({" the", "ory", " of"}), ElementsAre(kWordStart, kContinuation, kFunctionWord));
  EXPECT_THAT(Classes({" the", " ory"}), ElementsAre(kFunctionWord, kWordStart));
  EXPECT_THAT(Classes({" the ", "ory"}), ElementsAre(kFunctionWord, kWordStart));
}

TEST(TokenClassTest, AnApostropheWithLettersGoesOn) {
  EXPECT_THAT(Classes({" it", "'s", " don", "’t", " 'em"}),
              ElementsAre(kFunctionWord, kContinuation, kWordStart, kContinuation, kPunctuation));
  EXPECT_THAT(Classes({" it", "'", "s"}), ElementsAre(kFunctionWord, kPunctuation, kWordStart));
}

TEST(TokenClassTest, KnowsMoreThanAscii) {
  EXPECT_THAT(Classes({" Émile", " caf", "é", " —", " “", "日", "本", " Ωmega", " ٣"}),
              ElementsAre(kCapitalised, kWordStart, kContinuation, kPunctuation, kPunctuation, kWordStart,
                          kContinuation, kCapitalised, kDigits));
}

TEST(TokenClassTest, WhatIsNoTextIsOther) {
  // A special token; half a character; a symbol; and words after them.
  EXPECT_THAT(Classes({"", "\xE2\x82", "+", "\xFF", "cat", ""}),
              ElementsAre(kOther, kOther, kOther, kOther, kWordStart, kOther));
  EXPECT_THAT(Classes({}), ElementsAre());
}

TEST(TokenClassTest, EveryClassHasAName) {
  for (size_t i = 0; i < kNumTokenClasses; ++i) {
    for (size_t j = 0; j < i; ++j) {
      EXPECT_STRNE(TokenClassName(static_cast<TokenClass>(i)), TokenClassName(static_cast<TokenClass>(j)));
    }
  }
}

}  // namespace
}  // namespace gateskip
