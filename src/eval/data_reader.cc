// SPDX-License-Identifier: Apache-2.0
// The formats. Finding files is in data_files.cc.
#include "eval/data_reader.h"

#include <algorithm>
#include <filesystem>
#include <span>

#include "base/check.h"
#include "io/hub_directory.h"
#include "io/json.h"
#include "text/template_interpreter.h"
#include "text/utf8.h"

namespace gateskip {
namespace {

using nlohmann::json;
using Format = DataSpec::Format;

constexpr int kMaxJsonLevels = 32;  // as templates take them

std::string At(const std::string& origin, uint64_t line) { return fmt::format("{}:{}", origin, line); }

// Lines with their numbers, from 1, without their ends; a last line without an end counts.
template <typename Take>
void ForEachLine(std::string_view text, const std::string& origin, const Take& take) {
  uint64_t number = 1;
  for (size_t begin = 0; begin < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.size() > kMaxRecordBytes) {
      Fail(ErrorCode::kLimitExceeded, "[{}] line: expected at most {} bytes, found {}; is it a text of records?",
           At(origin, number), kMaxRecordBytes, line.size());
    }
    take(line, number);
    begin = end + 1;
  }
}

void CheckUtf8(std::string_view text, const std::string& where) {
  const size_t bad = FindInvalidUtf8(text);
  if (bad == std::string_view::npos) return;
  Fail(ErrorCode::kCorruptData, "[{}] text: expected UTF-8, found another byte at {}; convert the file", where, bad);
}

void AddRecord(json record, std::string where, std::vector<Doc>* docs) {
  if (!record.is_object()) {
    Fail(ErrorCode::kInvalidArgument, "[{}] record: expected a JSON object, found {}; name the file with the records",
         where, record.type_name());
  }
  docs->push_back({std::move(record), std::move(where)});
}

std::vector<Doc> ParseJsonLines(std::string_view text, const std::string& origin) {
  std::vector<Doc> docs;
  ForEachLine(text, origin, [&](std::string_view line, uint64_t number) {
    if (line.find_first_not_of(" \t") == std::string_view::npos) return;
    AddRecord(ParseJson(line, At(origin, number), kMaxJsonLevels), At(origin, number), &docs);
  });
  return docs;
}

std::vector<Doc> ParseJsonArray(const DataSpec& spec, std::string_view text, const std::string& origin) {
  json root = ParseJson(text, origin, kMaxJsonLevels);
  json* records = &root;
  if (root.is_object()) {
    const auto name =
        std::find_if(spec.records.begin(), spec.records.end(), [&](const auto& n) { return root.contains(n); });
    if (name == spec.records.end()) {
      Fail(ErrorCode::kInvalidArgument,
           "[{}] JSON: expected an array of records{}, found an object with {}; name another file", origin,
           spec.records.empty() ? std::string() : fmt::format(" or an object with {}", fmt::join(spec.records, " or ")),
           ColumnNames(root));
    }
    records = &root[*name];
  }
  if (!records->is_array()) {
    Fail(ErrorCode::kInvalidArgument, "[{}] JSON: expected an array of records, found {}; name another file", origin,
         records->type_name());
  }
  std::vector<Doc> docs;
  for (json& record : *records) {
    AddRecord(std::move(record), fmt::format("{} record {}", origin, docs.size()), &docs);
  }
  return docs;
}

// One record of RFC 4180 from text[*pos] on; a quote inside an unquoted field is a character. Adds its line ends.
std::vector<std::string> NextCsvRecord(std::string_view text, const std::string& origin, size_t* pos, uint64_t* line) {
  std::vector<std::string> fields(1);
  const size_t begin = *pos;
  const uint64_t first_line = *line;
  bool quoted = false;
  bool field_start = true;
  for (; *pos < text.size(); ++*pos) {
    if (*pos - begin > kMaxRecordBytes) {
      Fail(ErrorCode::kLimitExceeded, "[{}] CSV record: expected at most {} bytes, found more; is a quote missing?",
           At(origin, first_line), kMaxRecordBytes);
    }
    const char c = text[*pos];
    if (c == '\n') ++*line;
    if (quoted) {
      if (c != '"') {
        fields.back() += c;
      } else if (*pos + 1 < text.size() && text[*pos + 1] == '"') {
        fields.back() += '"';
        ++*pos;
      } else {
        quoted = false;
      }
    } else if (c == '"' && field_start) {
      quoted = true;
    } else if (c == ',') {
      fields.emplace_back();
      field_start = true;
      continue;
    } else if (c == '\n' || (c == '\r' && *pos + 1 < text.size() && text[*pos + 1] == '\n')) {
      if (c == '\r') {
        ++*pos;
        ++*line;
      }
      ++*pos;
      return fields;
    } else {
      fields.back() += c;
    }
    field_start = false;
  }
  if (quoted) {
    Fail(ErrorCode::kCorruptData, "[{}] CSV record: expected a closing quote, found the end of the file; correct it",
         At(origin, first_line));
  }
  return fields;
}

// The header may name the columns in another order, and more of them.
bool IsHeader(const std::vector<std::string>& row, const std::vector<std::string>& columns) {
  return std::all_of(columns.begin(), columns.end(),
                     [&](const std::string& name) { return std::find(row.begin(), row.end(), name) != row.end(); });
}

std::vector<Doc> ParseCsv(const DataSpec& spec, std::string_view text, const std::string& origin) {
  std::vector<Doc> docs;
  std::vector<std::string> columns = spec.columns;
  size_t pos = 0;
  uint64_t line = 1;
  for (bool first = true; pos < text.size(); first = false) {
    const uint64_t row_line = line;
    const size_t begin = pos;
    const std::vector<std::string> row = NextCsvRecord(text, origin, &pos, &line);
    CheckUtf8(text.substr(begin, pos - begin), At(origin, row_line));
    if (first && IsHeader(row, columns)) {
      columns = row;
      continue;
    }
    if (row.size() == 1 && row[0].empty()) continue;
    if (row.size() != columns.size()) {
      Fail(ErrorCode::kInvalidArgument,
           "[{}] CSV record: expected the {} columns {}, found {} starting with '{}'; name another file",
           At(origin, row_line), columns.size(), ReadableText(fmt::format("{}", fmt::join(columns, ", ")), 200),
           row.size(), ReadableText(row[0], 40));
    }
    json record = json::object();
    for (size_t i = 0; i < columns.size(); ++i) record[columns[i]] = row[i];
    AddRecord(std::move(record), At(origin, row_line), &docs);
  }
  return docs;
}

std::vector<Doc> ParseLineRecords(const DataSpec& spec, std::string_view text, const std::string& origin) {
  std::vector<Doc> docs;
  json record = json::object();
  uint64_t first_line = 1;
  ForEachLine(text, origin, [&](std::string_view line, uint64_t number) {
    if (record.empty()) first_line = number;
    CheckUtf8(line, At(origin, number));
    record[spec.columns[record.size()]] = line;
    if (record.size() < spec.columns.size()) return;
    AddRecord(std::move(record), At(origin, first_line), &docs);
    record = json::object();
  });
  if (!record.empty()) {
    Fail(ErrorCode::kCorruptData, "[{}] record: expected {} lines ({}), found {} at the end of the file; complete it",
         At(origin, first_line), spec.columns.size(), fmt::join(spec.columns, ", "), record.size());
  }
  return docs;
}

bool Lists(const DataSpec& spec, Format format) {
  return std::find(spec.formats.begin(), spec.formats.end(), format) != spec.formats.end();
}

Format FormatOf(const DataSpec& spec, std::string_view text) {
  if (spec.formats.size() == 1) return spec.formats[0];
  const size_t first = text.find_first_not_of(" \t\r\n");
  const char c = first == std::string_view::npos ? '\0' : text[first];
  if (c == '[' && Lists(spec, Format::kJson)) return Format::kJson;
  if (c == '{' && Lists(spec, Format::kJsonl)) return Format::kJsonl;
  if (c == '{' && Lists(spec, Format::kJson)) return Format::kJson;
  for (const Format format : spec.formats) {
    if (format != Format::kJson && format != Format::kJsonl) return format;
  }
  return spec.formats[0];
}

std::string ReadFile(const std::string& path, Sha256* digest) {
  std::string text = ReadTextFile(path, kMaxDataBytes);
  digest->Update(std::as_bytes(std::span(text)));
  return text;
}

// The labels file of a data file: beside it, with its name without the ending for the `*`.
std::string LabelsPath(const std::string& data_path, std::string name) {
  const size_t name_begin = data_path.rfind('/') + 1;
  const std::string file = data_path.substr(name_begin);
  if (const size_t star = name.find('*'); star != std::string::npos)
    name.replace(star, 1, file.substr(0, file.rfind('.')));
  return data_path.substr(0, name_begin) + name;
}

// Joins column `label`, where the records have none: line by line, or by the value of the key column.
void JoinLabels(const DataSpec& spec, const std::string& data_path, std::vector<Doc>* docs, Sha256* digest) {
  const json& first = docs->front().record;
  if (spec.labels.empty() || first.contains("label")) return;
  if (!spec.labels_key.empty() && !first.contains(spec.labels_key)) return;
  const std::string path = LabelsPath(data_path, spec.labels);
  std::error_code error;
  // Without a file for a key the records may bring what else the task needs; it says so where they do not.
  if (!spec.labels_key.empty() && !std::filesystem::exists(path, error)) return;
  const std::string text = ReadFile(path, digest);
  if (!spec.labels_key.empty()) {
    const json labels = ParseJson(text, path, kMaxJsonLevels);
    for (Doc& doc : *docs) {
      const auto key = doc.record.find(spec.labels_key);
      const bool is_text = key != doc.record.end() && key->is_string();
      const auto label = is_text && labels.is_object() ? labels.find(key->get_ref<const std::string&>()) : labels.end();
      if (!is_text || !labels.is_object() || label == labels.end()) {
        Fail(ErrorCode::kCorruptData,
             "[{}] labels: expected an entry for the {} of {}, found none; is it of another file?", path,
             spec.labels_key, doc.origin);
      }
      doc.record["label"] = *label;
    }
    return;
  }
  CheckUtf8(text, path);
  size_t next = 0;
  ForEachLine(text, path, [&](std::string_view line, uint64_t) {
    if (next < docs->size()) (*docs)[next].record["label"] = jinja::StripText(line, nullptr, true, true);
    ++next;
  });
  if (next != docs->size()) {
    Fail(ErrorCode::kCorruptData,
         "[{}] labels: expected {} lines, one for each record of {}, found {}; is it of another file?", path,
         docs->size(), data_path, next);
  }
}

}  // namespace

std::vector<Doc> ParseDocs(const DataSpec& spec, std::string_view text, const std::string& origin) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  std::vector<Doc> docs;
  switch (FormatOf(spec, text)) {
    case Format::kJsonl:
      docs = ParseJsonLines(text, origin);
      break;
    case Format::kJson:
      docs = ParseJsonArray(spec, text, origin);
      break;
    case Format::kCsv:
      docs = ParseCsv(spec, text, origin);
      break;
    case Format::kLines:
      docs = ParseLineRecords(spec, text, origin);
      break;
    case Format::kText:
      CheckUtf8(text, origin);
      if (!text.empty()) AddRecord({{"text", text}}, At(origin, 1), &docs);
      break;
  }
  if (docs.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[{}] data set: expected one record or more, found none; name another file",
         origin);
  }
  return docs;
}

std::vector<Doc> ReadDocs(const DataSpec& spec, const DataFile& file, Sha256* digest) {
  std::vector<Doc> docs = ParseDocs(spec, ReadFile(file.path, digest), file.path);
  for (Doc& doc : docs) {
    doc.subset = file.subset;
    if (!file.subset.empty()) doc.record["subset"] = file.subset;
  }
  JoinLabels(spec, file.path, &docs, digest);
  return docs;
}

}  // namespace gateskip
