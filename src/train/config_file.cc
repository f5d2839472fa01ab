// SPDX-License-Identifier: Apache-2.0
#include "train/config_file.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <sstream>

#include "base/check.h"
#include "base/nearest_name.h"
#include "io/hub_directory.h"
#include "io/toml_text.h"

namespace gateskip {
namespace {

constexpr size_t kMaxConfigBytes = size_t{1} << 20;

std::string SectionKey(const TrainOption& option) {
  std::string key = option.section;
  for (char& c : key) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return key;
}

std::string At(const std::string& origin, const toml::node& node) {
  return fmt::format("{}:{}", origin, node.source().begin.line);
}

[[noreturn]] void FailUnknown(const std::string& where, const std::string& what, const std::string& found,
                              const std::vector<std::string>& known) {
  const std::string nearest = NearestName(known, found);
  Fail(ErrorCode::kInvalidArgument, "[{}] {}: expected a known name, found '{}'; {}", where, what, found.substr(0, 64),
       nearest.empty() ? std::string("`gateskip train --print-config` lists them")
                       : fmt::format("did you mean '{}'?", nearest));
}

std::string Shown(const toml::node& node) {
  std::ostringstream out;
  out << node.type();
  return out.str();
}

// A scalar as the word SetOption reads, held to the type that the option's field asks for.
std::string Word(const toml::node& node, const TrainOption& option, const std::string& where, const std::string& name) {
  const auto fail = [&](const char* expected) {
    Fail(ErrorCode::kInvalidArgument, "[{}] {}: expected {}, found a value of type {}; correct the value", where, name,
         expected, Shown(node));
  };
  if (std::holds_alternative<bool*>(option.field)) {
    if (const auto v = node.value_exact<bool>()) return *v ? "true" : "false";
    fail("true or false");
  }
  const bool integer = std::holds_alternative<int*>(option.field) || std::holds_alternative<int64_t*>(option.field) ||
                       std::holds_alternative<uint64_t*>(option.field);
  if (integer || std::holds_alternative<double*>(option.field) || std::holds_alternative<float*>(option.field) ||
      std::holds_alternative<std::vector<double>*>(option.field)) {
    if (const auto v = node.value_exact<int64_t>()) return fmt::format("{}", *v);
    if (integer) fail("an integer");
    if (const auto v = node.value_exact<double>()) return fmt::format("{}", *v);
    fail("a number");
  }
  if (const auto v = node.value_exact<std::string>()) return *v;
  fail("a string");
  return {};
}

// { path = "...", weight = 1.0, begin = 0.0, end = 1.0, prompt = "query", ... }
TrainSource SourceOfTable(const toml::table& table, const std::string& where, const std::string& name) {
  TrainSource source;
  const std::vector<std::pair<std::string, double*>> numbers = {
      {"weight", &source.weight}, {"begin", &source.begin}, {"end", &source.end}};
  const std::vector<std::pair<std::string, std::string*>> texts = {{"path", &source.path},
                                                                   {"text", &source.fields.text},
                                                                   {"prompt", &source.fields.prompt},
                                                                   {"completion", &source.fields.completion},
                                                                   {"messages", &source.fields.messages}};
  for (const auto& [key, node] : table) {
    const std::string word(key.str());
    const auto named = [&](const auto& entry) { return entry.first == word; };
    if (const auto number = std::find_if(numbers.begin(), numbers.end(), named); number != numbers.end()) {
      const auto value = node.value<double>();
      if (!value)
        Fail(ErrorCode::kInvalidArgument, "[{}] {}.{}: expected a number, found {}", where, name, word, Shown(node));
      *number->second = *value;
    } else if (const auto text = std::find_if(texts.begin(), texts.end(), named); text != texts.end()) {
      const auto value = node.value_exact<std::string>();
      if (!value)
        Fail(ErrorCode::kInvalidArgument, "[{}] {}.{}: expected a string, found {}", where, name, word, Shown(node));
      *text->second = *value;
    } else {
      FailUnknown(where, name, word, {"path", "weight", "begin", "end", "text", "prompt", "completion", "messages"});
    }
  }
  if (source.path.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "[{}] {}: expected a path, found a table without one; write {{ path = \"text.jsonl\" }}", where, name);
  }
  return source;
}

void SetFromNode(const toml::node& node, const TrainOption& option, const std::string& origin,
                 const std::string& name) {
  const std::string where = At(origin, node);
  if (!option.is_list()) {
    SetOption(option, {Word(node, option, where, name)}, where, name);
    return;
  }
  std::vector<std::string> words;
  std::vector<TrainSource> sources;
  const auto add = [&](const toml::node& element) {
    if (const toml::table* table = element.as_table();
        table != nullptr && std::holds_alternative<std::vector<TrainSource>*>(option.field)) {
      sources.push_back(SourceOfTable(*table, where, name));
      return;
    }
    words.push_back(Word(element, option, where, name));
    if (std::holds_alternative<std::vector<TrainSource>*>(option.field)) {
      sources.push_back(ParseTrainSource(words.back(), where, name));
    }
  };
  if (const toml::array* array = node.as_array()) {
    for (const toml::node& element : *array) add(element);
  } else {
    add(node);
  }
  if (auto* const* list = std::get_if<std::vector<TrainSource>*>(&option.field)) {
    **list = sources;
  } else {
    SetOption(option, words, where, name);
  }
}

std::string Quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7F) {
      out += fmt::format("\\u{:04X}", byte);
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string SourceText(const TrainSource& s) {
  std::string text = fmt::format("{{ path = {}", Quoted(s.path));
  if (s.weight != 1) text += fmt::format(", weight = {}", s.weight);
  if (s.begin != 0) text += fmt::format(", begin = {}", s.begin);
  if (s.end != 1) text += fmt::format(", end = {}", s.end);
  if (!s.fields.text.empty()) text += ", text = " + Quoted(s.fields.text);
  if (!s.fields.prompt.empty()) text += ", prompt = " + Quoted(s.fields.prompt);
  if (!s.fields.completion.empty()) text += ", completion = " + Quoted(s.fields.completion);
  if (!s.fields.messages.empty()) text += ", messages = " + Quoted(s.fields.messages);
  return text + " }";
}

std::string ValueText(const TrainOption& option) {
  if (auto* const* sources = std::get_if<std::vector<TrainSource>*>(&option.field)) {
    std::vector<std::string> texts;
    for (const TrainSource& s : **sources) texts.push_back(SourceText(s));
    return fmt::format("[{}]", fmt::join(texts, ", "));
  }
  const bool is_text = std::holds_alternative<std::string*>(option.field) ||
                       std::holds_alternative<ChoiceField>(option.field) ||
                       (option.is_list() && !std::holds_alternative<std::vector<double>*>(option.field));
  std::vector<std::string> words = option.words();
  if (is_text) {
    for (std::string& word : words) word = Quoted(word);
  }
  return option.is_list() ? fmt::format("[{}]", fmt::join(words, ", ")) : words[0];
}

}  // namespace

void ApplyConfigText(std::string_view text, const std::string& origin, const std::vector<TrainOption>& table) {
  CheckTomlText(text, origin);
  toml::table root;
  try {
    root = toml::parse(text);
  } catch (const toml::parse_error& e) {
    Fail(ErrorCode::kInvalidArgument, "[{}:{}] syntax: expected TOML, found: {}; correct the line", origin,
         e.source().begin.line, std::string(e.description()));
  }
  std::vector<std::string> sections;
  for (const TrainOption& option : table) sections.push_back(SectionKey(option));
  for (const auto& [section_key, section_node] : root) {
    const std::string section(section_key.str());
    if (std::find(sections.begin(), sections.end(), section) == sections.end()) {
      FailUnknown(At(origin, section_node), "section", section, sections);
    }
    const toml::table* keys = section_node.as_table();
    if (keys == nullptr) {
      Fail(ErrorCode::kInvalidArgument, "[{}] {}: expected a section, found a value; write [{}]",
           At(origin, section_node), section, section);
    }
    std::vector<std::string> known;
    for (const TrainOption& option : table) {
      if (SectionKey(option) == section) known.push_back(option.key());
    }
    for (const auto& [key, node] : *keys) {
      const std::string word(key.str());
      const auto found = std::find_if(table.begin(), table.end(), [&](const TrainOption& option) {
        return option.key() == word && SectionKey(option) == section;
      });
      if (found == table.end()) FailUnknown(At(origin, node), "key of [" + section + "]", word, known);
      SetFromNode(node, *found, origin, section + "." + word);
    }
  }
}

void ApplyConfigFile(const std::string& path, const std::vector<TrainOption>& table) {
  ApplyConfigText(ReadTextFile(path, kMaxConfigBytes), path, table);
}

std::string PrintConfig(const std::vector<TrainOption>& table) {
  std::string out;
  std::string section;
  for (const TrainOption& option : table) {
    if (SectionKey(option) != section) {
      section = SectionKey(option);
      out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", section);
    }
    const std::string type = std::holds_alternative<ChoiceField>(option.field) ? " (" + option.type_name() + ")" : "";
    out += fmt::format("# {}{}\n{} = {}\n", option.help, type, option.key(), ValueText(option));
  }
  return out;
}

}  // namespace gateskip
