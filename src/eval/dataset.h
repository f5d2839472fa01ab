// SPDX-License-Identifier: Apache-2.0
// The documents of a task, read from the data set's original files.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "eval/task_spec.h"

namespace gateskip {

struct Dataset {
  std::vector<nlohmann::json> documents;  // objects, in file order
  std::string sha256;                     // of the files, in the order they were read
};

// Reads `path`: a file, or a directory that holds one of `names` (DataSpec::files or fewshot_files). Applies
// DataSpec::process and checks DataSpec::required. Throws Error: kNotFound (naming what was looked for), kCorruptData
// (with the line), kInvalidArgument (columns missing: which, and those that are there; no document), kLimitExceeded
// (files over 1 GiB, lines over 64 MiB).
Dataset ReadDataset(const DataSpec& spec, const std::vector<std::string>& names, const std::string& path);

// RFC 4180: quoted fields may hold commas, quotes ("") and line breaks. Throws Error(kCorruptData) for an open quote.
std::vector<std::vector<std::string>> ParseCsv(std::string_view text, const std::string& origin);

}  // namespace gateskip
