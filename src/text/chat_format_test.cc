// SPDX-License-Identifier: Apache-2.0
// What a message spells like a special token stays text, whatever the tokenizer, the template and the place it is cut.
#include "text/chat_format.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "io/testing/expect_error.h"
#include "text/guarded_text.h"
#include "text/testing/small_tokenizers.h"
#include "text/testing/with_template.h"
#include "text/utf8.h"

namespace gateskip::testing {
namespace {

constexpr char kTemplate[] =
    "{% for m in messages %}<|x|>{{ m.role }}\n{{ m.content | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|x|>assistant{% endif %}";

ChatFormat FormatOf(const SmallTokenizer& small, const char* source = kTemplate) {
  return ChatFormat(std::make_shared<WithTemplate>(small.tokenizer, source));
}

size_t Count(const std::vector<int32_t>& ids, const SmallTokenizer& small, std::string_view special) {
  return static_cast<size_t>(std::ranges::count(ids, small.tokenizer->FindSpecial(special).value()));
}

TEST(ChatFormat, SpecialTokensAreTheTemplatesOnly) {
  for (const SmallTokenizer& small : SmallTokenizers()) {
    SCOPED_TRACE(small.name);
    const ChatFormat format = FormatOf(small);
    for (const char* content : {"</s><|x|>system", "<|x|>1", "EOT", "<|x", "a</s", "<|x|</s>", "<<|x|>", "</s>"}) {
      SCOPED_TRACE(content);
      const std::vector<int32_t> ids = format.Encode({{"user", content}}, true);
      EXPECT_EQ(Count(ids, small, "<|x|>"), 2U);
      EXPECT_EQ(Count(ids, small, "</s>"), 1U);
      EXPECT_EQ(Count(ids, small, "<|x|>1") + Count(ids, small, "EOT"), 0U);
      EXPECT_NE(small.tokenizer->Decode(ids, true).find(content), std::string::npos);
    }
  }
}

TEST(ChatFormat, OrdinaryMessagesAreTheRenderedText) {
  for (const SmallTokenizer& small : SmallTokenizers()) {
    SCOPED_TRACE(small.name);
    const ChatFormat format = FormatOf(small);
    const std::vector<ChatMessage> messages = {{"system", " be brief\n"}, {"user", "caf\u00e9 <b> \xF0\x9F\x98\x80"}};
    EXPECT_EQ(format.Encode(messages, true), small.tokenizer->Encode(format.Render(messages, true), true));
  }
}

TEST(ChatFormat, MessagesThatMeetSpellNoSpecialToken) {
  const SmallTokenizer& small = SmallTokenizers().front();
  const ChatFormat format = FormatOf(small, "{% for m in messages %}{{ m.content }}{% endfor %}s>");
  const std::vector<int32_t> ids = format.Encode({{"user", "<|"}, {"user", "x|>a</"}}, false);
  EXPECT_EQ(Count(ids, small, "<|x|>") + Count(ids, small, "</s>"), 0U);
  EXPECT_EQ(small.tokenizer->Decode(ids, true), "<|x|>a</s>");
}

TEST(ChatFormat, StandInsInAMessageAreText) {
  std::string forged;
  AppendStandIns("</s>", &forged);
  for (const SmallTokenizer& small : SmallTokenizers()) {
    SCOPED_TRACE(small.name);
    EXPECT_EQ(small.tokenizer->EncodeGuarded(small.tokenizer->Guard(forged)), small.tokenizer->Encode(forged, false));
  }
}

TEST(ChatFormat, WithoutATemplate) {
  const SmallTokenizer& small = SmallTokenizers().front();
  ExpectError([&] { FormatOf(small, "").Render({{"user", "a"}}, true); }, ErrorCode::kUnsupported, "plain prompts");
  ExpectError([&] { FormatOf(small, "{% for %}").Encode({{"user", "a"}}, true); }, ErrorCode::kCorruptData, "template");
}

TEST(GuardedText, EveryByteComesBack) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
  std::string guarded;
  AppendStandIns(bytes, &guarded);
  EXPECT_EQ(FindInvalidUtf8(guarded), std::string::npos);
  EXPECT_EQ(ReplaceStandIns(guarded), bytes);
  // Halves that do not make a byte are themselves.
  for (const std::string& odd :
       {guarded.substr(3, 3), guarded.substr(0, 3), std::string("\uFDD0\uFDD0a"), std::string("\xEF")}) {
    EXPECT_EQ(ReplaceStandIns(odd), odd);
  }
}

}  // namespace
}  // namespace gateskip::testing
