// SPDX-License-Identifier: Apache-2.0
// The original files of a data set as documents: which files, and each format's records. No file is trusted: sizes are
// checked before reading, text must be UTF-8, and messages name file, line and columns.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/sha256.h"
#include "eval/doc_template.h"
#include "eval/task_spec.h"

namespace gateskip {

// Largest data file, and largest line or CSV record of one.
inline constexpr size_t kMaxDataBytes = size_t{1} << 30;
inline constexpr size_t kMaxRecordBytes = size_t{16} << 20;

struct DataFile {
  std::string path;
  std::string subset = {};  // what the `*` of the pattern stands for
};

// The files to evaluate: `data_path` itself, or below it the first of spec.files that exists; with a `*`, in the order
// of their names. Throws Error(kNotFound), which names what was looked for and what is there.
std::vector<DataFile> FindDataFiles(const DataSpec& spec, const std::string& data_path);
// The same for few-shot examples: of the same subset as `data_file`, below `fewshot_path`, or where that is empty below
// the directory data_path stands for. Throws Error(kNotFound).
DataFile FindFewshotFile(const DataSpec& spec, const std::string& data_path, const DataFile& data_file,
                         const std::string& fewshot_path);

// All records of a file, labels joined. What was read goes into `digest`, the identity of a run. Throws Error:
// kNotFound, kIo, kLimitExceeded, kCorruptData (not the format, not UTF-8, labels that do not match), kInvalidArgument
// (no records, no object).
std::vector<Doc> ReadDocs(const DataSpec& spec, const DataFile& file, Sha256* digest);

// The records of a text, without labels; `origin` names it. As ReadDocs.
std::vector<Doc> ParseDocs(const DataSpec& spec, std::string_view text, const std::string& origin);

}  // namespace gateskip
