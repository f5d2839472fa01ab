// SPDX-License-Identifier: Apache-2.0
#include "text/document.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "text/utf8.h"

namespace gateskip {
namespace {

using Json = nlohmann::json;

constexpr const char* kExpected =
    "`messages` or `conversations`, `text`, or a pair (`prompt` and `completion`, `question` and `answer`, "
    "`instruction` and `output`)";

bool Blank(const std::string& text) { return text.find_first_not_of(" \t\r\n") == std::string::npos; }

// A column's value; null when the record has none.
const Json* Column(const Json& record, const std::string& name) {
  const auto found = record.find(name);
  return found != record.end() && !found->is_null() ? &*found : nullptr;
}

const std::string& String(const Json& value, const std::string& name, const std::string& origin) {
  if (!value.is_string()) {
    Fail(ErrorCode::kCorruptData, "[{}] column {}: expected a string, found {}; correct the row", origin,
         ReadableText(name, 100), value.type_name());
  }
  return value.get_ref<const std::string&>();
}

const std::string& NonEmpty(const std::string& text, const std::string& name, const std::string& origin) {
  if (Blank(text)) {
    Fail(ErrorCode::kCorruptData, "[{}] column {}: expected text, found none; leave the row out", origin,
         ReadableText(name, 100));
  }
  return text;
}

std::string RoleOfShareGpt(const std::string& from) {
  if (from == "human") return "user";
  if (from == "gpt" || from == "model" || from == "chatgpt" || from == "bing" || from == "bard") return "assistant";
  return from;  // system, tool, user, assistant: as they are
}

ChatMessage ParseMessage(const Json& message, size_t index, const std::string& origin) {
  const auto fail = [&](const char* found) {
    Fail(ErrorCode::kCorruptData,
         "[{}] message {}: expected string fields role and content (or from and value), found {}; correct the row",
         origin, index + 1, found);
  };
  if (!message.is_object()) fail(message.type_name());
  const bool share_gpt = !message.contains("role") && message.contains("from");
  const Json* role = Column(message, share_gpt ? "from" : "role");
  const Json* content = Column(message, share_gpt ? "value" : "content");
  if (role == nullptr || content == nullptr) fail(role == nullptr ? "no role" : "no content");
  if (!role->is_string() || !content->is_string()) fail("a field of another type");
  const auto& name = role->get_ref<const std::string&>();
  return {share_gpt ? RoleOfShareGpt(name) : name, content->get_ref<const std::string&>()};
}

Document Chat(const Json& list, const std::string& name, const std::string& origin) {
  if (!list.is_array()) {
    Fail(ErrorCode::kCorruptData, "[{}] column {}: expected a list of messages, found {}; correct the row", origin,
         ReadableText(name, 100), list.type_name());
  }
  Document document;
  document.form = Document::Form::kChat;
  bool answered = false;
  for (size_t i = 0; i < list.size(); ++i) {
    document.messages.push_back(ParseMessage(list[i], i, origin));
    const ChatMessage& message = document.messages.back();
    answered = answered || (message.role == "assistant" && !Blank(message.content));
  }
  if (!answered) {
    Fail(ErrorCode::kCorruptData,
         "[{}] column {}: expected a message of the assistant to learn from, found none; leave the row out", origin,
         ReadableText(name, 100));
  }
  return document;
}

Document Text(const Json& value, const std::string& name, const std::string& origin) {
  Document document;
  document.text = NonEmpty(String(value, name, origin), name, origin);
  return document;
}

Document Pair(const Json& record, const std::string& prompt, const std::string& completion, const std::string& origin) {
  Document document;
  document.form = Document::Form::kPair;
  document.prompt = String(record.at(prompt), prompt, origin);
  document.completion = NonEmpty(String(record.at(completion), completion, origin), completion, origin);
  return document;
}

[[noreturn]] void FailColumns(const Json& record, const std::string& expected, const std::string& origin) {
  constexpr size_t kMaxNames = 8;
  std::string names;
  size_t count = 0;
  for (const auto& [name, value] : record.items()) {
    if (++count > kMaxNames) break;
    names += (count > 1 ? ", `" : "`") + ReadableText(name, 40) + "`";
  }
  Fail(ErrorCode::kCorruptData, "[{}] columns: expected {}, found {}{}; name the columns or convert the file", origin,
       expected, count == 0 ? "none" : names, count > kMaxNames ? ", ..." : "");
}

Document NamedColumns(const Json& record, const RecordFields& fields, const std::string& origin) {
  std::string expected;
  for (const std::string* name : {&fields.messages, &fields.text, &fields.prompt, &fields.completion}) {
    if (name->empty() || Column(record, *name) != nullptr) continue;
    expected += (expected.empty() ? "`" : " and `") + ReadableText(*name, 100) + "`";
  }
  if (!expected.empty()) FailColumns(record, expected, origin);
  if (!fields.messages.empty()) return Chat(record.at(fields.messages), fields.messages, origin);
  if (!fields.text.empty()) return Text(record.at(fields.text), fields.text, origin);
  return Pair(record, fields.prompt, fields.completion, origin);
}

bool AnyNamed(const RecordFields& fields) {
  return !fields.text.empty() || !fields.prompt.empty() || !fields.completion.empty() || !fields.messages.empty();
}

}  // namespace

void ValidateRecordFields(const RecordFields& fields) {
  const bool pair = !fields.prompt.empty() || !fields.completion.empty();
  const int kinds = (fields.text.empty() ? 0 : 1) + (fields.messages.empty() ? 0 : 1) + (pair ? 1 : 0);
  if (kinds > 1 || fields.prompt.empty() != fields.completion.empty()) {
    Fail(
        ErrorCode::kInvalidArgument,
        "[data] columns: expected one kind of them (text, messages, or prompt and completion), found {}; name one kind",
        kinds > 1 ? "several" : "half of a pair");
  }
}

Document ParseRecord(const Json& record, const RecordFields& fields, const std::string& origin) {
  if (!record.is_object()) {
    Fail(ErrorCode::kCorruptData, "[{}] record: expected an object with {}, found {}; convert the file", origin,
         kExpected, record.type_name());
  }
  if (AnyNamed(fields)) return NamedColumns(record, fields, origin);
  for (const char* name : {"messages", "conversations"}) {
    if (const Json* list = Column(record, name)) return Chat(*list, name, origin);
  }
  if (const Json* text = Column(record, "text")) return Text(*text, "text", origin);
  constexpr std::pair<const char*, const char*> kPairs[] = {
      {"prompt", "completion"}, {"question", "answer"}, {"instruction", "output"}};
  for (const auto& [prompt, completion] : kPairs) {
    if (Column(record, prompt) == nullptr || Column(record, completion) == nullptr) continue;
    Document document = Pair(record, prompt, completion, origin);
    const Json* input = std::string_view(prompt) == "instruction" ? Column(record, "input") : nullptr;
    if (input != nullptr && !Blank(String(*input, "input", origin))) {
      document.prompt += "\n\n" + input->get_ref<const std::string&>();
    }
    return document;
  }
  FailColumns(record, kExpected, origin);
}

}  // namespace gateskip
