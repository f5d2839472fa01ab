// SPDX-License-Identifier: Apache-2.0
#include "eval/task_spec.h"

#include <toml++/toml.h>

#include <limits>
#include <optional>
#include <sstream>

#include "base/check.h"
#include "base/nearest_name.h"
#include "eval/builtin_tasks.h"
#include "eval/metrics.h"
#include "eval/process_docs.h"
#include "io/hub_directory.h"
#include "io/toml_text.h"

namespace gateskip {
namespace {

constexpr size_t kMaxTaskBytes = size_t{1} << 20;

// A table whose keys must all be asked for.
class Section {
 public:
  Section(const toml::table& table, std::string origin, std::string name)
      : table_(table), origin_(std::move(origin)), name_(std::move(name)) {}

  std::string String(const char* key, const std::string& fallback) {
    const toml::node* node = Find(key);
    return node == nullptr ? fallback : Word(*node, key);
  }
  std::string RequiredString(const char* key) {
    const toml::node* node = Find(key);
    if (node == nullptr) Refuse(table_, key, "a value", "none");
    return Word(*node, key);
  }
  int Int(const char* key, int fallback, int low, int high) {
    const toml::node* node = Find(key);
    if (node == nullptr) return fallback;
    const auto value = node->value_exact<int64_t>();
    if (!value || *value < low || *value > high)
      Refuse(*node, key, fmt::format("a whole number in [{}, {}]", low, high), Shown(*node));
    return static_cast<int>(*value);
  }
  bool Bool(const char* key, bool fallback) {
    const toml::node* node = Find(key);
    if (node == nullptr) return fallback;
    const auto value = node->value_exact<bool>();
    if (!value) Refuse(*node, key, "true or false", Shown(*node));
    return *value;
  }
  // One string or a list of them.
  std::vector<std::string> Strings(const char* key) {
    const toml::node* node = Find(key);
    std::vector<std::string> words;
    if (node == nullptr) return words;
    if (const toml::array* array = node->as_array()) {
      for (const toml::node& element : *array) words.push_back(Word(element, key));
      return words;
    }
    words.push_back(Word(*node, key));
    return words;
  }
  std::optional<Section> Table(const char* key) {
    const toml::node* node = Find(key);
    if (node == nullptr) return std::nullopt;
    if (const toml::table* table = node->as_table()) return Section(*table, origin_, Name(key));
    Refuse(*node, key, "a table", Shown(*node));
  }
  std::vector<Section> Tables(const char* key) {
    const toml::node* node = Find(key);
    std::vector<Section> sections;
    if (node == nullptr) return sections;
    const toml::array* array = node->as_array();
    if (array == nullptr) Refuse(*node, key, "a list of tables", Shown(*node));
    for (const toml::node& element : *array) {
      const toml::table* table = element.as_table();
      if (table == nullptr) Refuse(element, key, "a list of tables", Shown(element));
      sections.emplace_back(*table, origin_, Name(key));
    }
    return sections;
  }
  // The value of `key` among named ones.
  template <typename Enum, size_t n>
  Enum Choice(const char* key, const std::pair<Enum, const char*> (&known)[n], std::optional<Enum> fallback) {
    const toml::node* node = Find(key);
    if (node == nullptr) {
      if (fallback) return *fallback;
      Refuse(table_, key, "a value", "none");
    }
    const std::string word = Word(*node, key);
    std::vector<std::string> names;
    for (const auto& [value, name] : known) {
      if (word == name) return value;
      names.emplace_back(name);
    }
    const std::string nearest = NearestName(names, word);
    Refuse(*node, key, fmt::format("one of {}", fmt::join(names, ", ")),
           nearest.empty() ? fmt::format("'{}'", word) : fmt::format("'{}' (did you mean '{}'?)", word, nearest));
  }
  [[noreturn]] void Refuse(const char* key, const std::string& expected, const std::string& found) const {
    const toml::node* node = table_.get(key);
    Refuse(node != nullptr ? *node : table_, key, expected, found);
  }
  // After the last key has been asked for.
  void Finish() const {
    for (const auto& [key, node] : table_) {
      const std::string word(key.str());
      if (std::find(asked_.begin(), asked_.end(), word) != asked_.end()) continue;
      const std::string nearest = NearestName(asked_, word);
      Fail(ErrorCode::kInvalidArgument, "[{}:{}] {}: expected a known key, found '{}'; {}", origin_,
           key.source().begin.line, name_, word.substr(0, 64),
           nearest.empty() ? std::string("docs/eval_tasks.md lists them") : fmt::format("did you mean '{}'?", nearest));
    }
  }

 private:
  const toml::node* Find(const char* key) {
    asked_.emplace_back(key);
    return table_.get(key);
  }
  std::string Name(const char* key) const { return name_ == "task" ? key : fmt::format("{}.{}", name_, key); }
  static std::string Shown(const toml::node& node) {
    std::ostringstream out;
    out << node.type();
    return out.str();
  }
  std::string Word(const toml::node& node, const char* key) const {
    if (const auto value = node.value_exact<std::string>()) return *value;
    Refuse(node, key, "a string", Shown(node));
  }
  [[noreturn]] void Refuse(const toml::node& node, const char* key, const std::string& expected,
                           const std::string& found) const {
    Fail(ErrorCode::kInvalidArgument, "[{}:{}] {}: expected {}, found {}; correct the task file", origin_,
         node.source().begin.line, Name(key), expected, found);
  }

  const toml::table& table_;
  std::string origin_;
  std::string name_;
  std::vector<std::string> asked_;
};

constexpr std::pair<OutputType, const char*> kOutputTypes[] = {
    {OutputType::kLoglikelihood, "loglikelihood"},
    {OutputType::kLoglikelihoodRolling, "loglikelihood_rolling"},
    {OutputType::kMultipleChoice, "multiple_choice"},
    {OutputType::kGenerateUntil, "generate_until"}};
constexpr std::pair<FilterKind, const char*> kFilterKinds[] = {{FilterKind::kRegex, "regex"},
                                                               {FilterKind::kTakeFirst, "take_first"},
                                                               {FilterKind::kRemoveWhitespace, "remove_whitespace"},
                                                               {FilterKind::kLowercase, "lowercase"}};
constexpr std::pair<DataFormat, const char*> kDataFormats[] = {{DataFormat::kJsonl, "jsonl"},
                                                               {DataFormat::kJson, "json"},
                                                               {DataFormat::kCsv, "csv"},
                                                               {DataFormat::kLines, "lines"},
                                                               {DataFormat::kText, "text"}};

FilterSpec ReadFilter(Section& section) {
  FilterSpec filter;
  filter.name = section.RequiredString("name");
  for (Section& step : section.Tables("filter")) {
    FilterStep read;
    read.kind = step.Choice("function", kFilterKinds, std::optional<FilterKind>());
    read.pattern = step.String("regex_pattern", R"(#### (\-?[0-9\.\,]+))");
    read.group_select = step.Int("group_select", 0, -1000, 1000);
    read.fallback = step.String("fallback", "[invalid]");
    step.Finish();
    filter.steps.push_back(std::move(read));
  }
  section.Finish();
  return filter;
}

MetricSpec ReadMetric(Section& section, OutputType output) {
  MetricSpec metric;
  metric.metric = section.RequiredString("metric");
  const std::vector<std::string> known = MetricNames(output);
  if (std::find(known.begin(), known.end(), metric.metric) == known.end()) {
    section.Refuse("metric", fmt::format("one of {}", fmt::join(known, ", ")), fmt::format("'{}'", metric.metric));
  }
  metric.ignore_case = section.Bool("ignore_case", false);
  metric.ignore_punctuation = section.Bool("ignore_punctuation", false);
  metric.regexes_to_ignore = section.Strings("regexes_to_ignore");
  section.Finish();
  return metric;
}

DataSpec ReadData(Section& section) {
  DataSpec data;
  data.format = section.Choice("format", kDataFormats, std::optional(DataFormat::kJsonl));
  data.files = section.Strings("files");
  data.fewshot_files = section.Strings("fewshot_files");
  data.labels_file = section.String("labels_file", "");
  data.answers_file = section.String("answers_file", "");
  data.columns = section.Strings("columns");
  data.required = section.Strings("required");
  data.record_lines = section.Int("record_lines", 1, 1, 1000);
  data.process = section.String("process", "");
  const std::vector<std::string> known = ProcessNames();
  if (!data.process.empty() && std::find(known.begin(), known.end(), data.process) == known.end()) {
    section.Refuse("process", fmt::format("one of {}", fmt::join(known, ", ")), fmt::format("'{}'", data.process));
  }
  section.Finish();
  return data;
}

TaskSpec ReadTask(Section& task) {
  TaskSpec spec;
  spec.name = task.RequiredString("task");
  if (spec.name.empty() || spec.name.find_first_of("/\\\n") != std::string::npos) {
    task.Refuse("task", "a name without slashes", fmt::format("'{}'", spec.name));
  }
  spec.output_type = task.Choice("output_type", kOutputTypes, std::optional<OutputType>());
  spec.doc_to_text = task.String("doc_to_text", "");
  spec.doc_to_target = task.RequiredString("doc_to_target");
  spec.doc_to_choice = task.Strings("doc_to_choice");
  spec.multiple_inputs = task.Bool("multiple_inputs", false);
  spec.continuation = task.String("continuation", "");
  spec.description = task.String("description", "");
  spec.target_delimiter = task.String("target_delimiter", " ");
  spec.fewshot_delimiter = task.String("fewshot_delimiter", "\n\n");
  spec.num_fewshot = task.Int("num_fewshot", 0, 0, 100);
  if (auto fewshot = task.Table("fewshot_config")) {
    constexpr std::pair<bool, const char*> kSamplers[] = {{false, "default"}, {true, "first_n"}};
    spec.fewshot_first = fewshot->Choice("sampler", kSamplers, std::optional(false));
    fewshot->Finish();
  }
  if (auto generation = task.Table("generation_kwargs")) {
    spec.until = generation->Strings("until");
    spec.max_gen_toks = generation->Int("max_gen_toks", 256, 1, 1 << 20);
    generation->Finish();
  }
  for (Section& filter : task.Tables("filter_list")) spec.filters.push_back(ReadFilter(filter));
  for (Section& metric : task.Tables("metric_list")) spec.metrics.push_back(ReadMetric(metric, spec.output_type));
  if (auto metadata = task.Table("metadata")) {
    spec.version = metadata->String("version", "0");
    metadata->Finish();
  }
  if (auto data = task.Table("data")) spec.data = ReadData(*data);
  task.Finish();
  if (spec.metrics.empty()) task.Refuse("metric_list", "at least one metric", "none");
  if (spec.output_type == OutputType::kMultipleChoice && spec.doc_to_choice.empty()) {
    task.Refuse("doc_to_choice", "choices for multiple_choice", "none");
  }
  return spec;
}

}  // namespace

TaskSpec ParseTask(std::string_view text, const std::string& origin) {
  CheckTomlText(text, origin);
  try {
    const toml::table table = toml::parse(text, origin);
    Section section(table, origin, "task");
    return ReadTask(section);
  } catch (const toml::parse_error& error) {
    Fail(ErrorCode::kCorruptData, "[{}:{}] task file: expected TOML, found: {}; correct the file", origin,
         error.source().begin.line, error.description());
  }
}

TaskSpec ReadTaskFile(const std::string& path) { return ParseTask(ReadTextFile(path, kMaxTaskBytes), path); }

std::vector<std::string> BuiltinTaskNames() {
  std::vector<std::string> names;
  for (const BuiltinTaskText& task : BuiltinTaskTexts()) names.emplace_back(task.name);
  return names;
}

TaskSpec BuiltinTask(std::string_view name) {
  for (const BuiltinTaskText& task : BuiltinTaskTexts()) {
    if (task.name == name) return ParseTask(task.text, std::string(task.name));
  }
  const std::vector<std::string> names = BuiltinTaskNames();
  const std::string nearest = NearestName(names, name);
  Fail(ErrorCode::kNotFound, "[eval] task: expected one of {}, found '{}'; {}", fmt::join(names, ", "), name,
       nearest.empty() ? std::string("or give a file of your own with --task-file")
                       : fmt::format("did you mean '{}'?", nearest));
}

}  // namespace gateskip
