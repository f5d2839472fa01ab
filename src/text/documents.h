// SPDX-License-Identifier: Apache-2.0
// Documents from the files a user names as training or calibration text, and their token ids: plain text (.txt, .md and
// any other name), records (.jsonl, .json) with `text`, or with a question and its answer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace gateskip {

// A document before tokenising: plain text, or a question with its answer.
struct Document {
  std::string text;      // plain text; empty for a pair
  std::string question;  // pairs
  std::string answer;
  bool whole = true;  // false: a piece of a longer text, which no EOS ends
};

// Throws Error: kNotFound, kIo, kCorruptData (bad JSON, no known field), kLimitExceeded (file over 4 GiB).
std::vector<Document> ReadDocuments(const std::string& path);
std::vector<Document> ParseDocuments(const std::string& content, const std::string& path);

// Every second question-answer pair is written in the model's chat format (if it has one), the others plainly.
// Whole documents end with EOS.
std::vector<std::vector<int32_t>> TokenizeDocuments(const std::vector<Document>& documents, const Tokenizer& tokenizer);

}  // namespace gateskip
