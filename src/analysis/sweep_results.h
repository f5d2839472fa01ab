// SPDX-License-Identifier: Apache-2.0
// The results of `gateskip eval` (docs/results_format.md), read back and checked.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace gateskip {

struct SweepMetric {
  std::string name;
  double value = 0;
  std::optional<double> standard_error;
  int64_t count = 0;
};

// What one arm did on one task at one budget.
struct SweepPoint {
  std::string arm;
  std::string task;
  double requested = 0;
  std::string unreachable;  // why there is nothing else, if so
  std::string note;
  std::vector<SweepMetric> metrics;
  double nominal = 0;
  double net = 0;
  double bytes_per_token = 0;
  double tokens_per_second = 0;

  const SweepMetric* Find(const std::string& name) const;
};

struct SweepArmInfo {
  std::string name;
  std::string policy;
  std::string adapter;
  std::string description;
};

struct SweepTaskInfo {
  std::string name;
  std::string metric;  // the one that plots show
  bool higher_is_better = true;
  std::optional<double> chance;
  int64_t instances = 0;
  int64_t num_fewshot = 0;
};

struct SweepResults {
  std::string model, machine, date, command;
  int64_t threads = 0;
  std::vector<SweepArmInfo> arms;
  std::vector<SweepTaskInfo> tasks;
  std::vector<SweepPoint> points;

  // The plain model's point of a task, or nullptr.
  const SweepPoint* Original(const std::string& task) const;
  // The gated model at budget 0 for an arm with an adapter, or nullptr.
  const SweepPoint* GatedAtZero(const SweepArmInfo& arm, const std::string& task) const;
};

inline constexpr const char* kOriginalArm = "original";
inline constexpr size_t kMaxSweepPoints = 100000;

// Throws Error: kCorruptData (not such a file; a point twice; an unknown arm or task), kUnsupported (a later version),
// kLimitExceeded (more than kMaxSweepPoints).
SweepResults ReadSweepResults(const nlohmann::json& json, const std::string& origin);
// Several runs of one model as one. Throws Error(kMismatch) for another model, kCorruptData for a point in both.
SweepResults MergeSweepResults(std::vector<SweepResults> parts);

// How much of the original's score is kept: (value - chance) / (original - chance), or original / value where less is
// better. Nothing where the original is no better than chance.
std::optional<double> Retention(const SweepTaskInfo& task, double value, double original);

}  // namespace gateskip
