// SPDX-License-Identifier: Apache-2.0
// `gateskip data --synthetic TASK`: records of the project's own tasks, without a model.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

namespace gateskip::cli {

struct SyntheticFlags {
  std::string task;  // empty: not asked for
  std::string split = "train";
  int64_t examples = 10'000;
  int size = 0;
};

void AddSyntheticFlags(CLI::App& app, SyntheticFlags* flags);
// Throws Error(kInvalidArgument) if the command line has options of both kinds of data.
void RequireOneKindOfData(const CLI::App& app, const SyntheticFlags& flags);
// Writes the records to the new file `out`.
int WriteSyntheticData(const SyntheticFlags& flags, uint64_t seed, const std::string& out);

}  // namespace gateskip::cli
