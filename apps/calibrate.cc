// SPDX-License-Identifier: Apache-2.0
// `gateskip calibrate`: thresholds for a grid of budgets, found on a text and stored in the adapter.
#include "eval/calibrate.h"

#include <fmt/format.h>

#include <memory>

#include "base/check.h"
#include "command.h"
#include "flags.h"
#include "interrupt.h"
#include "report.h"
#include "terminal.h"

namespace gateskip::cli {
namespace {

struct CalibrateCommand {
  PathFlags paths;
  CalibrateOptions options;
  WindowFlags windows;
  bool json = false;
};

int Run(const CalibrateCommand& flags) {
  RequireModel(flags.paths);
  if (flags.paths.adapter.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[command line] --adapter: expected the adapter to calibrate, found none");
  }
  if (flags.options.text_paths.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[command line] --file: expected at least one calibration text, found none");
  }
  InstallInterruptHandler();
  CalibrateOptions options = flags.options;
  options.model_path = flags.paths.model;
  options.adapter_path = flags.paths.adapter;
  options.document_windows = flags.windows.PerDocument();
  options.pair_format = flags.windows.Pairs();
  StageBar bar;
  const std::vector<CalibratedBudget> grid =
      Calibrate(options, [&](const std::string& stage, size_t done, size_t total) { bar.Update(stage, done, total); });
  bar.Clear();

  if (flags.json) {
    PrintJson({{"adapter", options.adapter_path}, {"budgets", CalibratedJson(grid)}});
    return 0;
  }
  std::vector<std::vector<std::string>> rows = {{"requested", "threshold", "nominal", "net"}};
  for (const CalibratedBudget& b : grid) {
    rows.push_back({fmt::format("{:.1f} %", b.requested * 100), fmt::format("{:.6f}", b.threshold),
                    fmt::format("{:.1f} %", b.nominal * 100), fmt::format("{:.1f} %", b.net * 100)});
  }
  WriteStdout(FormatTable(rows, /*markdown=*/false));
  if (grid.size() < options.budgets.size()) {
    fmt::print(stderr, "The gates reach {} of the {} budgets asked for.\n", grid.size(), options.budgets.size());
  }
  return 0;
}

}  // namespace

void AddCalibrate(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<CalibrateCommand>();
  CLI::App* sub = app.add_subcommand("calibrate", "Find an adapter's thresholds for a grid of budgets");
  AddModelPath(*sub, &flags->paths);
  AddAdapterPath(*sub, &flags->paths, "Adapter directory; it is replaced at the end, or left as it was");
  AddThreads(*sub, &flags->options.threads);
  AddTexts(*sub, "-f,--file", &flags->options.text_paths, "FILE",
           "Calibration text, read as `train` reads it; may be repeated, and each gives its share")
      ->group("Input");
  AddInt64(*sub, "--tokens", &flags->options.max_tokens, 64, int64_t{1} << 32, "Tokens to use at most")->group("Input");
  AddInt(*sub, "-c,--context", &flags->options.window, 16, 1 << 16, "Tokens per window")->group("Input");
  AddWindowFlags(*sub, &flags->windows);
  AddDoubles(*sub, "--budgets", &flags->options.budgets, kLowestBudget, kHighestBudget,
             "The grid: net savings to find thresholds for")
      ->group("Budget");
  AddJson(*sub, &flags->json);
  sub->footer("Example:\n  gateskip calibrate -m model.gguf --adapter DIR -f text.txt --tokens 16384");
  sub->callback([flags, &command] { command.run = [flags] { return Run(*flags); }; });
}

}  // namespace gateskip::cli
