// SPDX-License-Identifier: Apache-2.0
#include "eval/harness_encoding.h"

#include <gtest/gtest.h>

#include "gateskip/error.h"
#include "io/testing/temp_directory.h"
#include "support/tiny_model.h"
#include "text/tokenizer.h"

namespace gateskip::testing {
namespace {

class HarnessEncodingTest : public ::testing::Test {
 protected:
  std::vector<std::byte> bytes_ = TinyGguf({});
  std::shared_ptr<const Tokenizer> tokenizer_ = Tokenizer::FromGguf(*OpenTiny(bytes_));

  std::vector<int32_t> Ids(const std::string& text) const { return tokenizer_->Encode(text, true); }
};

TEST_F(HarnessEncodingTest, SpacesAtTheEndOfTheContextGoToTheContinuation) {
  const EncodedPair moved = EncodePair(*tokenizer_, "in the end  ", "there", 100);
  EXPECT_EQ(moved.context, Ids("in the end"));
  std::vector<int32_t> whole = moved.context;
  whole.insert(whole.end(), moved.continuation.begin(), moved.continuation.end());
  EXPECT_EQ(whole, Ids("in the end  there"));
  EXPECT_EQ(EncodePair(*tokenizer_, " \n", "the", 100).context, std::vector<int32_t>{PrefixToken(*tokenizer_)});
  EXPECT_THROW(EncodePair(*tokenizer_, "the", "", 100), Error);
}

TEST_F(HarnessEncodingTest, WhatIsTooLongLosesItsBeginning) {
  const EncodedPair whole = EncodePair(*tokenizer_, "in the end there are", " things", 100);
  const size_t all = whole.context.size() + whole.continuation.size();
  const EncodedPair cut = EncodePair(*tokenizer_, "in the end there are", " things", all - 3);
  EXPECT_EQ(cut.continuation, whole.continuation);
  EXPECT_EQ(cut.context.size() + cut.continuation.size(), all - 2) << "one more than is run";
  EXPECT_EQ(cut.context.back(), whole.context.back());
  EXPECT_EQ(EncodeContext(*tokenizer_, "in the end there are", 9, 5).size(), 4U);
  EXPECT_THROW(EncodeContext(*tokenizer_, "in", 5, 5), Error);
}

TEST_F(HarnessEncodingTest, RollingWindowsPredictEveryTokenOnceAndAreFull) {
  const std::string text = "in the end there are things on line";
  const std::vector<int32_t> ids = Ids(text);
  for (const size_t max_length : {size_t{3}, size_t{5}, ids.size() - 1, ids.size(), ids.size() + 7}) {
    std::vector<int32_t> predicted;
    const auto windows = RollingWindows(*tokenizer_, text, max_length);
    for (size_t i = 0; i < windows.size(); ++i) {
      const EncodedPair& window = windows[i];
      const size_t run = window.context.size() + window.continuation.size() - 1;
      EXPECT_LE(run, max_length);
      if (windows.size() > 1) {
        EXPECT_EQ(run, max_length);
      }
      // The context is what comes before in the text, or the prefix token.
      for (size_t c = 0; c < window.context.size(); ++c) {
        const size_t before = window.context.size() - c;
        EXPECT_EQ(window.context[c],
                  before <= predicted.size() ? predicted[predicted.size() - before] : PrefixToken(*tokenizer_));
      }
      predicted.insert(predicted.end(), window.continuation.begin(), window.continuation.end());
    }
    EXPECT_EQ(predicted, ids) << max_length;
  }
  EXPECT_TRUE(RollingWindows(*tokenizer_, "", 4).empty());
}

}  // namespace
}  // namespace gateskip::testing
