// SPDX-License-Identifier: Apache-2.0
// `gateskip analyze`: what an adapter's gates learned, measured on texts, as a page and as JSON.
#include <fmt/format.h>

#include <memory>
#include <span>

#include "analysis/gate_report.h"
#include "base/check.h"
#include "command.h"
#include "flags.h"
#include "interrupt.h"
#include "io/atomic_write.h"
#include "report.h"
#include "terminal.h"

namespace gateskip::cli {
namespace {

struct AnalyzeCommand {
  PathFlags paths;
  GateStatisticsOptions options;
  WindowFlags windows;
  std::string out;
  bool json = false;
};

GateStatistics Measure(const GateStatisticsOptions& options) {
  std::string stage;
  std::unique_ptr<ProgressBar> bar;
  return MeasureGates(options, [&](const std::string& now, size_t done, size_t total) {
    ThrowIfInterrupted();
    if (now != stage) {
      stage = now;
      bar.reset();
      bar = std::make_unique<ProgressBar>(now);
    }
    bar->Update(done, total, "tok");
  });
}

int Run(const AnalyzeCommand& flags) {
  RequireModel(flags.paths);
  if (!BringGates(flags.paths)) {
    Fail(ErrorCode::kInvalidArgument, "[command line] --adapter: expected the gates to analyze, found none");
  }
  if (flags.options.text_paths.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[command line] --file: expected at least one text, found none");
  }
  if (flags.out.empty() && !flags.json) {
    Fail(ErrorCode::kInvalidArgument, "[command line] --out: expected a place for the page, or --json, found neither");
  }
  InstallInterruptHandler();
  GateStatisticsOptions options = flags.options;
  options.model_path = flags.paths.model;
  options.adapter_path = flags.paths.adapter;
  options.windows.per_document = flags.windows.PerDocument();
  options.windows.pair_format = flags.windows.Pairs();
  const GateStatistics statistics = Measure(options);
  if (!flags.out.empty()) {
    const std::string page = RenderGateReport(statistics);
    WriteFileAtomically(flags.out, std::as_bytes(std::span<const char>(page)));
    if (!flags.json) WriteStdout(Printable(flags.out) + "\n");
  }
  if (flags.json) PrintJson(GateStatisticsJson(statistics));
  return 0;
}

}  // namespace

void AddAnalyze(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<AnalyzeCommand>();
  CLI::App* sub = app.add_subcommand("analyze", "What an adapter's gates learned, with pictures");
  AddModelPath(*sub, &flags->paths);
  AddAdapterPath(*sub, &flags->paths, "Adapter directory");
  AddThreads(*sub, &flags->options.threads);
  AddDouble(*sub, "--budget", &flags->options.budget, kLowestBudget, kHighestBudget,
            "Share of the ungated layer cost to save, net of the gates")
      ->group("Budget");
  AddTexts(*sub, "-f,--file", &flags->options.text_paths, "FILE",
           "Text, read as `train` reads it; may be repeated, and each gives its share")
      ->group("Input");
  AddInt64(*sub, "--tokens", &flags->options.windows.max_tokens, 2, int64_t{1} << 22, "Tokens to use at most")
      ->group("Input");
  AddInt(*sub, "-c,--context", &flags->options.windows.window, 2, 8192, "Tokens per window")->group("Input");
  AddWindowFlags(*sub, &flags->windows);
  AddInt(*sub, "--show", &flags->options.sample_tokens, 0, 8192,
         "Tokens of the first file to show one by one, of its first window")
      ->group("Output");
  sub->add_option("-o,--out", flags->out,
                  "Where the page goes; it replaces what is there. With --json it may be left out")
      ->type_name("FILE")
      ->group("Output");
  AddJson(*sub, &flags->json);
  sub->footer(
      "The page holds the beginning of the first text.\n"
      "Example:\n"
      "  gateskip analyze -m model.gguf --adapter DIR -f text.txt -f code.txt --budget 0.25 -o gates.html");
  sub->callback([flags, &command] { command.run = [flags] { return Run(*flags); }; });
}

}  // namespace gateskip::cli
