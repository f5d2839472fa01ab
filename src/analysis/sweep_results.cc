// SPDX-License-Identifier: Apache-2.0
#include "analysis/sweep_results.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <tuple>

#include "base/check.h"
#include "io/input_file.h"
#include "io/json.h"

namespace gateskip {
namespace {

using nlohmann::json;

constexpr const char* kOriginal = "original";
constexpr const char* kGates = "gates";
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
// Far beyond any result, and near enough to be added and squared.
constexpr size_t kMaxItems = 2'000'000;  // of the JSON
constexpr double kMaxNumber = 1e15;
constexpr double kMaxScore = 1e100;  // a perplexity of a model that skips at random can be anything
// Two files say the same when they differ by no more than the writing of a number may round.
constexpr double kSame = 1e-9;

// A number in [low, high]; the fallback where it may be absent.
double Bounded(const json& object, const char* key, const std::string& origin, double low, double high,
               std::optional<double> fallback = std::nullopt) {
  const double value = GetNumber(object, key, origin, fallback);
  if (value < low || value > high) {
    Fail(ErrorCode::kCorruptData, "[{}] key {}: expected a number in [{}, {}], found {}; correct it", origin, key, low,
         high, value);
  }
  return value;
}

int64_t Count(const json& object, const char* key, const std::string& origin) {
  const int64_t value = GetInt(object, key, origin, 0);
  if (value < 0)
    Fail(ErrorCode::kCorruptData, "[{}] key {}: expected 0 or more, found {}; correct it", origin, key, value);
  return value;
}

const json& List(const json& object, const char* key, const std::string& origin, size_t most) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_array()) {
    Fail(ErrorCode::kCorruptData, "[{}] key {}: expected an array, found {}; correct it", origin, key,
         found == object.end() ? "nothing" : found->type_name());
  }
  if (found->size() > most) {
    Fail(ErrorCode::kLimitExceeded, "[{}] key {}: expected at most {} entries, found {}; split the sweep", origin, key,
         most, found->size());
  }
  return *found;
}

std::string Name(const json& object, const std::string& origin) {
  std::string name = GetString(object, "name", origin);
  if (name.empty()) Fail(ErrorCode::kCorruptData, "[{}] key name: expected a name, found none; add it", origin);
  return name;
}

SweepArm ReadArm(const json& object, const std::string& origin) {
  SweepArm arm;
  arm.name = Name(object, origin);
  arm.policy = GetString(object, "policy", origin, "");
  arm.adapter = GetString(object, "adapter", origin, "");
  arm.description = GetString(object, "description", origin, "");
  arm.trained_tokens = Count(object, "trained_tokens", origin);
  return arm;
}

SweepTask ReadTask(const json& object, const std::string& origin) {
  SweepTask task;
  task.name = Name(object, origin);
  task.version = GetString(object, "version", origin, "");
  task.metric = GetString(object, "metric", origin);
  task.data_sha256 = GetString(object, "data_sha256", origin, "");
  task.higher_is_better = GetBool(object, "higher_is_better", origin);
  task.chance = Bounded(object, "chance", origin, -kMaxNumber, kMaxNumber, 0.0);
  task.num_fewshot = Count(object, "num_fewshot", origin);
  task.instances = Count(object, "instances", origin);
  return task;
}

bool Same(const SweepArm& a, const SweepArm& b) {
  return a.policy == b.policy && a.adapter == b.adapter && a.trained_tokens == b.trained_tokens;
}

bool Same(const SweepTask& a, const SweepTask& b) {
  return a.version == b.version && a.metric == b.metric && a.data_sha256 == b.data_sha256 &&
         a.higher_is_better == b.higher_is_better && a.chance == b.chance && a.num_fewshot == b.num_fewshot &&
         a.instances == b.instances;
}

bool Same(const SweepPoint& a, const SweepPoint& b) {
  const auto near = [](double x, double y) { return std::abs(x - y) <= kSame * std::max(std::abs(x), std::abs(y)); };
  return a.unreachable.empty() == b.unreachable.empty() &&
         (!a.unreachable.empty() || (near(a.score.value, b.score.value) && near(a.net, b.net)));
}

using Key = std::tuple<size_t, size_t, double>;
Key KeyOf(const SweepPoint& p) { return {p.task, p.arm, p.requested}; }

template <typename Named>
size_t Place(const std::vector<Named>& list, const std::string& name) {
  return static_cast<size_t>(std::find_if(list.begin(), list.end(), [&](const Named& n) { return n.name == name; }) -
                             list.begin());
}

class Reader {
 public:
  void Add(const std::string& path, const std::string& text) {
    const json root = ParseJson(text, path, 16, kMaxItems);
    const int64_t version = GetInt(root, "gateskip_results", path);
    if (version != kSweepFormatVersion) {
      Fail(ErrorCode::kUnsupported,
           "[{}] key gateskip_results: expected version {}, found {}; use the program that "
           "wrote the file",
           path, kSweepFormatVersion, version);
    }
    AddModel(root, path);
    AddNamed(List(root, "arms", path, kMaxSweepArms), path, "arm", ReadArm, kMaxSweepArms, &results_.arms);
    AddNamed(List(root, "tasks", path, kMaxSweepTasks), path, "task", ReadTask, kMaxSweepTasks, &results_.tasks);
    std::set<Key> seen;
    size_t number = 0;
    for (const json& object : List(root, "results", path, kMaxSweepResults)) {
      AddPoint(object, path, fmt::format("{}: result {}", path, number++), &seen);
    }
  }

  SweepResults Finish(const std::string& path) {
    // The original leads; the others stay in order.
    const size_t original = Place(results_.arms, kOriginal);
    if (original < results_.arms.size()) {
      const auto begin = results_.arms.begin();
      std::rotate(begin, begin + static_cast<std::ptrdiff_t>(original),
                  begin + static_cast<std::ptrdiff_t>(original) + 1);
      for (SweepPoint& p : results_.points) p.arm = p.arm == original ? 0 : p.arm + (p.arm < original ? 1 : 0);
    }
    std::sort(results_.points.begin(), results_.points.end(),
              [](const SweepPoint& a, const SweepPoint& b) { return KeyOf(a) < KeyOf(b); });
    if (results_.tasks.empty()) {
      Fail(ErrorCode::kCorruptData, "[{}] key tasks: expected at least one task, found none; evaluate one", path);
    }
    for (size_t task = 0; task < results_.tasks.size(); ++task) {
      if (results_.Find(task, Place(results_.arms, kOriginal), 0.0) != nullptr) continue;
      Fail(ErrorCode::kCorruptData,
           "[{}] results: expected the arm '{}' at 0 for every task, found none for '{}'; evaluate it", path, kOriginal,
           results_.tasks[task].name);
    }
    return std::move(results_);
  }

 private:
  void AddModel(const json& root, const std::string& path) {
    const std::string model = GetString(root, "model", path);
    const std::string sha256 = GetString(root, "model_sha256", path, "");
    if (results_.runs.empty()) {
      results_.model = model;
      results_.model_sha256 = sha256;
    } else if (results_.model_sha256 != sha256 || results_.model != model) {
      Fail(ErrorCode::kMismatch,
           "[{}] key model: expected the model of {}, {}, found {} (or another file of it); "
           "report on each model alone",
           path, results_.runs.front().path, results_.model, model);
    }
    SweepRun run;
    run.path = path;
    run.machine = GetString(root, "machine", path, "");
    run.date = GetString(root, "date", path, "");
    run.command = GetString(root, "command", path, "");
    run.threads = Count(root, "threads", path);
    results_.runs.push_back(std::move(run));
  }

  template <typename Named, typename Read>
  void AddNamed(const json& list, const std::string& path, const char* what, const Read& read, size_t most,
                std::vector<Named>* all) {
    std::set<std::string> here;
    for (const json& object : list) {
      Named named = read(object, fmt::format("{}: {} {}", path, what, here.size()));
      if (!here.insert(named.name).second) {
        Fail(ErrorCode::kCorruptData, "[{}] {}: expected each name once, found '{}' twice; remove one", path, what,
             named.name);
      }
      const size_t place = Place(*all, named.name);
      if (place == all->size()) {
        if (all->size() == most) {
          Fail(ErrorCode::kLimitExceeded, "[{}] {}: expected at most {} in all files, found more; pass fewer files",
               path, what, most);
        }
        all->push_back(std::move(named));
      } else if (!Same((*all)[place], named)) {
        Fail(ErrorCode::kMismatch,
             "[{}] {} {}: expected what the files before say of it, found something else; "
             "rename it, or report on each file alone",
             path, what, named.name);
      }
    }
  }

  template <typename Named>
  size_t Reference(const json& object, const char* key, const std::string& origin, const std::vector<Named>& list) {
    const std::string name = GetString(object, key, origin);
    const size_t place = Place(list, name);
    if (place == list.size()) {
      Fail(ErrorCode::kCorruptData, "[{}] key {}: expected one of the file's {}s, found '{}'; correct it", origin, key,
           key, name.substr(0, 200));
    }
    return place;
  }

  void AddPoint(const json& object, const std::string& path, const std::string& origin, std::set<Key>* seen) {
    SweepPoint point;
    point.arm = Reference(object, "arm", origin, results_.arms);
    point.task = Reference(object, "task", origin, results_.tasks);
    point.run = results_.runs.size() - 1;
    point.requested = Bounded(object, "requested", origin, 0.0, 1.0);
    point.unreachable = GetString(object, "unreachable", origin, "");
    if (point.unreachable.empty()) ReadMeasured(object, origin, &point);

    const Key key = KeyOf(point);
    const std::string name =
        fmt::format("{}, {} at {}", results_.tasks[point.task].name, results_.arms[point.arm].name, point.requested);
    if (!seen->insert(key).second) {
      Fail(ErrorCode::kCorruptData, "[{}] {}: expected it once, found it twice; remove one", path, name);
    }
    const auto [known, is_new] = places_.try_emplace(key, results_.points.size());
    if (!is_new) {
      const SweepPoint& before = results_.points[known->second];
      if (Same(before, point)) return;
      Fail(ErrorCode::kMismatch, "[{}] {}: expected the scores of {}, found others; pass only one of the files", path,
           name, results_.runs[before.run].path);
    }
    if (results_.points.size() == kMaxSweepResults) {
      Fail(ErrorCode::kLimitExceeded, "[{}] results: expected at most {} in all files, found more; pass fewer files",
           path, kMaxSweepResults);
    }
    savings_.insert(point.requested);
    if (savings_.size() > kMaxSweepSavings) {
      Fail(ErrorCode::kLimitExceeded,
           "[{}] results: expected at most {} different savings asked for, found more; "
           "pass fewer files",
           path, kMaxSweepSavings);
    }
    results_.points.push_back(std::move(point));
  }

  void ReadMeasured(const json& object, const std::string& origin, SweepPoint* point) {
    point->note = GetString(object, "note", origin, "");
    const std::string& wanted = results_.tasks[point->task].metric;
    for (const json& item : List(object, "metrics", origin, 64)) {
      SweepMetric metric;
      metric.name = Name(item, origin);
      metric.estimate.value = Bounded(item, "value", origin, -kMaxScore, kMaxScore);
      if (item.contains("standard_error") && !item["standard_error"].is_null()) {
        metric.estimate.error = Bounded(item, "standard_error", origin, 0.0, kMaxScore);
      }
      metric.count = Count(item, "count", origin);
      if (metric.name == wanted) point->score = metric.estimate;
      point->metrics.push_back(std::move(metric));
    }
    if (std::isnan(point->score.value)) {
      Fail(ErrorCode::kCorruptData, "[{}] key metrics: expected the task's metric '{}', found none; add it", origin,
           wanted);
    }
    const auto saving = object.find("saving");
    if (saving == object.end()) {
      Fail(ErrorCode::kCorruptData, "[{}] key saving: expected an object, found nothing; add it", origin);
    }
    point->net = Bounded(*saving, "net", origin, -kMaxNumber, 1.0);
    point->nominal = Bounded(*saving, "nominal", origin, 0.0, 1.0);
    const auto optional = [&](const json& of, const char* key, double low, double high) {
      return of.contains(key) && !of[key].is_null() ? Bounded(of, key, origin, low, high) : kNaN;
    };
    point->net_prefill = optional(*saving, "net_prefill", -kMaxNumber, 1.0);
    point->net_decode = optional(*saving, "net_decode", -kMaxNumber, 1.0);
    point->flops_per_token = optional(object, "flops_per_token", 0.0, kMaxNumber);
    point->bytes_per_token = optional(object, "bytes_per_token", 0.0, kMaxNumber);
    point->tokens_per_second = optional(object, "tokens_per_second", 0.0, kMaxNumber);
    point->items_per_second = optional(object, "items_per_second", 0.0, kMaxNumber);
    point->seconds = optional(object, "seconds", 0.0, kMaxNumber);
  }

  SweepResults results_;
  std::map<Key, size_t> places_;
  std::set<double> savings_;
};

}  // namespace

const SweepPoint* SweepResults::Find(size_t task, size_t arm, double requested) const {
  const Key key{task, arm, requested};
  const auto found = std::lower_bound(points.begin(), points.end(), key,
                                      [](const SweepPoint& p, const Key& k) { return KeyOf(p) < k; });
  if (found != points.end() && KeyOf(*found) == key && found->unreachable.empty()) return &*found;
  return nullptr;
}

const SweepPoint& SweepResults::Original(size_t task) const {
  const SweepPoint* point = Find(task, 0, 0.0);
  GS_CHECK(point != nullptr);
  return *point;
}

size_t SweepResults::GatesArm() const {
  const size_t named = Place(arms, kGates);
  if (named < arms.size()) return named;
  return static_cast<size_t>(
      std::find_if(arms.begin() + 1, arms.end(), [](const SweepArm& a) { return a.policy == kGates; }) - arms.begin());
}

const SweepPoint* SweepResults::GatedDense(size_t task) const { return Find(task, GatesArm(), 0.0); }

std::vector<double> SweepResults::RequestedSavings() const {
  std::set<double> all;
  for (const SweepPoint& p : points) all.insert(p.requested);
  return {all.begin(), all.end()};
}

SweepResults ParseSweepResults(const std::vector<std::pair<std::string, std::string>>& files) {
  if (files.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[report] results: expected at least one file, found none; name one");
  }
  Reader reader;
  for (const auto& [path, text] : files) reader.Add(path, text);
  return reader.Finish(files.back().first);
}

SweepResults ReadSweepResults(const std::vector<std::string>& paths) {
  std::vector<std::pair<std::string, std::string>> files;
  for (const std::string& path : paths) {
    const InputFile file(path);
    if (file.size() > kMaxSweepFileBytes) {
      Fail(ErrorCode::kLimitExceeded, "[{}] size: expected results of at most {} bytes, found {}; split the sweep",
           path, kMaxSweepFileBytes, file.size());
    }
    std::string text(static_cast<size_t>(file.size()), '\0');
    file.ReadAt(0, std::as_writable_bytes(std::span(text)));
    files.emplace_back(path, std::move(text));
  }
  return ParseSweepResults(files);
}

}  // namespace gateskip
