// SPDX-License-Identifier: Apache-2.0
// `gateskip bench`: prompt and generation rates in the manner of llama-bench, at several budgets, depths, numbers of
// sequences and of threads, with the speed-up against the ungated model.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "base/check.h"
#include "bench_output.h"
#include "bench_run.h"
#include "bench_table.h"
#include "command.h"
#include "flags.h"
#include "interrupt.h"
#include "prompt.h"
#include "terminal.h"

namespace gateskip::cli {
namespace {

constexpr int kDefaultContext = 8192;

struct BenchCommand {
  EngineFlags engine;
  PolicyFlags policy;
  std::vector<double> budgets = {0};
  std::vector<int> threads = {0};
  std::vector<int> depths = {0};
  std::vector<int> sequences = {1};
  int prompt_tokens = 512;
  int decode_tokens = 128;
  int repetitions = 5;
  std::string format = "md";
  bool table = false;
  std::string text_file;
  std::string question = BenchTable().question;
  int64_t max_text_tokens = 0;
  bool json = false;
};

void Validate(const BenchCommand& flags) {
  RequireModel(flags.engine.paths);
  const auto one = [&](const char* name, const std::vector<int>& values) {
    if (!flags.table || values.size() == 1) return;
    Fail(ErrorCode::kInvalidArgument, "[command line] {}: expected one number with --table, found {}", name,
         values.size());
  };
  one("--threads", flags.threads);
  one("--depth", flags.depths);
  one("--sequences", flags.sequences);
}

// The engine's own default reaches kDefaultContext; KV memory is taken only as it fills.
int ContextFor(const BenchCommand& flags) {
  const int64_t wanted = int64_t{*std::ranges::max_element(flags.depths)} + flags.prompt_tokens + flags.decode_tokens;
  return wanted > kDefaultContext ? static_cast<int>(wanted) : 0;
}

int Run(const BenchCommand& flags) {
  Validate(flags);
  std::vector<BudgetOptions> budgets;
  for (const double b : flags.budgets) budgets.push_back(MakeBudget(b, b, flags.policy, flags.engine));
  BenchTable table = {.max_text_tokens = flags.max_text_tokens, .question = flags.question, .json = flags.json};
  if (!flags.text_file.empty()) table.text = ReadTextFile(flags.text_file, kMaxTextBytes);
  InstallInterruptHandler();

  const bool json = flags.json || flags.format == "json";
  Json body = {{"model", nullptr},
               {"prompt_tokens", flags.prompt_tokens},
               {"decode_tokens", flags.decode_tokens},
               {"repetitions", flags.repetitions},
               {"rows", Json::array()}};
  if (flags.format == "csv" && !json && !flags.table) WriteStdout(BenchCsvHeader());
  for (const int threads : flags.threads) {
    EngineFlags engine_flags = flags.engine;
    engine_flags.threads = threads;
    engine_flags.context_length = ContextFor(flags);
    const std::unique_ptr<Engine> engine = LoadEngine(engine_flags);
    const bool gates = engine->info().has_adapter && flags.policy.policy == "gates" && !flags.table;
    const BenchPlan plan = {.prompt_tokens = flags.prompt_tokens,
                            .decode_tokens = flags.decode_tokens,
                            .repetitions = flags.repetitions,
                            .peaks = MeasurePeaks(engine->info().threads)};
    std::vector<BenchRow> rows;
    {
      ProgressBar bar("measuring");
      rows = RunBench(*engine, MakeCases(flags.depths, flags.sequences, gates, budgets), plan,
                      [&](size_t done, size_t total) { bar.Update(done, total); });
    }
    if (flags.table) {
      PrintBenchTable(*engine, table, plan, rows);
    } else if (json) {
      body["model"] = BenchModelJson(engine->info());
      for (const BenchRow& row : rows) body["rows"].push_back(BenchRowJson(row, plan));
    } else if (flags.format == "csv") {
      for (const BenchRow& row : rows) WriteStdout(BenchCsvRow(row, plan));
    } else {
      WriteStdout(BenchConditions(engine->info(), plan) + "\n" + BenchMarkdown(rows, plan) + "\n");
    }
  }
  if (json && !flags.table) PrintJson(body);
  return 0;
}

}  // namespace

void AddBench(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<BenchCommand>();
  CLI::App* sub = app.add_subcommand("bench", "Prefill and decode speed at several budgets, against the ungated model");
  AddEngineFlags(*sub, &flags->engine, /*with_threads=*/false);
  AddInts(*sub, "-t,--threads", &flags->threads, 0, 256, "Thread counts to try; 0: one per core")
      ->envname("GATESKIP_THREADS")
      ->group("Model");
  AddBudgetList(*sub, &flags->budgets);
  AddPolicyFlags(*sub, &flags->policy);
  AddInt(*sub, "-p,--prompt-tokens", &flags->prompt_tokens, 1, 1 << 20, "Tokens of the prompt")->group("Measurement");
  AddInt(*sub, "-n,--decode-tokens", &flags->decode_tokens, 0, 1 << 20, "Tokens to generate after it")
      ->group("Measurement");
  AddInts(*sub, "-d,--depth", &flags->depths, 0, 1 << 24, "Tokens in the cache before the prompt, unmeasured; a list")
      ->group("Measurement");
  AddInts(*sub, "-s,--sequences", &flags->sequences, 1, 4096,
          "Sequences that decode together, each with a prompt of its own; a list")
      ->group("Measurement");
  AddInt(*sub, "-r,--repetitions", &flags->repetitions, 1, 1000, "Measured runs of each, after one warm-up")
      ->group("Measurement");
  sub->add_flag("--table", flags->table, "One readable table with perplexity and a sample answer per row")
      ->group("Output");
  sub->add_option("--text", flags->text_file, "With --table: the text whose perplexity is shown")
      ->type_name("FILE")
      ->group("Output");
  AddInt64(*sub, "--max-text-tokens", &flags->max_text_tokens, 0, int64_t{1} << 40,
           "With --table: use only the first N tokens of --text; 0: all")
      ->group("Output");
  sub->add_option("--prompt", flags->question, "With --table: what is asked for the sample answers")
      ->type_name("TEXT")
      ->capture_default_str()
      ->group("Output");
  AddChoice(*sub, "-o,--output", &flags->format, {"md", "csv", "json"}, "Format")->group("Output");
  AddJson(*sub, &flags->json);
  sub->footer(
      "Examples:\n"
      "  gateskip bench -m model.gguf --adapter DIR --budgets 0,0.15,0.25,0.5 -t 1,2\n"
      "  gateskip bench -m model.gguf -d 0,4096 -s 1,4,16 -p 128 -n 64\n"
      "  gateskip bench -m model.gguf --adapter DIR --budgets 0,0.25 --table --text text.txt");
  sub->callback([flags, &command] { command.run = [flags] { return Run(*flags); }; });
}

}  // namespace gateskip::cli
