// SPDX-License-Identifier: Apache-2.0
// What log.jsonl of a training run says (docs/training_log.md), read tolerantly: the file grows while it is read, a
// kill may cut its last line in two, and a resumed run writes again the steps after its checkpoint.
#pragma once

#include <cstdint>
#include <istream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace gateskip {

// A number the log does not give, or gives as null (JSON has no NaN), is NaN.
struct LoggedStep {
  int64_t step = 0;
  int64_t tokens = 0;
  float loss = 0;
  float rate = 0;  // share of the peak learning rates
  float gradient_norm = 0;
  float requested_saving = 0;
  float realised_saving = 0;
  float tokens_per_second = 0;
};

struct LoggedEvaluation {
  double base_nll = 0;
  std::vector<double> budgets, nll, net_saving;  // of equal length
};

struct LoggedBranches {
  std::vector<float> run_share;  // [branch] share of the rows that ran it, since the event before
  std::vector<float> gate_mean;  // [branch]
};

struct LoggedBadStep {
  std::string reason;
  double loss = 0;
};

struct LoggedSample {
  int64_t step = 0;
  double budget = 0;
  std::string prompt, text;
};

struct LoggedFile {
  std::string path;
  int64_t rows = 0, used = 0, skipped = 0;
};

struct TrainLog {
  std::string model;                 // "" when the log does not say
  nlohmann::json options;            // an object, perhaps empty
  std::vector<std::string> changed;  // the options that differ from the defaults of the version that ran
  bool says_changed = false;         // whether the log knows
  std::vector<bool> gated;           // [branch]; empty when unknown
  std::vector<LoggedStep> steps;     // ascending
  std::map<int64_t, LoggedEvaluation> evaluations;
  std::map<int64_t, LoggedBranches> branches;
  std::map<int64_t, LoggedBadStep> bad_steps;
  std::vector<LoggedSample> samples;  // in the order written; the last ones only
  std::vector<LoggedFile> files;
  int64_t data_tokens = 0;             // of the training text, once through; 0 when unknown
  std::vector<int64_t> resumed_after;  // steps done when a process took the run up again
  double seconds = 0;                  // in the steps of all processes, repeated ones included
  size_t damaged_lines = 0;
};

// A `start` event begins anew, so that of several runs logged to one file the last one counts; of a step logged twice
// the later line counts. Lines that are no JSON object are counted and skipped, unknown events and members ignored.
// Memory is bounded whatever the length of the file and its lines: of more than kMaxLoggedSteps steps (and likewise of
// the other events) every second is dropped, as often as it takes.
TrainLog ReadTrainLog(std::istream& in);
// Throws Error: kNotFound; kCorruptData when no line is an event of a training run.
TrainLog ReadTrainLogFile(const std::string& path);

inline constexpr size_t kMaxLoggedSteps = size_t{1} << 17;

}  // namespace gateskip
