// SPDX-License-Identifier: Apache-2.0
// Reads one TOML table key by key. What was asked for is what is known: Finish() refuses the rest by name.
#pragma once

#include <toml++/toml.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace gateskip {

class TomlReader {
 public:
  // `prefix` goes before keys in messages ("data."). `table` must outlive the reader.
  TomlReader(const toml::table& table, std::string origin, std::string prefix)
      : table_(table), origin_(std::move(origin)), prefix_(std::move(prefix)) {}

  bool Has(const char* key) { return Find(key) != nullptr; }
  bool IsArray(const char* key) { return Has(key) && Find(key)->is_array(); }
  // Absent keys leave `value` as it is. A value of another type throws Error(kInvalidArgument) with file and line.
  void Read(const char* key, std::string* value);
  void Read(const char* key, bool* value);
  void Read(const char* key, int min, int max, int* value);
  void Read(const char* key, double* value);
  void ReadWord(const char* key, std::string* value);  // a string, or a number as TOML writes it ("1.0")
  void Read(const char* key, std::map<std::string, std::string>* values);  // a table of strings
  void ReadList(const char* key, std::vector<std::string>* values);        // a string, or an array of strings
  // A word of a fixed list, as what it stands for.
  template <typename T>
  void ReadChoice(const char* key, const std::vector<std::pair<std::string, T>>& words, T* value) {
    if (Find(key) == nullptr) return;
    std::string word;
    Read(key, &word);
    *value = Choose(word, key, words);
  }
  template <typename T>
  T Choose(const std::string& word, const char* key, const std::vector<std::pair<std::string, T>>& words) {
    std::vector<std::string> names;
    for (const auto& [name, value] : words) {
      if (name == word) return value;
      names.push_back(name);
    }
    FailUnknown(key, word, names);
  }

  // nullptr when absent.
  const toml::table* Table(const char* key);
  std::vector<const toml::table*> Tables(const char* key);  // [[key]]

  // Keys nobody asked for throw Error(kInvalidArgument), naming the nearest one.
  void Finish() const;

  // "file:line" of a key, or of the table where the key is absent.
  std::string Where(const char* key) const;
  std::string Name(const char* key) const { return prefix_ + key; }
  [[noreturn]] void FailUnknown(const char* key, const std::string& found, const std::vector<std::string>& known) const;

 private:
  const toml::node* Find(const char* key);
  [[noreturn]] void FailType(const char* key, const char* expected) const;

  const toml::table& table_;
  std::string origin_;
  std::string prefix_;
  std::vector<std::string> known_;
};

}  // namespace gateskip
