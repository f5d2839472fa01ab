// SPDX-License-Identifier: Apache-2.0
// Training configurations as TOML (toml.io v1.0): [section] and key as in the option table, all of them optional.
//
//   [model]
//   model = "SmolLM2-135M-Instruct.Q4_1.gguf"
//   [data]
//   data = ["a.jsonl@2", { path = "b.txt", weight = 1.5, begin = 0.0, end = 0.9 }]
//   [optimizer]
//   gate_lr = 1e-3
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "train/option_table.h"

namespace gateskip {

// Sets what the file names; the rest stays. Throws Error: kInvalidArgument for a syntax error, an unknown section or
// key (with the nearest known name) or a value out of range, all with file and line; kNotFound, kIo; kLimitExceeded
// over 1 MiB.
void ApplyConfigFile(const std::string& path, const std::vector<TrainOption>& table);
// The same of the text; `origin` names it in messages.
void ApplyConfigText(std::string_view text, const std::string& origin, const std::vector<TrainOption>& table);

// The whole configuration as such a file, each key with its help; what ApplyConfigText reads back.
std::string PrintConfig(const std::vector<TrainOption>& table);

// Built-in configurations: "fast-cpu" (the defaults), "paper", "gpu".
std::vector<std::string> PresetNames();
// Throws Error(kInvalidArgument) for an unknown name.
std::string_view PresetText(const std::string& name);

}  // namespace gateskip
