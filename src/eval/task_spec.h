// SPDX-License-Identifier: Apache-2.0
// A task file: how documents become requests and answers become numbers. TOML with the keys of lm-evaluation-harness's
// YAML, and one section of ours, [data], which says how the data set's original files are read. docs/eval_tasks.md is
// the reference, src/eval/tasks holds the built-in ones.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace gateskip {

enum class OutputType { kLoglikelihood, kLoglikelihoodRolling, kMultipleChoice, kGenerateUntil };
std::string_view OutputTypeName(OutputType type);

// Where documents come from. Names are relative to TaskOptions::data_path when that is a directory.
struct DataSpec {
  enum class Format { kJsonl, kJson, kCsv, kLines, kText };
  // More than one: told apart by the first character.
  std::vector<Format> formats = {Format::kJsonl, Format::kJson};
  // The first that exists; with a `*`, all that match, each a subset of that name. None: data_path must be a file.
  std::vector<std::string> files = {};
  std::vector<std::string> fewshot_files = {};
  std::vector<std::string> subsets = {};  // of those that `*` matches, these; none: all
  std::vector<std::string> records = {};  // kJson: the array is the member of this name, the first that exists
  std::vector<std::string> columns = {};  // kCsv without a header; kLines: one line of a record each
  std::string labels = {};                // file beside the data file, `*` its stem; joined as column `label`
  std::string labels_key = {};            // the column that names a record in a labels file of JSON; "": line by line
};

struct FilterStep {
  enum class Kind { kRegex, kTakeFirst, kRemoveWhitespace, kLowercase, kUppercase, kMap };
  Kind kind = Kind::kTakeFirst;
  std::string regex_pattern = R"(#### (\-?[0-9\.\,]+))";
  int group_select = 0;
  std::string fallback = "[invalid]";
  std::map<std::string, std::string> mapping_dict = {};
  std::string default_value = {};
};

struct FilterSpec {
  std::string name;
  std::vector<FilterStep> steps;
};

struct MetricSpec {
  std::string metric;
  std::string aggregation;
  bool higher_is_better = true;
  bool ignore_case = false;
  bool ignore_punctuation = false;
  bool ignore_numbers = false;
  std::vector<std::string> regexes_to_ignore = {};
};

enum class FewshotSampler { kDefault, kFirstN };
enum class ProcessDocs { kNone, kArc, kHellaswag, kSquad, kWikitext };

struct TaskSpec {
  std::string name;
  std::string origin;  // the file it was read from, for messages
  std::string version = "0";
  OutputType output_type = OutputType::kGenerateUntil;
  DataSpec data = {};
  ProcessDocs process_docs = ProcessDocs::kNone;
  // Names of a column, or Jinja templates over the columns (docs/eval_tasks.md). "" where not given.
  std::string description = {};
  std::string doc_to_text = {};
  std::string doc_to_target = {};
  std::string doc_to_choice = {};
  std::vector<std::string> choices = {};  // doc_to_choice as a list: the same for every document
  std::string doc_to_references = {};     // a list: all right answers, for SQuAD's metrics
  std::string doc_to_counted = {};        // the text whose words and bytes perplexities divide by; "": the target
  int num_fewshot = 0;
  FewshotSampler fewshot_sampler = FewshotSampler::kDefault;
  bool fewshot_excludes_document = false;  // one more is drawn, and the document itself taken out
  std::string fewshot_delimiter = "\n\n";
  std::string target_delimiter = " ";
  std::vector<std::string> until = {};
  int max_gen_toks = 256;
  std::vector<FilterSpec> filters = {};  // kGenerateUntil; never empty after parsing ("none" keeps the text)
  std::vector<MetricSpec> metrics = {};
};

// In alphabetical order.
std::vector<std::string> BuiltinTaskNames();
// Throws Error(kNotFound), which names the nearest one.
TaskSpec BuiltinTask(std::string_view name);
// The TOML of a built-in task, as a start for one's own. Throws Error(kNotFound).
std::string_view BuiltinTaskText(std::string_view name);

// Throws Error: kNotFound, kIo; kLimitExceeded over 1 MiB; kInvalidArgument for a syntax error, an unknown key (with
// the nearest known one), a value of another type, an unknown metric, aggregation or filter, a template or a regular
// expression that does not parse: all with file and line.
TaskSpec ReadTaskFile(const std::string& path);
// The same of the text; `origin` names it in messages.
TaskSpec ParseTask(std::string_view text, const std::string& origin);

}  // namespace gateskip
