// SPDX-License-Identifier: Apache-2.0
// Files of training text. An input is a letter for the kind of file (l: .jsonl, j: .json, else .txt) and its contents:
// what is read is tokens of the vocabulary with a mark each, and every row is either used or counted as skipped.
#include <cstdint>
#include <sstream>

#include "text/documents.h"
#include "text/testing/byte_tokenizer.h"
#include "text/testing/laws.h"

namespace gateskip::testing {
namespace {

// Drops the thinking of earlier turns and opens one in its generation prompt: all the ways a turn's tokens are found.
constexpr const char* kTemplate =
    "{{ bos_token }}{% for m in messages %}{{ m['role'] + ':' }}{% if loop.last or m['role'] != 'assistant' %}"
    "{{ m['content'] }}{% else %}{{ m['content'].split('</t>')[-1] | trim }}{% endif %}{{ eos_token + '|' }}"
    "{% endfor %}{% if add_generation_prompt %}assistant:<t>{% endif %}";

struct Read {
  DocumentReport report;
  std::vector<int32_t> ids;
  std::vector<uint8_t> in_loss;
};

Read ReadAll(const std::string& content, const std::string& path, const DocumentOptions& options) {
  static const ByteTokenizer tokenizer(/*add_bos=*/true, kTemplate);
  std::istringstream in(content);
  Read read;
  uint64_t documents = 0;
  read.report = ReadDocuments(in, path, tokenizer, options, [&](EncodedDocument&& document) {
    ++documents;
    Require(!document.ids.empty() && document.ids.size() == document.in_loss.size(), "every token has its mark");
    Require(document.ids.front() != kBos, "the BOS that starts a document is left to its reader");
    for (const int32_t id : document.ids) Require(id >= 0 && id < tokenizer.vocab_size(), "ids are of the vocabulary");
    for (const uint8_t mark : document.in_loss) Require(mark <= 1, "marks are 0 or 1");
    const auto learned = std::find(document.in_loss.begin(), document.in_loss.end(), 1);
    Require(learned != document.in_loss.end(), "every document has something to learn");
    if (options.encode.loss_on_prompts) {
      Require(std::find(document.in_loss.begin(), document.in_loss.end(), 0) == document.in_loss.end(),
              "with prompts in the loss all of it is");
    }
    read.ids.insert(read.ids.end(), document.ids.begin(), document.ids.end());
    read.in_loss.insert(read.in_loss.end(), document.in_loss.begin(), document.in_loss.end());
    return true;
  });
  Require(read.report.used == documents, "what is used is what was handed out");
  Require(read.report.rows == read.report.used + read.report.skipped, "every row is used or skipped");
  Require(read.report.examples.empty() == (read.report.skipped == 0), "the first skipped row is named");
  for (const std::string& example : read.report.examples) CheckError(Error(ErrorCode::kCorruptData, example));
  return read;
}

void Check(const std::string& content, const std::string& path) {
  DocumentOptions options;
  options.max_row_bytes = 4096;
  const Read read = ReadAll(content, path, options);
  options.encode.loss_on_prompts = true;
  Require(ReadAll(content, path, options).ids.size() >= read.ids.size(), "the loss changes no tokens");
  options.encode.loss_on_prompts = false;
  options.strict = true;
  bool refused = false;
  try {
    Require(ReadAll(content, path, options).ids == read.ids, "being strict changes no tokens");
  } catch (const Error& error) {
    CheckError(error);
    refused = true;
  }
  Require(refused == (read.report.skipped > 0), "strict is: every bad row ends the reading");
  if (path == "x.txt" && read.report.skipped == 0) {
    const std::string_view text = content;
    Require(ByteTokenizer().Decode(read.ids, true) == text.substr(text.starts_with("\xEF\xBB\xBF") ? 3 : 0),
            "plain text comes as it is");
  }
}

}  // namespace
}  // namespace gateskip::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string content(reinterpret_cast<const char*>(data + 1), size - 1);
  try {
    gateskip::testing::Check(content, data[0] == 'l' ? "x.jsonl" : data[0] == 'j' ? "x.json" : "x.txt");
  } catch (const gateskip::Error& error) {
    gateskip::testing::CheckError(error);
  }
  return 0;
}
