// SPDX-License-Identifier: Apache-2.0
#include "eval/task_spec.h"

#include <algorithm>

#include "base/check.h"
#include "base/nearest_name.h"
#include "eval/answer_filter.h"
#include "eval/builtin_tasks.h"
#include "eval/doc_template.h"
#include "eval/metrics.h"
#include "eval/text_match.h"
#include "eval/toml_reader.h"
#include "io/hub_directory.h"
#include "io/toml_text.h"
#include "text/utf8.h"

namespace gateskip {
namespace {

constexpr size_t kMaxTaskBytes = size_t{1} << 20;
constexpr int kMaxFewshot = 1000;
constexpr int kMaxGeneratedTokens = 1 << 20;
constexpr int kMaxGroup = 1 << 20;

const std::vector<std::pair<std::string, OutputType>> kOutputTypes = {
    {"loglikelihood", OutputType::kLoglikelihood},
    {"loglikelihood_rolling", OutputType::kLoglikelihoodRolling},
    {"multiple_choice", OutputType::kMultipleChoice},
    {"generate_until", OutputType::kGenerateUntil},
};
const std::vector<std::pair<std::string, DataSpec::Format>> kFormats = {
    {"jsonl", DataSpec::Format::kJsonl}, {"json", DataSpec::Format::kJson}, {"csv", DataSpec::Format::kCsv},
    {"lines", DataSpec::Format::kLines}, {"text", DataSpec::Format::kText},
};
const std::vector<std::pair<std::string, ProcessDocs>> kProcessDocs = {
    {"arc", ProcessDocs::kArc},
    {"hellaswag", ProcessDocs::kHellaswag},
    {"squad", ProcessDocs::kSquad},
    {"wikitext", ProcessDocs::kWikitext},
};
const std::vector<std::pair<std::string, FewshotSampler>> kSamplers = {
    {"default", FewshotSampler::kDefault},
    {"first_n", FewshotSampler::kFirstN},
};
const std::vector<std::pair<std::string, FilterStep::Kind>> kFilterSteps = {
    {"regex", FilterStep::Kind::kRegex},
    {"take_first", FilterStep::Kind::kTakeFirst},
    {"remove_whitespace", FilterStep::Kind::kRemoveWhitespace},
    {"lowercase", FilterStep::Kind::kLowercase},
    {"uppercase", FilterStep::Kind::kUppercase},
    {"map", FilterStep::Kind::kMap},
};

[[noreturn]] void FailMissing(TomlReader& reader, const char* key, std::string_view expected) {
  Fail(ErrorCode::kInvalidArgument, "[{}] {}: expected {}, found nothing; add the key", reader.Where(key),
       reader.Name(key), expected);
}

// Names of files reach the file system below the directory a user names, and nowhere else.
void CheckFileNames(TomlReader& reader, const char* key, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const bool climbs = name.starts_with('/') || name.starts_with("../") || name.find("/../") != std::string::npos ||
                        name.ends_with("/..") || name == ".." || name.find('\0') != std::string::npos;
    const auto star = name.find('*');
    const bool plain_star = star == std::string::npos || (name.find('*', star + 1) == std::string::npos &&
                                                          name.find('/', star) == std::string::npos);
    if (!name.empty() && !climbs && plain_star) continue;
    Fail(ErrorCode::kInvalidArgument,
         "[{}] {}: expected names below the data directory, with one * in the last part at most, found '{}'; correct "
         "it",
         reader.Where(key), reader.Name(key), ReadableText(name, 64));
  }
}

DataSpec ReadData(const toml::table& table, const std::string& origin) {
  TomlReader reader(table, origin, "data.");
  DataSpec data;
  std::vector<std::string> formats;
  reader.ReadList("format", &formats);
  if (formats.empty()) FailMissing(reader, "format", "one or more of jsonl, json, csv, lines, text");
  data.formats.clear();
  for (const std::string& format : formats) data.formats.push_back(reader.Choose(format, "format", kFormats));
  reader.ReadList("files", &data.files);
  reader.ReadList("fewshot_files", &data.fewshot_files);
  reader.ReadList("subsets", &data.subsets);
  reader.ReadList("records", &data.records);
  reader.ReadList("columns", &data.columns);
  reader.Read("labels", &data.labels);
  reader.Read("labels_key", &data.labels_key);
  reader.Finish();
  if (data.files.empty()) FailMissing(reader, "files", "the names a data file may have");
  CheckFileNames(reader, "files", data.files);
  CheckFileNames(reader, "fewshot_files", data.fewshot_files);
  if (reader.Has("labels")) CheckFileNames(reader, "labels", {data.labels});
  for (const DataSpec::Format format : data.formats) {
    const bool needs_columns = format == DataSpec::Format::kCsv || format == DataSpec::Format::kLines;
    if (needs_columns && data.columns.empty()) FailMissing(reader, "columns", "the names of the columns");
  }
  std::vector<std::string> sorted = data.columns;
  std::sort(sorted.begin(), sorted.end());
  if (const auto twice = std::adjacent_find(sorted.begin(), sorted.end()); twice != sorted.end()) {
    Fail(ErrorCode::kInvalidArgument, "[{}] data.columns: expected every name once, found '{}' twice; rename one",
         reader.Where("columns"), ReadableText(*twice, 64));
  }
  return data;
}

FilterSpec ReadFilter(const toml::table& table, const std::string& origin) {
  TomlReader reader(table, origin, "filter_list.");
  FilterSpec filter;
  reader.Read("name", &filter.name);
  const bool plain = !filter.name.empty() && filter.name.find_first_of(",:") == std::string::npos;
  if (!plain) FailMissing(reader, "name", "a name for the filter, without commas and colons");
  for (const toml::table* step_table : reader.Tables("filter")) {
    TomlReader step_reader(*step_table, origin, "filter_list.filter.");
    FilterStep step;
    if (!step_reader.Has("function")) FailMissing(step_reader, "function", "the name of a filter");
    step_reader.ReadChoice("function", kFilterSteps, &step.kind);
    if (step.kind == FilterStep::Kind::kRegex) {
      step_reader.Read("regex_pattern", &step.regex_pattern);
      step_reader.Read("group_select", -kMaxGroup, kMaxGroup, &step.group_select);
      step_reader.Read("fallback", &step.fallback);
      CompilePattern(step.regex_pattern, step_reader.Where("regex_pattern"), step_reader.Name("regex_pattern"));
    }
    if (step.kind == FilterStep::Kind::kMap) {
      step_reader.Read("mapping_dict", &step.mapping_dict);
      step_reader.Read("default_value", &step.default_value);
    }
    step_reader.Finish();
    filter.steps.push_back(step);
  }
  reader.Finish();
  return filter;
}

MetricSpec ReadMetric(const toml::table& table, const std::string& origin, OutputType output_type) {
  TomlReader reader(table, origin, "metric_list.");
  MetricSpec metric;
  reader.Read("metric", &metric.metric);
  const MetricKind* kind = FindMetric(metric.metric);
  if (kind == nullptr) reader.FailUnknown("metric", metric.metric, MetricNames());
  if (std::find(kind->output_types.begin(), kind->output_types.end(), output_type) == kind->output_types.end()) {
    Fail(ErrorCode::kInvalidArgument, "[{}] metric_list.metric: expected one that {} has, found {}; choose another",
         reader.Where("metric"), OutputTypeName(output_type), metric.metric);
  }
  metric.aggregation = kind->aggregation;
  metric.higher_is_better = kind->higher_is_better;
  reader.Read("aggregation", &metric.aggregation);
  const std::vector<std::string> aggregations = AggregationNames();
  if (std::find(aggregations.begin(), aggregations.end(), metric.aggregation) == aggregations.end()) {
    reader.FailUnknown("aggregation", metric.aggregation, aggregations);
  }
  reader.Read("higher_is_better", &metric.higher_is_better);
  if (metric.metric == "exact_match") {
    reader.Read("ignore_case", &metric.ignore_case);
    reader.Read("ignore_punctuation", &metric.ignore_punctuation);
    reader.Read("ignore_numbers", &metric.ignore_numbers);
    reader.ReadList("regexes_to_ignore", &metric.regexes_to_ignore);
    for (const std::string& pattern : metric.regexes_to_ignore) {
      CompilePattern(pattern, reader.Where("regexes_to_ignore"), "metric_list.regexes_to_ignore");
    }
  }
  reader.Finish();
  return metric;
}

void ReadGeneration(TomlReader& root, const std::string& origin, TaskSpec* spec) {
  const toml::table* table = root.Table("generation_kwargs");
  if (table == nullptr) return;
  TomlReader reader(*table, origin, "generation_kwargs.");
  reader.ReadList("until", &spec->until);
  reader.Read("max_gen_toks", 1, kMaxGeneratedTokens, &spec->max_gen_toks);
  bool do_sample = false;
  double temperature = 0;
  reader.Read("do_sample", &do_sample);
  reader.Read("temperature", &temperature);
  reader.Finish();
  for (const std::string& stop : spec->until) {
    if (stop.empty()) FailMissing(reader, "until", "texts that are not empty");
  }
  if (do_sample || temperature != 0) {
    Fail(ErrorCode::kInvalidArgument,
         "[{}] generation_kwargs: expected greedy decoding, found sampling; set do_sample = false, temperature = 0",
         reader.Where(do_sample ? "do_sample" : "temperature"));
  }
}

void ReadTemplates(TomlReader& root, TaskSpec* spec) {
  const auto read = [&](const char* key, std::string* text, DocTemplate::Kind kind) {
    root.Read(key, text);
    if (!text->empty()) DocTemplate(*text, kind, root.Where(key), key);  // throws where it does not parse
  };
  read("description", &spec->description, DocTemplate::Kind::kText);
  read("doc_to_text", &spec->doc_to_text, DocTemplate::Kind::kText);
  read("doc_to_target", &spec->doc_to_target, DocTemplate::Kind::kText);
  read("doc_to_counted", &spec->doc_to_counted, DocTemplate::Kind::kText);
  read("doc_to_references", &spec->doc_to_references, DocTemplate::Kind::kList);
  std::vector<std::string> choices;
  root.ReadList("doc_to_choice", &choices);
  if (root.IsArray("doc_to_choice")) {
    for (const std::string& choice : choices) {
      if (choice.find("{{") == std::string::npos) continue;
      Fail(ErrorCode::kInvalidArgument,
           "[{}] doc_to_choice: expected plain texts in a list, found '{}'; write one expression, \"{{{{ [a, b] }}}}\"",
           root.Where("doc_to_choice"), ReadableText(choice, 64));
    }
    spec->choices = choices;
  } else {
    read("doc_to_choice", &spec->doc_to_choice, DocTemplate::Kind::kList);
  }
}

void CheckWhole(TomlReader& root, const TaskSpec& spec) {
  if (spec.name.empty()) FailMissing(root, "task", "the name of the task");
  if (spec.doc_to_target.empty()) FailMissing(root, "doc_to_target", "a column or a template");
  const bool has_choices = !spec.choices.empty() || !spec.doc_to_choice.empty();
  if (spec.output_type == OutputType::kMultipleChoice && !has_choices) {
    FailMissing(root, "doc_to_choice", "a list, a column or a template");
  }
  if (spec.metrics.empty()) FailMissing(root, "metric_list", "one metric or more");
  const bool rolling = spec.output_type == OutputType::kLoglikelihoodRolling;
  if (rolling && spec.num_fewshot > 0) {
    Fail(ErrorCode::kInvalidArgument,
         "[{}] num_fewshot: expected 0 for loglikelihood_rolling, which has no prompt, found {}; leave it out",
         root.Where("num_fewshot"), spec.num_fewshot);
  }
  if (!rolling && spec.doc_to_text.empty()) FailMissing(root, "doc_to_text", "a column or a template");
}

// Keys of the harness that change nothing here.
void SkipHarmless(TomlReader& root) {
  for (const char* key : {"should_decontaminate", "doc_to_decontamination_query", "tag", "task_alias"}) root.Has(key);
  int repeats = 1;
  root.Read("repeats", 1, 1, &repeats);
}

}  // namespace

std::string_view OutputTypeName(OutputType type) {
  for (const auto& [name, value] : kOutputTypes) {
    if (value == type) return name;
  }
  GS_CHECK(false);
}

TaskSpec ParseTask(std::string_view text, const std::string& origin) {
  if (text.size() > kMaxTaskBytes) {
    Fail(ErrorCode::kLimitExceeded, "[{}] size: expected at most {} bytes, found {}; shorten the file", origin,
         kMaxTaskBytes, text.size());
  }
  CheckTomlText(text, origin);
  toml::table table;
  try {
    table = toml::parse(text);
  } catch (const toml::parse_error& e) {
    Fail(ErrorCode::kInvalidArgument, "[{}:{}] syntax: expected TOML, found: {}; correct the line", origin,
         e.source().begin.line, ReadableText(e.description(), 200));
  }
  TomlReader root(table, origin, "");
  TaskSpec spec;
  spec.origin = origin;
  root.Read("task", &spec.name);
  if (!root.Has("output_type")) {
    FailMissing(root, "output_type", "loglikelihood, loglikelihood_rolling, multiple_choice or generate_until");
  }
  root.ReadChoice("output_type", kOutputTypes, &spec.output_type);
  root.ReadChoice("process_docs", kProcessDocs, &spec.process_docs);
  ReadTemplates(root, &spec);
  root.Read("num_fewshot", 0, kMaxFewshot, &spec.num_fewshot);
  root.Read("fewshot_delimiter", &spec.fewshot_delimiter);
  root.Read("target_delimiter", &spec.target_delimiter);
  if (const toml::table* fewshot = root.Table("fewshot_config"); fewshot != nullptr) {
    TomlReader reader(*fewshot, origin, "fewshot_config.");
    reader.ReadChoice("sampler", kSamplers, &spec.fewshot_sampler);
    reader.Read("exclude_document", &spec.fewshot_excludes_document);
    reader.Finish();
  }
  ReadGeneration(root, origin, &spec);
  for (const toml::table* filter : root.Tables("filter_list")) spec.filters.push_back(ReadFilter(*filter, origin));
  if (spec.filters.empty()) spec.filters.push_back({.name = "none", .steps = {}});
  for (const toml::table* metric : root.Tables("metric_list")) {
    spec.metrics.push_back(ReadMetric(*metric, origin, spec.output_type));
  }
  if (const toml::table* metadata = root.Table("metadata"); metadata != nullptr) {
    TomlReader reader(*metadata, origin, "metadata.");
    reader.ReadWord("version", &spec.version);
    reader.Finish();
  }
  SkipHarmless(root);
  if (const toml::table* data = root.Table("data"); data != nullptr) spec.data = ReadData(*data, origin);
  root.Finish();
  CheckWhole(root, spec);
  return spec;
}

TaskSpec ReadTaskFile(const std::string& path) { return ParseTask(ReadTextFile(path, kMaxTaskBytes), path); }

std::vector<std::string> BuiltinTaskNames() {
  std::vector<std::string> names;
  for (const BuiltinTaskFile& file : BuiltinTaskFiles()) names.emplace_back(file.name);
  std::sort(names.begin(), names.end());
  return names;
}

std::string_view BuiltinTaskText(std::string_view name) {
  for (const BuiltinTaskFile& file : BuiltinTaskFiles()) {
    if (file.name == name) return file.text;
  }
  const std::vector<std::string> names = BuiltinTaskNames();
  const std::string nearest = NearestName(names, name);
  Fail(ErrorCode::kNotFound, "[task] name: expected one of the built-in tasks, found '{}'; {}", ReadableText(name, 64),
       nearest.empty() ? fmt::format("they are {}", fmt::join(names, ", "))
                       : fmt::format("did you mean '{}'?", nearest));
}

TaskSpec BuiltinTask(std::string_view name) {
  return ParseTask(BuiltinTaskText(name), fmt::format("built-in task {}", name));
}

}  // namespace gateskip
