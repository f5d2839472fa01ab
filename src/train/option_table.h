// SPDX-License-Identifier: Apache-2.0
// One row per training option: its name, range and help, and where its value lives. Command-line flags, configuration
// files, validation and the hash that a resumed run is checked against are all made from it.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "train/train.h"

namespace gateskip {

// One of several names; an enum underneath.
struct ChoiceField {
  std::vector<std::string> names;
  std::function<size_t()> get;
  std::function<void(size_t)> set;
};

using OptionField =
    std::variant<bool*, int*, int64_t*, uint64_t*, float*, double*, std::string*, std::vector<std::string>*,
                 std::vector<double>*, std::vector<TrainSource>*, ChoiceField>;

enum class OptionEffect {
  kResult,   // changes the result: a resumed run must have the same value
  kConduct,  // does not: where files go, what is watched, how many threads
};

struct TrainOption {
  std::string section;  // [section] of a configuration file, heading in the help
  std::string name;     // "gate-lr": the flag is --gate-lr, the key gate_lr
  OptionField field;
  std::string help;
  OptionEffect effect = OptionEffect::kResult;
  double low = 0, high = 0;  // of numbers, inclusive
  std::string type;          // what the help calls the value where the field's own type says too little

  std::string key() const;        // "gate_lr"
  std::string type_name() const;  // "N", "X", "scalar|low_rank|vector", ...
  bool is_list() const;
  // One value per occurrence of the flag; the other lists are one word with commas.
  bool is_repeated() const;
  // The value as words that SetOption reads back: one for scalars, one per element for lists. Of sources the paths.
  std::vector<std::string> words() const;
};

// Rows that read and write `options`, which must outlive them, in the order of the help.
std::vector<TrainOption> OptionTable(TrainOptions& options);

// Sets the value. `name` is what the user called the option. Throws Error(kInvalidArgument): "[origin] name:
// expected ..., found ...".
void SetOption(const TrainOption& option, const std::vector<std::string>& words, const std::string& origin,
               const std::string& name);

// {key: value} of every option that changes the result.
nlohmann::json ResultOptionsJson(const TrainOptions& options);

// "PATH", "PATH@WEIGHT" or "PATH@WEIGHT@BEGIN-END", BEGIN and END as shares of the file's documents. Throws as above.
TrainSource ParseTrainSource(const std::string& text, const std::string& origin, const std::string& name);

}  // namespace gateskip
