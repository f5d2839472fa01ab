// SPDX-License-Identifier: Apache-2.0
#include "eval/sweep.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "base/check.h"
#include "base/sha256.h"
#include "eval/cell_log.h"
#include "eval/policies.h"
#include "eval/token_windows.h"
#include "io/atomic_write.h"

namespace gateskip {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr int kCalibrationWindow = 512;
constexpr std::string_view kOriginal = "original";

struct Cell {
  const EvalArm* arm;
  const EvalTask* options;
  const Task* task;
  double budget;
};

std::string ProcessorName() {
  std::ifstream in("/proc/cpuinfo");
  std::string line;
  while (std::getline(in, line)) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

std::string Today() {
  const std::time_t now = std::time(nullptr);
  std::tm date{};
  gmtime_r(&now, &date);
  return fmt::format("{:%Y-%m-%d}", date);
}

std::string LastName(const std::string& path) {
  return std::filesystem::path(path).lexically_normal().filename().string();
}

// What the samples of a cell depend on, beside the instances that were chosen.
std::string AdapterSha256(const std::string& adapter) {
  if (adapter.empty()) return "";
  Sha256 hash;
  for (const char* name : {"adapter_config.json", "adapter_model.safetensors"}) {
    const std::string part = Sha256File((std::filesystem::path(adapter) / name).string());
    hash.Update(std::as_bytes(std::span<const char>(part)));
  }
  return hash.HexDigest();
}

std::string FileName(std::string_view text) {
  std::string name;
  for (const char c : text) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    name += plain ? c : '_';
  }
  return name;
}

class Sweep {
 public:
  Sweep(const SweepOptions& options, SweepObserver& observer) : options_(options), observer_(observer) {
    CheckOptions();
    for (const EvalTask& task : options_.tasks) {
      observer_.OnMessage(fmt::format("reading {}", task.spec.name));
      tasks_.push_back(Task::Load(task.spec, task.options));
    }
    PlanCells();
  }

  Json Run() {
    results_ = Head();
    for (const std::string& adapter : Adapters()) RunAdapter(adapter);
    if (options_.shards == 1) WriteResults();
    return results_;
  }

 private:
  void CheckOptions() const {
    const auto fail = [](const char* what, const std::string& expected, const std::string& found) {
      Fail(ErrorCode::kInvalidArgument, "[eval] {}: expected {}, found {}; change the command", what, expected, found);
    };
    if (options_.tasks.empty()) fail("tasks", "at least one", "none");
    if (options_.output.empty()) fail("output", "a directory", "none");
    if (options_.shards < 1 || options_.shard < 0 || options_.shard >= options_.shards) {
      fail("shard", "K of N with 0 <= K < N", fmt::format("{} of {}", options_.shard, options_.shards));
    }
    std::set<std::string> names;
    for (const EvalArm& arm : options_.arms) {
      const PolicyInfo& policy = FindPolicy(arm.policy);
      if (arm.name.empty() || arm.name == kOriginal || !names.insert(arm.name).second) {
        fail("arm", "a name of its own, not 'original'", fmt::format("'{}'", arm.name));
      }
      if (policy.needs_gates && arm.adapter.empty()) fail("arm", "an adapter for its gates", "none");
      const bool above = !options_.budgets.empty() && options_.budgets.back() > 0;
      if (policy.needs_text && arm.adapter.empty() && above && options_.calibration_paths.empty()) {
        fail("calibration", fmt::format("a text for the policy '{}'", arm.policy), "none");
      }
    }
    double previous = -1;
    for (const double budget : options_.budgets) {
      if (!(budget > previous && budget >= 0 && budget <= kMaxBudget)) {
        fail("budgets", fmt::format("ascending numbers in [0, {}]", kMaxBudget), fmt::format("{}", budget));
      }
      previous = budget;
    }
    std::set<std::string> tasks;
    for (const EvalTask& task : options_.tasks) {
      if (!tasks.insert(task.spec.name).second) fail("tasks", "each once", fmt::format("'{}' twice", task.spec.name));
    }
  }

  // Each adapter is loaded once; the plain model first.
  std::vector<std::string> Adapters() const {
    std::vector<std::string> adapters = {""};
    for (const EvalArm& arm : options_.arms) {
      if (std::ranges::find(adapters, arm.adapter) == adapters.end()) adapters.push_back(arm.adapter);
    }
    return adapters;
  }

  void PlanCells() {
    std::set<std::string> dense;  // adapters whose budget 0 is planned
    const auto add = [&](const EvalArm& arm, double budget) {
      for (size_t t = 0; t < tasks_.size(); ++t) {
        cells_.push_back({&arm, &options_.tasks[t], tasks_[t].get(), budget});
        total_ += MineOf(*tasks_[t]).size();
      }
    };
    add(original_, 0);
    for (const std::string& adapter : Adapters()) {
      for (const EvalArm& arm : options_.arms) {
        if (arm.adapter != adapter) continue;
        for (const double budget : options_.budgets) {
          if (budget == 0 && (adapter.empty() || !dense.insert(adapter).second)) continue;
          add(arm, budget);
        }
      }
    }
  }

  std::vector<size_t> MineOf(const Task& task) const {
    std::vector<size_t> mine;
    for (size_t i = static_cast<size_t>(options_.shard); i < task.size(); i += static_cast<size_t>(options_.shards)) {
      mine.push_back(i);
    }
    return mine;
  }

  Json Head() const {
    Json arms = Json::array();
    arms.push_back(
        {{"name", kOriginal}, {"policy", "none"}, {"adapter", ""}, {"description", "The model as it came."}});
    for (const EvalArm& arm : options_.arms) {
      const PolicyInfo& policy = FindPolicy(arm.policy);
      arms.push_back({{"name", arm.name},
                      {"policy", arm.policy},
                      {"adapter", LastName(arm.adapter)},
                      {"description", fmt::format("{} ({})", policy.description, policy.source)}});
    }
    Json tasks = Json::array();
    for (const auto& task : tasks_) {
      // The first metric is the task's own; a task without instances has none.
      tasks.push_back({{"name", task->spec().name},
                       {"version", task->spec().version},
                       {"num_fewshot", task->num_fewshot()},
                       {"instances", task->size()},
                       {"data_sha256", task->DataSha256()}});
    }
    return {{"gateskip_results", 1},       {"model", LastName(options_.model_path)},
            {"machine", ProcessorName()},  {"date", Today()},
            {"command", options_.command}, {"compute", options_.compute == ComputeType::kF32 ? "f32" : "fast"},
            {"arms", std::move(arms)},     {"tasks", std::move(tasks)},
            {"results", Json::array()}};
  }

  void RunAdapter(const std::string& adapter) {
    const bool wanted = std::ranges::any_of(cells_, [&](const Cell& cell) { return cell.arm->adapter == adapter; });
    if (!wanted) return;
    observer_.OnMessage(adapter.empty() ? "loading the model" : fmt::format("loading {}", LastName(adapter)));
    EngineOptions engine;
    engine.model_path = options_.model_path;
    engine.adapter_path = adapter;
    engine.threads = options_.threads;
    engine.compute = options_.compute;
    const std::unique_ptr<LoadedModel> model = LoadModel(engine);
    results_["model_sha256"] = model->fingerprint;
    results_["threads"] = model->pool->num_threads();
    PolicyOptions policy;
    policy.use_adapter = !adapter.empty();
    policy.note = [&](const std::string& what) { observer_.OnMessage(what); };
    if (!options_.calibration_paths.empty()) {
      policy.windows = ReadWindows(*model->tokenizer, options_.calibration_paths,
                                   {.max_tokens = options_.calibration_tokens,
                                    .window = kCalibrationWindow,
                                    .per_document = options_.calibrate_on_documents,
                                    .pair_format = options_.pair_format,
                                    .threads = model->pool->num_threads()});
    }
    PolicyMaker maker(*model, std::move(policy));
    const std::string sha256 = AdapterSha256(adapter);
    for (const Cell& cell : cells_) {
      if (cell.arm->adapter == adapter) RunCell(*model, maker, sha256, cell);
    }
  }

  Json Identity(const LoadedModel& model, const std::string& adapter_sha256, const Cell& cell) const {
    const Task& task = *cell.task;
    Json identity = {{"model", model.fingerprint},
                     {"adapter", adapter_sha256},
                     {"policy", cell.arm->policy},
                     {"budget", cell.budget},
                     {"task", task.spec().name},
                     {"version", task.spec().version},
                     {"num_fewshot", task.num_fewshot()},
                     {"data", task.DataSha256()},
                     {"task_seed", cell.options->options.seed},
                     {"seed", options_.seed},
                     {"compute", options_.compute == ComputeType::kF32 ? "f32" : "fast"},
                     {"max_length", options_.max_length}};
    if (!options_.calibration_paths.empty() && cell.budget > 0 && !FindPolicy(PolicyOf(cell)).needs_gates) {
      identity["calibration_tokens"] = options_.calibration_tokens;
      identity["calibration_documents"] = options_.calibrate_on_documents;
      identity["pair_format"] = static_cast<int>(options_.pair_format);
      for (const std::string& path : options_.calibration_paths) {
        identity["calibration"].push_back(Sha256File(path));
      }
    }
    return identity;
  }

  static std::string_view PolicyOf(const Cell& cell) { return cell.arm->policy; }

  void RunCell(const LoadedModel& model, PolicyMaker& maker, const std::string& adapter_sha256, const Cell& cell) {
    const std::string label = fmt::format("{} {} at {:g} %", cell.task->spec().name, cell.arm->name, cell.budget * 100);
    const std::string part = options_.shards == 1 ? "" : fmt::format("{}-of-{}", options_.shard + 1, options_.shards);
    CellLog log((std::filesystem::path(options_.output) / "samples" / FileName(cell.arm->name)).string(),
                fmt::format("{}@{:g}", FileName(cell.task->spec().name), cell.budget), part,
                Identity(model, adapter_sha256, cell));
    std::vector<size_t> open;
    for (const size_t i : MineOf(*cell.task)) {
      if (!log.results().contains(i)) open.push_back(i);
    }
    done_ += MineOf(*cell.task).size() - open.size();
    observer_.OnProgress(label, done_, total_);

    std::string unreachable;
    if (!open.empty() || options_.shards == 1) {
      try {
        unreachable = maker.Plan(PolicyOf(cell), cell.budget, options_.seed).unreachable;
      } catch (const Error& e) {
        // A budget beyond what a policy can save is a result; anything else is not.
        if (e.code() != ErrorCode::kInvalidArgument || cell.budget == 0) throw;
        done_ += open.size();
        observer_.OnProgress(label, done_, total_);
        AddUnreachable(cell, e.what());
        return;
      }
    }
    if (!open.empty()) RunOpen(model, maker, cell, label, open, &log);
    if (options_.shards == 1) {
      AddResult(model, cell, log, unreachable);
      WriteResults();
    }
  }

  void RunOpen(const LoadedModel& model, PolicyMaker& maker, const Cell& cell, const std::string& label,
               const std::vector<size_t>& open, CellLog* log) {
    const Clock::time_point start = Clock::now();
    const PlanOf plan_of = [&](size_t instance) {
      return maker.Plan(PolicyOf(cell), cell.budget, options_.seed * 1000003 + instance).plan;
    };
    const TaskRunnerOptions runner = {.use_adapter = !cell.arm->adapter.empty(), .max_length = options_.max_length};
    bool cancelled = false;
    RunInstances(model, *cell.task, open, plan_of, runner, [&](InstanceResult&& result) {
      Json sample = cell.task->SampleRecord(result.instance, result.response);
      log->Append(std::move(result), std::move(sample));
      observer_.OnProgress(label, ++done_, total_);
      cancelled = observer_.Cancelled();
      return !cancelled;
    });
    log->AppendTime(std::chrono::duration<double>(Clock::now() - start).count());
    if (cancelled) {
      Fail(ErrorCode::kCancelled, "[eval] sweep: expected to finish, found it cancelled; the same command goes on");
    }
  }

  void AddUnreachable(const Cell& cell, const std::string& why) {
    results_["results"].push_back(
        {{"arm", cell.arm->name}, {"task", cell.task->spec().name}, {"requested", cell.budget}, {"unreachable", why}});
  }

  void AddResult(const LoadedModel& model, const Cell& cell, const CellLog& log, const std::string& unreachable) {
    std::vector<std::vector<MetricValue>> scored;
    Work prefill;
    Work decode;
    for (const auto& [instance, result] : log.results()) {
      if (instance >= cell.task->size()) continue;  // a larger limit was run before
      scored.push_back(cell.task->Score(instance, result.response));
      prefill.Add(result.prefill);
      decode.Add(result.decode);
    }
    Work all = prefill;
    all.Add(decode);
    const std::vector<MetricResult> metrics = cell.task->Aggregate(scored);
    const bool use_adapter = !cell.arm->adapter.empty();
    const double dense = model.cost(use_adapter).dense_per_row();
    Json values = Json::array();
    for (const MetricResult& metric : metrics) {
      Json value = {{"name", metric.metric}, {"value", metric.value}, {"count", metric.count}};
      if (metric.standard_error) value["standard_error"] = *metric.standard_error;
      values.push_back(std::move(value));
      NoteMetric(cell.task->spec().name, metric);
    }
    const double net = all.NetSaving(dense);
    const ModelWeights& weights = model.transformer->weights;
    Json result = {{"arm", cell.arm->name},
                   {"task", cell.task->spec().name},
                   {"requested", cell.budget},
                   {"metrics", std::move(values)},
                   {"saving",
                    {{"nominal", all.NominalSaving()},
                     {"net", net},
                     {"net_prefill", prefill.NetSaving(dense)},
                     {"net_decode", decode.NetSaving(dense)}}},
                   {"bytes_per_token", (1 - net) * dense + static_cast<double>(weights.head.bytes)},
                   {"flops_per_token", 2 * ((1 - net) * LayerElements(model) + HeadElements(model))},
                   {"tokens", all.rows},
                   {"instances", scored.size()},
                   {"seconds", log.seconds()}};
    if (log.seconds() > 0) {
      result["tokens_per_second"] = static_cast<double>(all.rows) / log.seconds();
      result["items_per_second"] = static_cast<double>(scored.size()) / log.seconds();
    }
    if (!unreachable.empty()) result["note"] = unreachable;
    results_["results"].push_back(std::move(result));
  }

  // The results' tasks say what their first metric means.
  void NoteMetric(const std::string& task, const MetricResult& metric) {
    for (Json& known : results_["tasks"]) {
      if (known["name"] != task || known.contains("metric")) continue;
      known["metric"] = metric.metric;
      known["higher_is_better"] = metric.higher_is_better;
      if (metric.chance) known["chance"] = *metric.chance;
    }
  }

  static double LayerElements(const LoadedModel& model) {
    const ModelConfig& c = model.transformer->config;
    return CostModel(LayerDims{c.num_layers, c.hidden_size, c.query_size(), c.kv_size(), c.ffn_size}).dense_per_row();
  }
  static double HeadElements(const LoadedModel& model) {
    const ModelConfig& c = model.transformer->config;
    return static_cast<double>(c.vocab_size) * c.hidden_size;
  }

  void WriteResults() const {
    const std::string text = results_.dump(1) + "\n";
    WriteFileAtomically((std::filesystem::path(options_.output) / "results.json").string(),
                        std::as_bytes(std::span<const char>(text)));
  }

  const SweepOptions& options_;
  SweepObserver& observer_;
  const EvalArm original_ = {std::string(kOriginal), "gates", ""};
  std::vector<std::unique_ptr<Task>> tasks_;
  std::vector<Cell> cells_;
  size_t done_ = 0;
  size_t total_ = 0;
  Json results_;
};

}  // namespace

Json RunSweep(const SweepOptions& options, SweepObserver& observer) { return Sweep(options, observer).Run(); }

}  // namespace gateskip
