// SPDX-License-Identifier: Apache-2.0
// Task files: what is read, and that everything else is refused by name, with the line.
#include "eval/task_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/testing/expect_error.h"
#include "io/testing/temp_directory.h"

namespace gateskip {
namespace {

using ::testing::ElementsAre;
using testing::ExpectError;

constexpr ErrorCode kBad = ErrorCode::kInvalidArgument;

std::string Head(const std::string& output_type = "generate_until") {
  return "task = \"t\"\noutput_type = \"" + output_type + "\"\ndoc_to_text = \"q\"\ndoc_to_target = \"a\"\n";
}
constexpr const char* kMetric = "[[metric_list]]\nmetric = \"exact_match\"\n";
constexpr const char* kData = "[data]\nformat = \"jsonl\"\nfiles = \"x.jsonl\"\n";

TEST(TaskSpec, ReadsEveryKey) {
  const TaskSpec spec = ParseTask(R"(
task = "mine"
output_type = "generate_until"
process_docs = "arc"
description = "About {{ subject }}."
doc_to_text = "Q: {{ question }}"
doc_to_target = "answer"
doc_to_choice = ["A", "B"]
doc_to_references = "{{ [answer] }}"
num_fewshot = 2
fewshot_delimiter = "\n"
target_delimiter = ""
should_decontaminate = true
repeats = 1
[fewshot_config]
sampler = "first_n"
exclude_document = true
[generation_kwargs]
until = ["\n", "Q:"]
max_gen_toks = 7
do_sample = false
temperature = 0.0
[[filter_list]]
name = "letter"
filter = [
  { function = "regex", regex_pattern = '([AB])', group_select = -1, fallback = "none" },
  { function = "map", mapping_dict = { A = "a" }, default_value = "?" },
  { function = "lowercase" },
]
[[metric_list]]
metric = "exact_match"
ignore_case = true
ignore_punctuation = true
ignore_numbers = true
regexes_to_ignore = [",", "x+"]
higher_is_better = false
[metadata]
version = 1.5
[data]
format = ["json", "csv"]
files = ["b/*.csv", "a.json"]
fewshot_files = "f.json"
subsets = ["s"]
records = "rows"
columns = ["question", "answer"]
labels = "*.lst"
labels_key = "id"
)",
                                  "mine.toml");
  EXPECT_EQ(spec.name, "mine");
  EXPECT_EQ(spec.version, "1.5");
  EXPECT_EQ(spec.process_docs, ProcessDocs::kArc);
  EXPECT_EQ(spec.doc_to_text, "Q: {{ question }}");
  EXPECT_THAT(spec.choices, ElementsAre("A", "B"));
  EXPECT_EQ(spec.num_fewshot, 2);
  EXPECT_EQ(spec.fewshot_sampler, FewshotSampler::kFirstN);
  EXPECT_TRUE(spec.fewshot_excludes_document);
  EXPECT_EQ(spec.fewshot_delimiter, "\n");
  EXPECT_EQ(spec.target_delimiter, "");
  EXPECT_THAT(spec.until, ElementsAre("\n", "Q:"));
  EXPECT_EQ(spec.max_gen_toks, 7);
  ASSERT_EQ(spec.filters.size(), 1u);
  ASSERT_EQ(spec.filters[0].steps.size(), 3u);
  EXPECT_EQ(spec.filters[0].steps[0].group_select, -1);
  EXPECT_EQ(spec.filters[0].steps[0].fallback, "none");
  EXPECT_EQ(spec.filters[0].steps[1].mapping_dict.at("A"), "a");
  ASSERT_EQ(spec.metrics.size(), 1u);
  EXPECT_TRUE(spec.metrics[0].ignore_case && spec.metrics[0].ignore_punctuation && spec.metrics[0].ignore_numbers);
  EXPECT_FALSE(spec.metrics[0].higher_is_better);
  EXPECT_EQ(spec.metrics[0].aggregation, "mean");
  EXPECT_THAT(spec.data.formats, ElementsAre(DataSpec::Format::kJson, DataSpec::Format::kCsv));
  EXPECT_THAT(spec.data.files, ElementsAre("b/*.csv", "a.json"));
  EXPECT_EQ(spec.data.labels, "*.lst");
}

TEST(TaskSpec, DefaultsAreTheHarness) {
  const TaskSpec spec = ParseTask(Head() + kMetric + kData, "x.toml");
  EXPECT_EQ(spec.fewshot_delimiter, "\n\n");
  EXPECT_EQ(spec.target_delimiter, " ");
  EXPECT_EQ(spec.max_gen_toks, 256);
  EXPECT_EQ(spec.num_fewshot, 0);
  ASSERT_EQ(spec.filters.size(), 1u);
  EXPECT_EQ(spec.filters[0].name, "none");
}

TEST(TaskSpec, VersionsAreAsWritten) {
  EXPECT_EQ(ParseTask(Head() + kMetric, "x").version, "0");
  for (const auto& [written, version] :
       {std::pair{"1.0", "1.0"}, {"3", "3"}, {"\"2.0\"", "2.0"}, {"\"a\"", "a"}, {"0.5", "0.5"}}) {
    EXPECT_EQ(ParseTask(Head() + kMetric + "[metadata]\nversion = " + written + "\n", "x").version, version);
  }
}

TEST(TaskSpec, RefusesWhatItDoesNotKnow) {
  const std::string rest = std::string(kMetric) + kData;
  const std::pair<std::string, std::string> cases[] = {
      {"task = ", "[x.toml:1] syntax"},
      {"taks = \"t\"\n" + Head() + rest, "did you mean 'task'?"},
      {Head() + "num_fewshots = 1\n" + rest, "[x.toml:5] key num_fewshots: expected a known one"},
      {Head() + "num_fewshot = \"1\"\n" + rest, "[x.toml:5] num_fewshot: expected an integer"},
      {Head() + "num_fewshot = -1\n" + rest, "expected 0 to 1000, found -1"},
      {Head() + "repeats = 2\n" + rest, "repeats: expected 1 to 1"},
      {Head() + "description = 3\n" + rest, "description: expected a string"},
      {Head() + "description = \"{{ x \"\n" + rest, "[x.toml:5] description: expected a Jinja template"},
      {Head() + "description = \"{% import 'x' %}\"\n" + rest, "[x.toml:5] description: expected a Jinja template"},
      {Head() + "doc_to_choice = \"a {{ b }}\"\n" + rest, "doc_to_choice: expected a list, the name of a column"},
      {Head() + "doc_to_choice = [1]\n" + rest, "doc_to_choice: expected strings"},
      {Head() + "doc_to_choice = [\"a\", \"{{ b }}\"]\n" + rest, "expected plain texts in a list, found '{{ b }}'"},
      {Head() + rest + "[metadata]\nversion = true\n", "metadata.version: expected a string or a number"},
      {Head() + "process_docs = \"arcs\"\n" + rest, "did you mean 'arc'?"},
      {Head("generate") + rest, "output_type: expected a known name, found 'generate'; known are generate_until"},
      {Head("multiple_choice") + "[[metric_list]]\nmetric = \"acc\"\n" + kData, "doc_to_choice: expected a list"},
      {Head("loglikelihood_rolling") + "num_fewshot = 1\n[[metric_list]]\nmetric = \"bits_per_byte\"\n" + kData,
       "num_fewshot: expected 0"},
      {Head() + rest + "[fewshot_config]\nsampler = \"random\"\n", "known are default, first_n"},
      {Head() + rest + "[generation_kwargs]\ntemperature = 0.5\n", "expected greedy decoding"},
      {Head() + rest + "[generation_kwargs]\nuntil = \"\"\n", "until: expected texts that are not empty"},
      {Head() + rest + "[generation_kwargs]\nmax_gen_toks = 0\n", "expected 1 to"},
      {Head() + rest + "[generation_kwargs]\ntop_k = 5\n", "key generation_kwargs.top_k"},
      {Head() + rest + "[[filter_list]]\nname = \"a,b\"\nfilter = []\n", "without commas"},
      {Head() + rest + "[[filter_list]]\nname = \"f\"\nfilter = [{ function = \"regexp\" }]\n",
       "did you mean 'regex'?"},
      {Head() + rest +
           "[[filter_list]]\nname = \"f\"\nfilter = [{ function = \"regex\", regex_pattern = \"a(?=b)\" }]\n",
       "expected a regular expression in RE2's syntax"},
      {Head() + rest + "[[filter_list]]\nname = \"f\"\nfilter = [{ name = \"regex\" }]\n", "filter.function: expected"},
      {Head() + rest + "[filter_list]\nname = \"f\"\n", "filter_list: expected an array of tables"},
      {Head() + "[[metric_list]]\nmetric = \"exact_matches\"\n" + kData, "[x.toml:6] metric_list.metric"},
      {Head() + "[[metric_list]]\nmetric = \"acc\"\n" + kData, "expected one that generate_until has, found acc"},
      {Head() + kMetric + "aggregation = \"max\"\n" + kData, "metric_list.aggregation: expected a known name"},
      {Head() + kMetric + "regexes_to_ignore = \"(\"\n" + kData, "regexes_to_ignore: expected a regular expression"},
      {Head() + kData, "metric_list: expected one metric or more"},
      {Head() + kMetric + "[data]\nfiles = \"x\"\n", "data.format: expected one or more of"},
      {Head() + kMetric + "[data]\nformat = \"xml\"\nfiles = \"x\"\n",
       "data.format: expected a known name, found 'xml'"},
      {Head() + kMetric + "[data]\nformat = \"csv\"\nfiles = \"x\"\n", "data.columns: expected the names"},
      {Head() + kMetric + "[data]\nformat = \"jsonl\"\n", "data.files: expected the names"},
      {Head() + kMetric + "[data]\nformat = \"jsonl\"\nfiles = \"../x\"\n", "below the data directory"},
      {Head() + kMetric + "[data]\nformat = \"jsonl\"\nfiles = \"/x\"\n", "below the data directory"},
      {Head() + kMetric + "[data]\nformat = \"jsonl\"\nfiles = \"a*/x\"\n", "with one * in the last part"},
      {Head() + kMetric + "[data]\nformat = \"csv\"\nfiles = \"x\"\ncolumns = [\"a\", \"a\"]\n", "found 'a' twice"},
  };
  for (const auto& [text, words] : cases) {
    SCOPED_TRACE(text);
    ExpectError([&text = text] { ParseTask(text, "x.toml"); }, kBad, words);
  }
  ExpectError([] { ParseTask(std::string((1 << 20) + 1, '\n'), "x.toml"); }, ErrorCode::kLimitExceeded, "size");
  ExpectError([] { ReadTaskFile("/nowhere/x.toml"); }, ErrorCode::kNotFound, "x.toml");
}

TEST(TaskSpec, BuiltinTasksParse) {
  EXPECT_THAT(BuiltinTaskNames(),
              ElementsAre("arc_challenge", "arc_easy", "boolq", "commonsense_qa", "csqa_gen", "gsm8k", "hellaswag",
                          "hellaswag_lines", "lambada_openai", "mmlu_gen", "mmlu_stem", "openbookqa", "piqa",
                          "piqa_gen", "squadv2", "synthetic_addition", "synthetic_lookup", "synthetic_mixed",
                          "synthetic_sorting", "wikitext", "winogrande"));
  for (const std::string& name : BuiltinTaskNames()) EXPECT_EQ(BuiltinTask(name).name, name);
  const testing::TempDirectory directory;
  EXPECT_EQ(ReadTaskFile(directory.Write("p.toml", BuiltinTaskText("piqa"))).name, "piqa");
  ExpectError([] { BuiltinTask("hellaswg"); }, ErrorCode::kNotFound, "did you mean 'hellaswag'?");
  ExpectError([] { BuiltinTask("quite another"); }, ErrorCode::kNotFound, "they are arc_challenge, arc_easy");
}

}  // namespace
}  // namespace gateskip
