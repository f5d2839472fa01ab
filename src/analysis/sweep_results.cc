// SPDX-License-Identifier: Apache-2.0
#include "analysis/sweep_results.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include "base/check.h"
#include "io/json.h"

namespace gateskip {
namespace {

using Json = nlohmann::json;

constexpr int64_t kVersion = 1;

const Json& List(const Json& object, const char* key, const std::string& origin) {
  if (!object.is_object() || !object.contains(key) || !object[key].is_array()) {
    Fail(ErrorCode::kCorruptData, "[{}] {}: expected a list, found none; it is no results file of `gateskip eval`",
         origin, key);
  }
  return object[key];
}

double Saving(const Json& point, const char* key, const std::string& origin) {
  if (!point.contains("saving") || !point["saving"].is_object()) {
    Fail(ErrorCode::kCorruptData, "[{}] saving: expected an object, found none; run the evaluation again", origin);
  }
  return GetNumber(point["saving"], key, origin);
}

SweepPoint ReadPoint(const Json& json, const std::string& origin) {
  SweepPoint point;
  point.arm = GetString(json, "arm", origin);
  point.task = GetString(json, "task", origin);
  point.requested = GetNumber(json, "requested", origin);
  point.unreachable = GetString(json, "unreachable", origin, "");
  if (!point.unreachable.empty()) return point;
  point.note = GetString(json, "note", origin, "");
  point.nominal = Saving(json, "nominal", origin);
  point.net = Saving(json, "net", origin);
  point.bytes_per_token = GetNumber(json, "bytes_per_token", origin, 0.0);
  point.tokens_per_second = GetNumber(json, "tokens_per_second", origin, 0.0);
  for (const Json& metric : List(json, "metrics", origin)) {
    SweepMetric read;
    read.name = GetString(metric, "name", origin);
    read.value = GetNumber(metric, "value", origin);
    if (metric.contains("standard_error")) read.standard_error = GetNumber(metric, "standard_error", origin);
    read.count = GetInt(metric, "count", origin, 0);
    point.metrics.push_back(std::move(read));
  }
  return point;
}

void CheckPoints(const SweepResults& results, const std::string& origin) {
  std::set<std::string> arms;
  std::set<std::string> tasks;
  for (const SweepArmInfo& arm : results.arms) arms.insert(arm.name);
  for (const SweepTaskInfo& task : results.tasks) tasks.insert(task.name);
  std::set<std::tuple<std::string, std::string, double>> seen;
  for (const SweepPoint& point : results.points) {
    if (!arms.contains(point.arm) || !tasks.contains(point.task)) {
      Fail(ErrorCode::kCorruptData,
           "[{}] result: expected a known arm and task, found '{}' and '{}'; run the evaluation "
           "again",
           origin, point.arm, point.task);
    }
    if (!seen.insert({point.arm, point.task, point.requested}).second) {
      Fail(ErrorCode::kCorruptData, "[{}] result: expected '{}' on '{}' at {} once, found it twice; give each run once",
           origin, point.arm, point.task, point.requested);
    }
  }
}

}  // namespace

const SweepMetric* SweepPoint::Find(const std::string& name) const {
  const auto found = std::ranges::find_if(metrics, [&](const SweepMetric& metric) { return metric.name == name; });
  return found == metrics.end() ? nullptr : &*found;
}

const SweepPoint* SweepResults::Original(const std::string& task) const {
  for (const SweepPoint& point : points) {
    if (point.arm == kOriginalArm && point.task == task && point.unreachable.empty()) return &point;
  }
  return nullptr;
}

const SweepPoint* SweepResults::GatedAtZero(const SweepArmInfo& arm, const std::string& task) const {
  if (arm.adapter.empty()) return nullptr;
  // It is run once for each adapter, under the first arm that has it.
  for (const SweepPoint& point : points) {
    if (point.requested != 0 || point.task != task || !point.unreachable.empty()) continue;
    const auto of = std::ranges::find_if(arms, [&](const SweepArmInfo& a) { return a.name == point.arm; });
    if (of != arms.end() && of->adapter == arm.adapter) return &point;
  }
  return nullptr;
}

SweepResults ReadSweepResults(const Json& json, const std::string& origin) {
  SweepResults results;
  if (!json.is_object() || !json.contains("gateskip_results")) {
    Fail(ErrorCode::kCorruptData,
         "[{}] results: expected 'gateskip_results', found none; it is no results file of "
         "`gateskip eval`",
         origin);
  }
  const int64_t version = GetInt(json, "gateskip_results", origin);
  if (version != kVersion) {
    Fail(ErrorCode::kUnsupported, "[{}] version: expected {}, found {}; use the gateskip that wrote it", origin,
         kVersion, version);
  }
  results.model = GetString(json, "model", origin);
  results.machine = GetString(json, "machine", origin, "");
  results.date = GetString(json, "date", origin, "");
  results.command = GetString(json, "command", origin, "");
  results.threads = GetInt(json, "threads", origin, 0);
  for (const Json& arm : List(json, "arms", origin)) {
    results.arms.push_back({GetString(arm, "name", origin), GetString(arm, "policy", origin, ""),
                            GetString(arm, "adapter", origin, ""), GetString(arm, "description", origin, "")});
  }
  for (const Json& task : List(json, "tasks", origin)) {
    SweepTaskInfo info;
    info.name = GetString(task, "name", origin);
    info.metric = GetString(task, "metric", origin, "");
    info.higher_is_better = GetBool(task, "higher_is_better", origin, true);
    if (task.contains("chance")) info.chance = GetNumber(task, "chance", origin);
    info.instances = GetInt(task, "instances", origin, 0);
    info.num_fewshot = GetInt(task, "num_fewshot", origin, 0);
    results.tasks.push_back(std::move(info));
  }
  const Json& points = List(json, "results", origin);
  if (points.size() > kMaxSweepPoints) {
    Fail(ErrorCode::kLimitExceeded, "[{}] results: expected at most {}, found {}; split the file", origin,
         kMaxSweepPoints, points.size());
  }
  for (const Json& point : points) results.points.push_back(ReadPoint(point, origin));
  CheckPoints(results, origin);
  return results;
}

SweepResults MergeSweepResults(std::vector<SweepResults> parts) {
  GS_CHECK(!parts.empty());
  SweepResults merged = std::move(parts[0]);
  for (size_t i = 1; i < parts.size(); ++i) {
    SweepResults& part = parts[i];
    if (part.model != merged.model) {
      Fail(ErrorCode::kMismatch,
           "[results] model: expected '{}' as in the first file, found '{}'; one page shows one model", merged.model,
           part.model);
    }
    for (SweepArmInfo& arm : part.arms) {
      if (std::ranges::none_of(merged.arms, [&](const auto& a) { return a.name == arm.name; })) {
        merged.arms.push_back(std::move(arm));
      }
    }
    for (SweepTaskInfo& task : part.tasks) {
      if (std::ranges::none_of(merged.tasks, [&](const auto& t) { return t.name == task.name; })) {
        merged.tasks.push_back(std::move(task));
      }
    }
    for (SweepPoint& point : part.points) {
      // Every file brings the original; the first one's is as good.
      if (point.arm == kOriginalArm && merged.Original(point.task) != nullptr) continue;
      merged.points.push_back(std::move(point));
    }
  }
  CheckPoints(merged, "results");
  return merged;
}

std::optional<double> Retention(const SweepTaskInfo& task, double value, double original) {
  if (!task.higher_is_better) {
    if (!(value > 0)) return std::nullopt;
    return original / value;
  }
  const double margin = original - task.chance.value_or(0.0);
  if (!(margin > 0)) return std::nullopt;
  return (value - task.chance.value_or(0.0)) / margin;
}

}  // namespace gateskip
