// SPDX-License-Identifier: Apache-2.0
// Records and what they become: a table of good and of bad ones.
#include "text/document.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "io/testing/expect_error.h"

namespace gateskip {
namespace {

using Json = nlohmann::json;

Document Parse(const std::string& record, const RecordFields& fields = {}) {
  return ParseRecord(Json::parse(record), fields, "x.jsonl:3");
}

// One line for a document: T|text, P|prompt|completion, C|role|content|role|content...
std::string Written(const Document& document) {
  EXPECT_TRUE(document.whole);
  switch (document.form) {
    case Document::Form::kText:
      return "T|" + document.text;
    case Document::Form::kPair:
      return "P|" + document.prompt + "|" + document.completion;
    case Document::Form::kChat:
      break;
  }
  std::string line = "C";
  for (const ChatMessage& message : document.messages) line += "|" + message.role + "|" + message.content;
  return line;
}

TEST(ParseRecord, GoodRecords) {
  const std::pair<const char*, const char*> kRows[] = {
      {R"({"text": "plain", "id": 7})", "T|plain"},
      {R"({"text": "\u00e9\n"})", "T|\xC3\xA9\n"},
      {R"({"question": "q", "answer": "a"})", "P|q|a"},
      {R"({"prompt": "p", "completion": "c", "tokens": 4})", "P|p|c"},
      {R"({"prompt": "", "completion": "c"})", "P||c"},
      {R"({"instruction": "i", "output": "o"})", "P|i|o"},
      {R"({"instruction": "i", "input": "", "output": "o"})", "P|i|o"},
      {R"({"instruction": "i", "input": null, "output": "o"})", "P|i|o"},
      {R"({"instruction": "i", "input": "n", "output": "o"})", "P|i\n\nn|o"},
      {R"({"text": null, "prompt": "p", "completion": "c"})", "P|p|c"},
      {R"({"prompt": "p", "answer": "x", "text": "t"})", "T|t"},
      {R"({"text": "t", "messages": [{"role": "assistant", "content": "a"}]})", "C|assistant|a"},
      {R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"},
           {"role": "assistant", "content": "a"}, {"role": "tool", "content": "{}"}]})",
       "C|system|s|user|u|assistant|a|tool|{}"},
      {R"({"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "u"},
           {"from": "gpt", "value": "a"}]})",
       "C|system|s|user|u|assistant|a"},
      {R"({"conversations": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]})",
       "C|user|u|assistant|a"},
      {R"({"messages": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a", "weight": 1}]})",
       "C|user|u|assistant|a"},
  };
  for (const auto& [record, expected] : kRows) EXPECT_EQ(Written(Parse(record)), expected) << record;
}

TEST(ParseRecord, BadRecordsSayWhatIsExpectedAndFound) {
  const std::pair<const char*, const char*> kRows[] = {
      {R"({"txt": "a", "id": 1})", "expected `messages` or `conversations`, `text`"},
      {R"({"txt": "a", "id": 1})", "found `id`, `txt`;"},
      {R"({"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1})", "`g`, `h`, ...;"},
      {R"({})", "columns: expected"},
      {R"({})", "found none;"},
      {R"([])", "expected an object with"},
      {R"("text")", "found string"},
      {R"(null)", "found null"},
      {R"({"text": 1})", "column text: expected a string, found number"},
      {R"({"text": ""})", "column text: expected text, found none"},
      {R"({"text": " \n"})", "column text: expected text, found none"},
      {R"({"question": "q"})", "found `question`;"},
      {R"({"question": 1, "answer": "a"})", "column question: expected a string, found number"},
      {R"({"prompt": "p", "completion": ""})", "column completion: expected text"},
      {R"({"prompt": "p", "completion": ["c"]})", "column completion: expected a string, found array"},
      {R"({"instruction": "i", "input": 1, "output": "o"})", "column input: expected a string"},
      {R"({"messages": "hi"})", "column messages: expected a list of messages, found string"},
      {R"({"messages": []})", "expected a message of the assistant to learn from, found none"},
      {R"({"messages": [{"role": "user", "content": "u"}]})", "expected a message of the assistant"},
      {R"({"messages": [{"role": "assistant", "content": " "}]})", "expected a message of the assistant"},
      {R"({"messages": ["hi"]})", "message 1: expected string fields role and content"},
      {R"({"messages": [{"role": "assistant", "content": "a"}, {"content": "u"}]})", "message 2: "},
      {R"({"messages": [{"role": "assistant"}]})", "found no content"},
      {R"({"messages": [{"role": "assistant", "content": null}]})", "found no content"},
      {R"({"messages": [{"role": "assistant", "content": [{"type": "text"}]}]})", "found a field of another type"},
      {R"({"messages": [{"role": 1, "content": "a"}]})", "found a field of another type"},
      {R"({"conversations": [{"from": "gpt", "content": "a"}]})", "found no content"},
  };
  for (const auto& [record, words] : kRows) {
    SCOPED_TRACE(record);
    testing::ExpectError([record = record] { Parse(record); }, ErrorCode::kCorruptData, words);
    testing::ExpectError([record = record] { Parse(record); }, ErrorCode::kCorruptData, "[x.jsonl:3] ");
  }
}

TEST(ParseRecord, NamedColumnsAloneCount) {
  const RecordFields text = {.text = "body"};
  EXPECT_EQ(Written(Parse(R"({"body": "b", "text": "t"})", text)), "T|b");
  testing::ExpectError([&] { Parse(R"({"text": "t"})", text); }, ErrorCode::kCorruptData,
                       "expected `body`, found `text`;");
  const RecordFields pair = {.prompt = "ask", .completion = "say"};
  EXPECT_EQ(Written(Parse(R"({"ask": "p", "say": "c", "text": "t"})", pair)), "P|p|c");
  testing::ExpectError([&] { Parse(R"({"text": "t"})", pair); }, ErrorCode::kCorruptData,
                       "expected `ask` and `say`, found");
  testing::ExpectError([&] { Parse(R"({"ask": "t"})", pair); }, ErrorCode::kCorruptData, "expected `say`, found");
  const RecordFields messages = {.messages = "dialog"};
  EXPECT_EQ(Written(Parse(R"({"dialog": [{"from": "gpt", "value": "a"}]})", messages)), "C|assistant|a");
  testing::ExpectError([&] { Parse(R"({"dialog": 1})", messages); }, ErrorCode::kCorruptData, "column dialog");
}

TEST(ValidateRecordFields, OneKindAndWholePairs) {
  for (const RecordFields& good : {RecordFields{}, RecordFields{.text = "a"}, RecordFields{.messages = "a"},
                                   RecordFields{.prompt = "a", .completion = "b"}}) {
    EXPECT_NO_THROW(ValidateRecordFields(good));
  }
  for (const RecordFields& bad :
       {RecordFields{.prompt = "a"}, RecordFields{.completion = "a"}, RecordFields{.text = "a", .messages = "b"},
        RecordFields{.text = "a", .prompt = "b", .completion = "c"}}) {
    testing::ExpectError([&] { ValidateRecordFields(bad); }, ErrorCode::kInvalidArgument, "expected one kind");
  }
}

}  // namespace
}  // namespace gateskip
