// SPDX-License-Identifier: Apache-2.0
#include "eval/toml_reader.h"

#include <algorithm>
#include <sstream>

#include "base/check.h"
#include "base/nearest_name.h"
#include "text/utf8.h"

namespace gateskip {
namespace {

constexpr size_t kMaxQuoted = 64;

std::string Advice(const std::vector<std::string>& known, const std::string& found) {
  const std::string nearest = NearestName(known, found);
  if (!nearest.empty()) return fmt::format("did you mean '{}'?", nearest);
  std::vector<std::string> sorted = known;
  std::sort(sorted.begin(), sorted.end());
  return fmt::format("known are {}", fmt::join(sorted, ", "));
}

}  // namespace

const toml::node* TomlReader::Find(const char* key) {
  if (std::find(known_.begin(), known_.end(), key) == known_.end()) known_.emplace_back(key);
  return table_.get(key);
}

std::string TomlReader::Where(const char* key) const {
  const toml::node* node = table_.get(key);
  return fmt::format("{}:{}", origin_, (node != nullptr ? node->source() : table_.source()).begin.line);
}

void TomlReader::FailType(const char* key, const char* expected) const {
  std::ostringstream found;
  found << table_.get(key)->type();
  Fail(ErrorCode::kInvalidArgument, "[{}] {}: expected {}, found a value of type {}; correct the value", Where(key),
       Name(key), expected, found.str());
}

void TomlReader::FailUnknown(const char* key, const std::string& found, const std::vector<std::string>& known) const {
  Fail(ErrorCode::kInvalidArgument, "[{}] {}: expected a known name, found '{}'; {}", Where(key), Name(key),
       ReadableText(found, kMaxQuoted), Advice(known, found));
}

void TomlReader::Read(const char* key, std::string* value) {
  const toml::node* node = Find(key);
  if (node == nullptr) return;
  const auto text = node->value_exact<std::string>();
  if (!text) FailType(key, "a string");
  *value = *text;
}

void TomlReader::Read(const char* key, bool* value) {
  const toml::node* node = Find(key);
  if (node == nullptr) return;
  const auto flag = node->value_exact<bool>();
  if (!flag) FailType(key, "true or false");
  *value = *flag;
}

void TomlReader::Read(const char* key, int min, int max, int* value) {
  const toml::node* node = Find(key);
  if (node == nullptr) return;
  const auto number = node->value_exact<int64_t>();
  if (!number) FailType(key, "an integer");
  if (*number < min || *number > max) {
    Fail(ErrorCode::kInvalidArgument, "[{}] {}: expected {} to {}, found {}; correct the value", Where(key), Name(key),
         min, max, *number);
  }
  *value = static_cast<int>(*number);
}

void TomlReader::Read(const char* key, double* value) {
  const toml::node* node = Find(key);
  if (node == nullptr) return;
  const auto number = node->value<double>();
  if (!number) FailType(key, "a number");
  *value = *number;
}

void TomlReader::ReadWord(const char* key, std::string* value) {
  const toml::node* node = Find(key);
  if (node == nullptr || node->is_string()) return Read(key, value);
  if (!node->is_number()) FailType(key, "a string or a number");
  std::ostringstream text;
  node->visit([&text](const auto& number) { text << number; });
  *value = text.str();
}

void TomlReader::Read(const char* key, std::map<std::string, std::string>* values) {
  const toml::table* table = Table(key);
  if (table == nullptr) return;
  for (const auto& [name, node] : *table) {
    const auto text = node.value_exact<std::string>();
    if (!text) FailType(key, "a table of strings");
    values->insert_or_assign(std::string(name.str()), *text);
  }
}

void TomlReader::ReadList(const char* key, std::vector<std::string>* values) {
  const toml::node* node = Find(key);
  if (node == nullptr) return;
  values->clear();
  const toml::array* array = node->as_array();
  if (array == nullptr) {
    values->emplace_back();
    return Read(key, &values->back());
  }
  for (const toml::node& element : *array) {
    const auto text = element.value_exact<std::string>();
    if (!text) FailType(key, "strings");
    values->push_back(*text);
  }
}

const toml::table* TomlReader::Table(const char* key) {
  const toml::node* node = Find(key);
  if (node == nullptr) return nullptr;
  if (!node->is_table()) FailType(key, "a table");
  return node->as_table();
}

std::vector<const toml::table*> TomlReader::Tables(const char* key) {
  const toml::node* node = Find(key);
  if (node == nullptr) return {};
  const toml::array* array = node->as_array();
  if (array == nullptr) FailType(key, "an array of tables");
  std::vector<const toml::table*> tables;
  for (const toml::node& element : *array) {
    if (!element.is_table()) FailType(key, "an array of tables");
    tables.push_back(element.as_table());
  }
  return tables;
}

void TomlReader::Finish() const {
  for (const auto& [key, node] : table_) {
    const std::string word(key.str());
    if (std::find(known_.begin(), known_.end(), word) != known_.end()) continue;
    Fail(ErrorCode::kInvalidArgument, "[{}:{}] key {}: expected a known one, found '{}'; {}", origin_,
         node.source().begin.line, ReadableText(Name(word.c_str()), kMaxQuoted), ReadableText(word, kMaxQuoted),
         Advice(known_, word));
  }
}

}  // namespace gateskip
