// SPDX-License-Identifier: Apache-2.0
// What `gateskip eval --sweep` measured (docs/results_format.md): accuracy against cost, arm by arm. Several files of
// one model become one.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gateskip {

inline constexpr int kSweepFormatVersion = 1;
inline constexpr size_t kMaxSweepResults = 20'000;  // of all files
inline constexpr size_t kMaxSweepArms = 64;
inline constexpr size_t kMaxSweepTasks = 256;
inline constexpr size_t kMaxSweepSavings = 100;  // different ones asked for
inline constexpr uint64_t kMaxSweepFileBytes = uint64_t{64} << 20;

// How one file was made. Speeds of different runs are not comparable.
struct SweepRun {
  std::string path, machine, date, command;
  int64_t threads = 0;
};

struct SweepArm {
  std::string name, policy, adapter, description;
  int64_t trained_tokens = 0;
};

struct SweepTask {
  std::string name, version, metric, data_sha256;
  bool higher_is_better = true;
  double chance = 0;  // of a guess; 0 where there is none
  int64_t num_fewshot = 0, instances = 0;
};

// A number and its standard error; NaN when there is none.
struct Estimate {
  double value = std::numeric_limits<double>::quiet_NaN();
  double error = std::numeric_limits<double>::quiet_NaN();
};

struct SweepMetric {
  std::string name;
  Estimate estimate;
  int64_t count = 0;
};

struct SweepPoint {
  size_t arm = 0, task = 0, run = 0;  // places in SweepResults
  double requested = 0;               // saving asked for
  std::string unreachable;            // why the arm cannot save so much; then nothing below is known
  std::string note;                   // what to know of it; mostly empty
  std::vector<SweepMetric> metrics;   // the task's own is among them
  Estimate score;                     // the task's own metric
  double nominal = 0, net = 0, net_prefill = 0, net_decode = 0;
  // NaN when not measured.
  double flops_per_token = 0, bytes_per_token = 0, tokens_per_second = 0, items_per_second = 0, seconds = 0;
};

struct SweepResults {
  std::string model, model_sha256;
  std::vector<SweepRun> runs;
  std::vector<SweepArm> arms;      // `original` first, then as in the files
  std::vector<SweepTask> tasks;    // as in the files
  std::vector<SweepPoint> points;  // by task, arm, requested saving

  // nullptr when there is none that was reached.
  const SweepPoint* Find(size_t task, size_t arm, double requested) const;
  // Of the plain model: kCorruptData was thrown if a task has none.
  const SweepPoint& Original(size_t task) const;
  // The arm that the page is about: the one called `gates`, or else the first of policy `gates`; arms.size() if none.
  size_t GatesArm() const;
  // Of the gated model that skips nothing, that arm at 0; or nullptr.
  const SweepPoint* GatedDense(size_t task) const;
  // All that were asked for, ascending.
  std::vector<double> RequestedSavings() const;
};

// JSON texts with the names of their files. A point that a later file repeats with the same scores counts once (every
// file has the original); its speed is the first file's. Throws Error: kCorruptData (not such JSON, keys missing or of
// a wrong type, numbers out of range, a point twice in one file, a task without the original); kMismatch (another
// model; a task, an arm or a point that differs between the files); kUnsupported (another version); kLimitExceeded
// (the limits above); kInvalidArgument (no file).
SweepResults ParseSweepResults(const std::vector<std::pair<std::string, std::string>>& files);
// Reads them. Throws also kNotFound, kIo.
SweepResults ReadSweepResults(const std::vector<std::string>& paths);

}  // namespace gateskip
