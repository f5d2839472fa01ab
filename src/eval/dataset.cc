// SPDX-License-Identifier: Apache-2.0
#include "eval/dataset.h"

#include <algorithm>
#include <filesystem>

#include "base/check.h"
#include "base/sha256.h"
#include "eval/process_docs.h"
#include "io/hub_directory.h"
#include "io/json.h"
#include "text/utf8.h"

namespace gateskip {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxFileBytes = size_t{1} << 30;
constexpr size_t kMaxLineBytes = size_t{64} << 20;

// "dev/*.csv": one star, in the last part.
bool Matches(const std::string& name, const std::string& pattern) {
  const size_t star = pattern.find('*');
  if (star == std::string::npos) return name == pattern;
  return name.size() + 1 >= pattern.size() && name.starts_with(pattern.substr(0, star)) &&
         name.ends_with(pattern.substr(star + 1));
}

std::vector<std::string> FilesAt(const std::vector<std::string>& names, const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::exists(path, error)) {
    Fail(ErrorCode::kNotFound, "[{}] data: expected a file or a directory, found nothing; check the path", path);
  }
  if (!fs::is_directory(path, error)) return {path};
  for (const std::string& name : names) {
    const fs::path pattern = fs::path(path) / name;
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(pattern.parent_path(), error)) {
      if (Matches(entry.path().filename().string(), pattern.filename().string()))
        found.push_back(entry.path().string());
    }
    std::ranges::sort(found);
    if (!found.empty()) return found;
  }
  Fail(ErrorCode::kNotFound, "[{}] data: expected one of {} in it, found none; name the file itself", path,
       fmt::join(names, ", "));
}

void CheckUtf8(std::string_view text, const std::string& origin) {
  if (FindInvalidUtf8(text) == std::string_view::npos) return;
  Fail(ErrorCode::kCorruptData, "[{}] text: expected UTF-8, found other bytes; convert the file", origin);
}

std::vector<std::string_view> Lines(std::string_view text, const std::string& origin) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.size() > kMaxLineBytes) {
      Fail(ErrorCode::kLimitExceeded, "[{}:{}] line: expected at most {} bytes, found {}; split it", origin,
           lines.size() + 1, kMaxLineBytes, line.size());
    }
    lines.push_back(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

void ReadJsonl(const std::string& text, const std::string& path, std::vector<Json>* documents) {
  const std::vector<std::string_view> lines = Lines(text, path);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].find_first_not_of(" \t") == std::string_view::npos) continue;
    Json document = ParseJson(lines[i], fmt::format("{}:{}", path, i + 1));
    if (!document.is_object()) {
      Fail(ErrorCode::kCorruptData, "[{}:{}] document: expected an object, found something else; one per line", path,
           i + 1);
    }
    documents->push_back(std::move(document));
  }
}

// An array of objects, or the first array of objects an object holds (SQuAD's `data`, a release's `queries`).
void ReadJsonArray(const std::string& text, const std::string& path, std::vector<Json>* documents) {
  Json root = ParseJson(text, path);
  Json* array = root.is_array() ? &root : nullptr;
  if (root.is_object()) {
    for (auto& member : root) {
      if (array == nullptr && member.is_array() && !member.empty() && member[0].is_object()) array = &member;
    }
  }
  if (array == nullptr) {
    Fail(ErrorCode::kCorruptData, "[{}] data: expected an array of objects, found none; check the file", path);
  }
  for (size_t i = 0; i < array->size(); ++i) {
    if (!(*array)[i].is_object()) {
      Fail(ErrorCode::kCorruptData, "[{}] document {}: expected an object, found something else; check the file", path,
           i);
    }
    documents->push_back(std::move((*array)[i]));
  }
}

void ReadCsv(const DataSpec& spec, const std::string& text, const std::string& path, std::vector<Json>* documents) {
  const auto rows = ParseCsv(text, path);
  if (rows.empty()) return;
  std::vector<std::string> columns = spec.columns;
  size_t first = 0;
  const auto in_first_line = [&](const std::string& name) { return std::ranges::find(rows[0], name) != rows[0].end(); };
  const bool has_header = std::ranges::all_of(columns, in_first_line);
  if (has_header) {
    columns = rows[0];
    first = 1;
  }
  for (size_t i = first; i < rows.size(); ++i) {
    if (rows[i].size() == 1 && rows[i][0].empty()) continue;
    if (rows[i].size() != columns.size()) {
      Fail(ErrorCode::kCorruptData, "[{}] row {}: expected {} columns ({}), found {}; check its quotes", path, i + 1,
           columns.size(), fmt::join(columns, ", "), rows[i].size());
    }
    Json document = Json::object();
    for (size_t c = 0; c < columns.size(); ++c) document[columns[c]] = rows[i][c];
    document["file"] = std::filesystem::path(path).stem().string();
    documents->push_back(std::move(document));
  }
}

void ReadRecords(int record_lines, const std::string& text, const std::string& path, std::vector<Json>* documents) {
  const std::vector<std::string_view> lines = Lines(text, path);
  const auto n = static_cast<size_t>(record_lines);
  if (lines.size() % n != 0) {
    Fail(ErrorCode::kCorruptData, "[{}] lines: expected a multiple of {}, found {}; the file is cut short", path, n,
         lines.size());
  }
  for (size_t i = 0; i < lines.size(); i += n) {
    Json list = Json::array();
    for (size_t j = 0; j < n; ++j) list.push_back(std::string(lines[i + j]));
    documents->push_back({{"lines", std::move(list)}});
  }
}

void ReadFile(const DataSpec& spec, const std::string& path, const std::string& text, std::vector<Json>* documents) {
  switch (spec.format) {
    case DataFormat::kJsonl:
      // A file of one array is a common other form of the same data.
      if (text.find_first_not_of(" \t\r\n") != std::string::npos && text[text.find_first_not_of(" \t\r\n")] == '[') {
        return ReadJsonArray(text, path, documents);
      }
      return ReadJsonl(text, path, documents);
    case DataFormat::kJson:
      return ReadJsonArray(text, path, documents);
    case DataFormat::kCsv:
      return ReadCsv(spec, text, path, documents);
    case DataFormat::kLines:
      return ReadRecords(spec.record_lines, text, path, documents);
    case DataFormat::kText:
      documents->push_back({{"text", text}});
  }
}

std::string Beside(const std::string& path, const std::string& name) {
  return (std::filesystem::path(path).parent_path() / name).string();
}

void AddLabels(const DataSpec& spec, const std::string& path, Sha256* hash, std::vector<Json>* documents) {
  const std::string labels_path = Beside(path, spec.labels_file);
  const std::string text = ReadTextFile(labels_path, kMaxFileBytes);
  hash->Update(std::as_bytes(std::span<const char>(text)));
  const std::vector<std::string_view> labels = Lines(text, labels_path);
  if (labels.size() != documents->size()) {
    Fail(ErrorCode::kMismatch,
         "[{}] labels: expected {} lines as {} has documents, found {}; use the files of one release", labels_path,
         documents->size(), path, labels.size());
  }
  for (size_t i = 0; i < labels.size(); ++i) (*documents)[i]["label"] = std::string(labels[i]);
}

void AddAnswers(const DataSpec& spec, const std::string& path, Sha256* hash, std::vector<Json>* documents) {
  const std::string answers_path = Beside(path, spec.answers_file);
  std::error_code error;
  if (!std::filesystem::exists(answers_path, error)) return;  // the documents bring their own
  const std::string text = ReadTextFile(answers_path, kMaxFileBytes);
  hash->Update(std::as_bytes(std::span<const char>(text)));
  const Json answers = ParseJson(text, answers_path);
  for (Json& document : *documents) {
    if (!document.contains("id") || !document["id"].is_string()) continue;
    const auto found = answers.find(document["id"].get<std::string>());
    if (found != answers.end() && found->is_object()) document.update(*found);
  }
}

void CheckRequired(const DataSpec& spec, const std::string& path, const std::vector<Json>& documents) {
  for (size_t i = 0; i < documents.size(); ++i) {
    for (const std::string& column : spec.required) {
      if (documents[i].contains(column)) continue;
      std::vector<std::string> found;
      for (const auto& [key, value] : documents[i].items()) found.push_back(key);
      Fail(ErrorCode::kInvalidArgument,
           "[{}] document {}: expected a column '{}', found {}; use the data set's own files", path, i, column,
           found.empty() ? "none" : fmt::format("{}", fmt::join(found, ", ")));
    }
  }
}

}  // namespace

std::vector<std::vector<std::string>> ParseCsv(std::string_view text, const std::string& origin) {
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> row;
  std::string field;
  bool quoted = false;
  bool any = false;  // of the row at hand
  const auto end_row = [&] {
    row.push_back(std::move(field));
    field.clear();
    rows.push_back(std::move(row));
    row.clear();
    any = false;
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '"' && i + 1 < text.size() && text[i + 1] == '"') {
        field += '"';
        ++i;
      } else if (c == '"') {
        quoted = false;
      } else {
        field += c;
      }
      continue;
    }
    any = any || c != '\n';
    if (c == '"' && field.empty()) {
      quoted = true;
    } else if (c == ',') {
      row.push_back(std::move(field));
      field.clear();
    } else if (c == '\n') {
      if (any || !row.empty()) end_row();
    } else if (c != '\r' || i + 1 >= text.size() || text[i + 1] != '\n') {
      field += c;
    }
  }
  if (quoted) {
    Fail(ErrorCode::kCorruptData, "[{}] row {}: expected a closing quote, found the end of the file; check its quotes",
         origin, rows.size() + 1);
  }
  if (any || !row.empty()) end_row();
  return rows;
}

Dataset ReadDataset(const DataSpec& spec, const std::vector<std::string>& names, const std::string& path) {
  Dataset data;
  Sha256 hash;
  const std::vector<std::string> files = FilesAt(names, path);
  for (const std::string& file : files) {
    const std::string text = ReadTextFile(file, kMaxFileBytes);
    CheckUtf8(text, file);
    hash.Update(std::as_bytes(std::span<const char>(text)));
    ReadFile(spec, file, text, &data.documents);
  }
  if (!spec.labels_file.empty()) AddLabels(spec, files[0], &hash, &data.documents);
  if (!spec.answers_file.empty()) AddAnswers(spec, files[0], &hash, &data.documents);
  if (!spec.process.empty()) data.documents = ProcessDocuments(spec.process, std::move(data.documents), files[0]);
  CheckRequired(spec, files[0], data.documents);
  if (data.documents.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[{}] data: expected at least one document, found none; check the file",
         files[0]);
  }
  data.sha256 = hash.HexDigest();
  return data;
}

}  // namespace gateskip
