// SPDX-License-Identifier: Apache-2.0
// `gateskip eval`: tasks x policies x budgets, resumable, with the net cost beside every score.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <memory>
#include <span>

#include "analysis/sweep_report.h"
#include "analysis/sweep_results.h"
#include "base/check.h"
#include "command.h"
#include "eval/policies.h"
#include "eval/sweep.h"
#include "flags.h"
#include "interrupt.h"
#include "io/atomic_write.h"
#include "report.h"
#include "terminal.h"

namespace gateskip::cli {
namespace {

struct EvalCommand {
  PathFlags paths;
  std::vector<std::string> tasks;  // NAME=PATH
  std::vector<std::string> task_files;
  std::vector<std::string> fewshot;  // NAME=PATH
  int64_t limit = 0;
  int num_fewshot = -1;
  std::vector<double> budgets = {0};
  std::vector<std::string> policies;
  std::vector<std::string> arms;
  bool sweep = false;
  std::string shard;
  bool f32 = false;
  bool list = false;
  bool json = false;
  uint64_t task_seed = 1234;
  std::string windows = "joined";
  std::string pair_format = "mixed";
  SweepOptions options;
};

const std::vector<double> kSweepBudgets = {0, 0.15, 0.25, 0.35, 0.5};

class EvalObserver : public SweepObserver {
 public:
  void OnMessage(const std::string& message) override { bar_.SetLabel(message); }
  void OnProgress(const std::string& cell, size_t done, size_t total) override {
    if (!started_) bar_.Restart(done);
    started_ = true;
    bar_.SetLabel(cell);
    bar_.Update(done, total, "items");
  }
  bool Cancelled() override { return cancelled_.load(std::memory_order_relaxed); }

 private:
  ProgressBar bar_{"eval"};
  bool started_ = false;
  std::atomic<bool> cancelled_{false};
  InterruptFlag guard_{cancelled_};
};

// "name=rest"; both parts must be there.
std::pair<std::string, std::string> SplitPair(const std::string& flag, const std::string& text, char separator,
                                              const std::string& form) {
  const size_t at = text.find(separator);
  if (at == 0 || at == std::string::npos || at + 1 == text.size()) {
    Fail(ErrorCode::kInvalidArgument, "[command line] {}: expected {}, found '{}'; write both parts", flag, form,
         Printable(text.substr(0, 64)));
  }
  return {text.substr(0, at), text.substr(at + 1)};
}

void FillTasks(const EvalCommand& flags, SweepOptions* options) {
  TaskOptions task;
  task.limit = flags.limit;
  task.seed = flags.task_seed;
  if (flags.num_fewshot >= 0) task.num_fewshot = flags.num_fewshot;
  const auto add = [&](TaskSpec spec, const std::string& path) {
    task.data_path = path;
    options->tasks.push_back({std::move(spec), task});
  };
  for (const std::string& text : flags.tasks) {
    const auto [name, path] = SplitPair("--task", text, '=', "NAME=PATH, a task and its data");
    add(BuiltinTask(name), path);
  }
  for (const std::string& text : flags.task_files) {
    const auto [file, path] = SplitPair("--task-file", text, '=', "FILE=PATH, a task file and its data");
    add(ReadTaskFile(file), path);
  }
  for (const std::string& text : flags.fewshot) {
    const auto [name, path] = SplitPair("--fewshot", text, '=', "TASK=PATH, a task of this command and its examples");
    const auto task_of_name = [&name = name](const EvalTask& one) { return one.spec.name == name; };
    const auto found = std::find_if(options->tasks.begin(), options->tasks.end(), task_of_name);
    if (found == options->tasks.end()) {
      Fail(ErrorCode::kInvalidArgument,
           "[command line] --fewshot: expected a task of this command, found '{}'; add --task",
           Printable(name.substr(0, 64)));
    }
    found->options.fewshot_path = path;
  }
  if (options->tasks.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "[command line] --task: expected at least one NAME=PATH, found none; the tasks: {}",
         fmt::join(BuiltinTaskNames(), ", "));
  }
}

void FillArms(const EvalCommand& flags, SweepOptions* options) {
  std::vector<std::string> policies = flags.policies;
  const bool gated = !flags.paths.adapter.empty();
  if (policies.empty() && flags.sweep) {
    for (const PolicyInfo& policy : Policies()) {
      if (gated || !policy.needs_gates) policies.emplace_back(policy.name);
    }
  }
  if (policies.empty() && flags.arms.empty() && gated) policies = {"gates"};
  for (const std::string& policy : policies) {
    const bool with_adapter = FindPolicy(policy).needs_gates;
    options->arms.push_back({policy, policy, with_adapter ? flags.paths.adapter : ""});
  }
  for (const std::string& text : flags.arms) {
    const auto [name, rest] = SplitPair("--arm", text, '=', "NAME=POLICY or NAME=POLICY@ADAPTER");
    const size_t at = rest.find('@');
    options->arms.push_back({name, rest.substr(0, at), at == std::string::npos ? "" : rest.substr(at + 1)});
  }
}

// For the results: what was asked for, without paths.
std::string CommandText(const EvalCommand& flags) {
  std::string text = "gateskip eval";
  if (flags.sweep) text += " --sweep";
  for (const std::string& task : flags.tasks) text += " --task " + task.substr(0, task.find('='));
  if (flags.limit > 0) text += fmt::format(" --limit {}", flags.limit);
  return text + fmt::format(" --budget {}", fmt::join(flags.budgets, ","));
}

SweepOptions OptionsOf(const EvalCommand& flags) {
  SweepOptions options = flags.options;
  options.model_path = flags.paths.model;
  options.command = CommandText(flags);
  options.compute = flags.f32 ? ComputeType::kF32 : ComputeType::kFast;
  options.budgets = flags.budgets;
  options.calibrate_on_documents = flags.windows == "documents";
  options.pair_format = static_cast<PairFormat>(ChoiceIndex(kPairFormatNames, flags.pair_format));
  FillTasks(flags, &options);
  FillArms(flags, &options);
  if (!flags.shard.empty()) {
    const auto [shard, shards] = SplitPair("--shard", flags.shard, '/', "K/N, this part of so many");
    options.shard = static_cast<int>(ParseDouble("--shard", shard, 1, 1 << 20)) - 1;
    options.shards = static_cast<int>(ParseDouble("--shard", shards, 1, 1 << 20));
  }
  return options;
}

std::string ScoreText(const nlohmann::json& metric) {
  const double value = metric["value"].get<double>();
  return metric.contains("standard_error")
             ? fmt::format("{:.4f} +- {:.4f}", value, metric["standard_error"].get<double>())
             : fmt::format("{:.4f}", value);
}

void PrintTable(const nlohmann::json& results) {
  std::vector<std::vector<std::string>> rows = {
      {"task", "arm", "requested", "nominal", "net", "metric", "value", "n", "items/s"}};
  for (const nlohmann::json& result : results["results"]) {
    const std::string task = result["task"].get<std::string>();
    const std::string arm = result["arm"].get<std::string>();
    const std::string requested = fmt::format("{:.1f} %", result["requested"].get<double>() * 100);
    if (result.contains("unreachable")) {
      rows.push_back({task, arm, requested, "-", "-", "out of reach", "-", "-", "-"});
      continue;
    }
    for (const nlohmann::json& metric : result["metrics"]) {
      rows.push_back({task, arm, requested, fmt::format("{:.1f} %", result["saving"]["nominal"].get<double>() * 100),
                      fmt::format("{:.1f} %", result["saving"]["net"].get<double>() * 100),
                      metric["name"].get<std::string>(), ScoreText(metric),
                      fmt::format("{}", metric["count"].get<int64_t>()),
                      fmt::format("{:.1f}", result.value("items_per_second", 0.0))});
    }
  }
  WriteStdout(FormatTable(rows, /*markdown=*/false));
}

int Run(const EvalCommand& flags) {
  if (flags.list) {
    for (const std::string& name : BuiltinTaskNames()) WriteStdout(fmt::format("task    {}\n", name));
    for (const PolicyInfo& policy : Policies()) {
      WriteStdout(fmt::format("policy  {:<19} {} ({})\n", policy.name, policy.description, policy.source));
    }
    return 0;
  }
  const SweepOptions options = OptionsOf(flags);
  RequireModel(flags.paths);
  InstallInterruptHandler();
  nlohmann::json results;
  {
    EvalObserver observer;
    results = RunSweep(options, observer);
  }
  if (options.shards > 1) {
    WriteStdout(fmt::format("part {} of {} is in {}; when all are there, run the command without --shard\n",
                            options.shard + 1, options.shards, options.output));
    return 0;
  }
  const std::filesystem::path folder(options.output);
  const std::string page = RenderSweepPage(ReadSweepResults({(folder / "results.json").string()}));
  const std::string path = (folder / "report.html").string();
  WriteFileAtomically(path, std::as_bytes(std::span<const char>(page)));
  if (flags.json) {
    PrintJson(Json(results));
  } else {
    PrintTable(results);
    fmt::print(stderr, "page: {}\n", Printable(path));
  }
  return 0;
}

}  // namespace

void AddEval(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<EvalCommand>();
  flags->options.output = "runs/eval";
  CLI::App* sub = app.add_subcommand("eval", "Accuracy on tasks against net cost, for the gates and their rivals");
  AddModelPath(*sub, &flags->paths);
  AddAdapterPath(*sub, &flags->paths, "Adapter directory, for the policies that need gates");
  AddThreads(*sub, &flags->options.threads);
  sub->add_flag("--f32", flags->f32, "Compute in f32 instead of 8-bit activations")->group("Model");
  AddTexts(*sub, "--task", &flags->tasks, "NAME=PATH", "A task and its data; may be repeated")->group("Tasks");
  AddTexts(*sub, "--task-file", &flags->task_files, "FILE=PATH", "A task of your own (docs/eval_tasks.md)")
      ->group("Tasks");
  AddInt64(*sub, "--limit", &flags->limit, 0, int64_t{1} << 40, "Only the first N documents of each file; 0: all")
      ->group("Tasks");
  AddInt(*sub, "--num-fewshot", &flags->num_fewshot, -1, 100, "Solved examples in front; -1: as the task says")
      ->group("Tasks");
  AddTexts(*sub, "--fewshot", &flags->fewshot, "TASK=PATH",
           "Where a task has its solved examples, if not beside its data; may be repeated")
      ->group("Tasks");
  AddUint64(*sub, "--task-seed", &flags->task_seed, "Draws the few-shot examples")->group("Tasks");
  AddBudgetList(*sub, &flags->budgets);
  AddTexts(*sub, "--policy", &flags->policies, "NAME", "A policy (--list); may be repeated. Default: gates")
      ->group("Budget");
  AddTexts(*sub, "--arm", &flags->arms, "NAME=POLICY@ADAPTER", "A policy with an adapter of its own; may be repeated")
      ->group("Budget");
  sub->add_flag("--sweep", flags->sweep, "Every policy, at 0, 15, 25, 35 and 50 % unless --budget says otherwise")
      ->group("Budget");
  AddTexts(*sub, "--calibration", &flags->options.calibration_paths, "FILE",
           "Text that the other policies are measured and set on; may be repeated")
      ->group("Budget");
  AddInt64(*sub, "--calibration-tokens", &flags->options.calibration_tokens, 512, int64_t{1} << 32,
           "Tokens of it to use at most")
      ->group("Budget");
  AddChoice(*sub, "--windows", &flags->windows, {"joined", "documents"},
            "What is measured: pieces of the text laid end to end, or the beginning of every record")
      ->group("Budget");
  AddChoice(*sub, "--pair-format", &flags->pair_format, kPairFormatNames, "How prompts with completions are written")
      ->group("Budget");
  AddUint64(*sub, "--policy-seed", &flags->options.seed, "Seeds random policies")->group("Budget");
  sub->add_option("-o,--output", flags->options.output,
                  "Directory of results.json and samples; a run over the same one goes on")
      ->group("Output");
  sub->add_option("--shard", flags->shard, "K/N: run this part only, beside N-1 others over one --output")
      ->group("Output");
  sub->add_flag("--list", flags->list, "List tasks and policies, and leave")->group("Output");
  AddJson(*sub, &flags->json);
  sub->footer(
      "Examples:\n"
      "  gateskip eval -m model.gguf --task piqa=DIR --limit 200\n"
      "  gateskip eval -m model.gguf --adapter DIR --budget 0,0.15,0.25 --task lambada_openai=lambada_test.jsonl\n"
      "  gateskip eval -m model.gguf --adapter DIR --sweep --calibration text.txt --task arc_easy=DIR -o runs/sweep");
  sub->callback([flags, sub, &command] {
    if (flags->sweep && sub->count("--budget") == 0) flags->budgets = kSweepBudgets;
    command.run = [flags] { return Run(*flags); };
  });
}

}  // namespace gateskip::cli
