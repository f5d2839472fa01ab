// SPDX-License-Identifier: Apache-2.0
// What a task file says (docs/eval_tasks.md): lm-evaluation-harness's keys in TOML, and where the documents come from.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gateskip {

enum class OutputType {
  kLoglikelihood,         // of one continuation
  kLoglikelihoodRolling,  // of a whole text
  kMultipleChoice,        // of one continuation for each choice
  kGenerateUntil,         // a greedy generation
};

enum class FilterKind { kRegex, kTakeFirst, kRemoveWhitespace, kLowercase };

struct FilterStep {
  FilterKind kind = FilterKind::kTakeFirst;
  std::string pattern = {};            // regex (RE2)
  int group_select = 0;                // which match; -1: the last
  std::string fallback = "[invalid]";  // where nothing matches
};

struct FilterSpec {
  std::string name;
  std::vector<FilterStep> steps;
};

struct MetricSpec {
  std::string metric;
  bool ignore_case = false;  // exact_match only, as the others
  bool ignore_punctuation = false;
  std::vector<std::string> regexes_to_ignore = {};
};

enum class DataFormat {
  kJsonl,  // an object per line
  kJson,   // an array of objects, or an object that holds one
  kCsv,    // RFC 4180, with or without a header
  kLines,  // records of `record_lines` lines: the document is {"lines": [...]}
  kText,   // one document: {"text": ...}
};

struct DataSpec {
  DataFormat format = DataFormat::kJsonl;
  // Names looked for in a directory, the first that is there is read; "*" in one stands for any text, and all files
  // that match are read in the order of their names. A path to a file is read as it is.
  std::vector<std::string> files;
  std::vector<std::string> fewshot_files;
  std::string labels_file;            // a label per line, aligned with the documents: the column `label`
  std::string answers_file;           // squad: an object from ids to answers
  std::vector<std::string> columns;   // csv: their names if the first line does not hold them
  std::vector<std::string> required;  // columns every document must have
  int record_lines = 1;
  std::string process;  // a function of process_docs.h, applied to all documents; may be empty
};

struct TaskSpec {
  std::string name;
  std::string version = "0";
  OutputType output_type = OutputType::kMultipleChoice;
  // Jinja templates over the document's columns; a text that is just the name of a column is that column.
  std::string doc_to_text;
  std::string doc_to_target;               // multiple choice: the index of the right choice, or the choice itself
  std::vector<std::string> doc_to_choice;  // a template per choice, or the name of a column that holds a list
  bool multiple_inputs = false;            // the choices are contexts, and doc_to_target's continuation follows each
  std::string continuation;                // of multiple_inputs
  std::string description;                 // in front of everything
  std::string target_delimiter = " ";
  std::string fewshot_delimiter = "\n\n";
  int num_fewshot = 0;
  bool fewshot_first = false;  // the first examples of the file instead of drawn ones
  std::vector<std::string> until;
  int max_gen_toks = 256;
  std::vector<FilterSpec> filters;
  std::vector<MetricSpec> metrics;
  DataSpec data;
};

std::vector<std::string> BuiltinTaskNames();
// Throws Error(kNotFound) naming the nearest one.
TaskSpec BuiltinTask(std::string_view name);
// Throws Error: kNotFound, kIo, kCorruptData (not TOML), kInvalidArgument (an unknown key or value, with its line).
TaskSpec ReadTaskFile(const std::string& path);
// `origin` names the text in messages.
TaskSpec ParseTask(std::string_view toml, const std::string& origin);

}  // namespace gateskip
