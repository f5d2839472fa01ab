// SPDX-License-Identifier: Apache-2.0
// A document of training or calibration text before tokenising, and how a record (one JSON object) becomes one.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "text/chat_template.h"

namespace gateskip {

// Names of a record's columns, for data sets that call them otherwise. With none set the known names are tried (see
// ParseRecord); with any set, these columns alone count. One kind at a time: text, prompt with completion, or messages.
struct RecordFields {
  std::string text = {};
  std::string prompt = {};
  std::string completion = {};
  std::string messages = {};

  bool operator==(const RecordFields&) const = default;
};

// Throws Error(kInvalidArgument) when more than one kind is named, or half of a pair.
void ValidateRecordFields(const RecordFields& fields);

struct Document {
  enum class Form { kText, kPair, kChat };
  Form form = Form::kText;
  std::string text;                   // kText
  std::string prompt;                 // kPair
  std::string completion;             // kPair
  std::vector<ChatMessage> messages;  // kChat
  bool whole = true;                  // kText: false for a piece of a longer text, which no EOS ends
};

// The first of these whose columns are all there (null counts as absent):
//   messages, or conversations: a list of {role, content}, or of {from, value} as ShareGPT writes it
//   text
//   prompt + completion, question + answer, instruction [+ input] + output (as Alpaca writes it)
// `origin` names the record in messages. Throws Error(kCorruptData): not an object, none of them, a column of another
// type, nothing to learn from (an empty text or completion, no assistant's message with content).
Document ParseRecord(const nlohmann::json& record, const RecordFields& fields, const std::string& origin);

}  // namespace gateskip
