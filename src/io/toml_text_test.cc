// SPDX-License-Identifier: Apache-2.0
#include "io/toml_text.h"

#include <gtest/gtest.h>

#include "io/testing/expect_error.h"

namespace gateskip {
namespace {

TEST(TomlText, OtherCharactersBelongInStringsAndComments) {
  for (const char* text : {"", "a = 'σ' # σ\n",
                           "\xEF\xBB\xBF"
                           "a = 1",
                           "a = \"σ\\\"σ\"\n", "a = '\\'\n", "a = \"\"\"σ\nσ\"\" σ\"\"\"\"\n", "a = '''σ\n'' σ'''\n",
                           "\"σ\" = 1", "# σ", "a = \"σ"}) {
    SCOPED_TRACE(text);
    EXPECT_NO_THROW(CheckTomlText(text, "x"));
  }
  for (const char* text : {"a = 1\nσ = 1", "a = 1\nb = σ", "a = 'x\\' \nσ", "a = \"\"\"x\"\"\"\nσ", "a = \"\"\nσ",
                           "a = \"x\nσ", "a = '''x''''\nσ'", "#\n\xff"}) {
    SCOPED_TRACE(text);
    testing::ExpectError([text] { CheckTomlText(text, "x"); }, ErrorCode::kInvalidArgument, "[x:2] syntax");
  }
}

}  // namespace
}  // namespace gateskip
