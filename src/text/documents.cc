// SPDX-License-Identifier: Apache-2.0
#include "text/documents.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "base/check.h"
#include "io/json.h"
#include "text/chat_template.h"

namespace gateskip {
namespace {

constexpr uintmax_t kMaxFileBytes = uintmax_t{4} << 30;
constexpr size_t kPieceBytes = 8192;  // of plain text, cut at the next line end

using Json = nlohmann::json;

const std::string* StringField(const Json& record, const char* name) {
  const auto found = record.find(name);
  return found != record.end() && found->is_string() ? found->get_ptr<const std::string*>() : nullptr;
}

// `origin` names the record in messages.
Document DocumentOf(const Json& record, const std::string& origin) {
  constexpr std::pair<const char*, const char*> kPairs[] = {
      {"question", "answer"}, {"prompt", "completion"}, {"instruction", "output"}};
  if (record.is_object()) {
    if (const std::string* text = StringField(record, "text")) return {*text, "", "", /*whole=*/true};
    for (const auto& [question, answer] : kPairs) {
      const std::string* q = StringField(record, question);
      const std::string* a = StringField(record, answer);
      if (q != nullptr && a != nullptr) return {"", *q, *a, /*whole=*/true};
    }
  }
  Fail(ErrorCode::kCorruptData,
       "{}: expected a string field `text`, or question+answer, prompt+completion or "
       "instruction+output, found none of them; convert the file",
       origin);
}

void CutText(const std::string& content, std::vector<Document>& documents) {
  size_t begin = 0;
  while (begin < content.size()) {
    size_t end = content.size();
    if (content.size() - begin > kPieceBytes) {
      // The search is bounded, or a file without line ends would take quadratic time. It is cut where it is: tokenisers
      // take bytes, never refuse them.
      const size_t newline = std::string_view(content).substr(begin + kPieceBytes, 3 * kPieceBytes + 1).find('\n');
      end = begin + kPieceBytes + (newline == std::string_view::npos ? 0 : newline + 1);
    }
    documents.push_back({content.substr(begin, end - begin), "", "", /*whole=*/false});
    begin = end;
  }
}

}  // namespace

std::vector<Document> ParseDocuments(const std::string& content, const std::string& path) {
  std::vector<Document> documents;
  const std::string extension = std::filesystem::path(path).extension().string();
  if (extension == ".json") {
    const Json array = ParseJson(content, path);
    if (!array.is_array()) {
      Fail(ErrorCode::kCorruptData,
           "[{}] top level: expected an array of records, found {}; use .jsonl for one record "
           "per line",
           path, array.type_name());
    }
    for (size_t i = 0; i < array.size(); ++i) {
      documents.push_back(DocumentOf(array[i], fmt::format("[{}] record {}", path, i + 1)));
    }
  } else if (extension == ".jsonl") {
    size_t line = 0;
    for (size_t begin = 0; begin < content.size();) {
      const size_t newline = std::min(content.find('\n', begin), content.size());
      const std::string_view text(content.data() + begin, newline - begin);
      ++line;
      begin = newline + 1;
      if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      const std::string origin = fmt::format("{}:{}", path, line);
      documents.push_back(DocumentOf(ParseJson(text, origin), fmt::format("[{}] record", origin)));
    }
  } else {
    CutText(content, documents);
  }
  return documents;
}

std::vector<Document> ReadDocuments(const std::string& path) {
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) {
    Fail(ErrorCode::kNotFound, "[{}] text: expected a readable file, found: {}; check the path", path, error.message());
  }
  if (size > kMaxFileBytes) {
    Fail(ErrorCode::kLimitExceeded, "[{}] size: expected at most {} bytes, found {}; split the file", path,
         kMaxFileBytes, size);
  }
  std::ifstream in(path, std::ios::binary);
  std::ostringstream content;
  content << in.rdbuf();
  if (!in) Fail(ErrorCode::kIo, "[{}] text: expected {} bytes, found a read error; try again", path, size);
  return ParseDocuments(content.str(), path);
}

std::vector<std::vector<int32_t>> TokenizeDocuments(const std::vector<Document>& documents,
                                                    const Tokenizer& tokenizer) {
  const bool chat = !tokenizer.chat_template().empty();
  const ChatTemplate chat_template(tokenizer.chat_template());
  const std::string eos = tokenizer.eos() ? tokenizer.TokenBytes(*tokenizer.eos(), true) : std::string();
  const std::string bos = tokenizer.bos() ? tokenizer.TokenBytes(*tokenizer.bos(), true) : std::string();
  std::vector<std::vector<int32_t>> result;
  size_t pairs = 0;
  for (const Document& document : documents) {
    std::vector<int32_t> ids;
    if (document.question.empty() && document.answer.empty()) {
      ids = tokenizer.Encode(document.text, false);
      if (document.whole && !ids.empty() && tokenizer.eos()) ids.push_back(*tokenizer.eos());
    } else if (chat && pairs++ % 2 == 0) {
      const std::string text =
          chat_template.Render({{"user", document.question}, {"assistant", document.answer}}, false, bos, eos);
      ids = tokenizer.Encode(text, true);
      if (tokenizer.add_bos() && !ids.empty() && ids.front() == tokenizer.bos()) ids.erase(ids.begin());
    } else {
      ids = tokenizer.Encode("Question: " + document.question + "\nAnswer: " + document.answer, false);
      if (tokenizer.eos()) ids.push_back(*tokenizer.eos());
    }
    if (!ids.empty()) result.push_back(std::move(ids));
  }
  return result;
}

}  // namespace gateskip
