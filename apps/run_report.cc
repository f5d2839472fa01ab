// SPDX-License-Identifier: Apache-2.0
// `gateskip report`: the HTML page of a training run, made again from its log.
#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "analysis/train_report.h"
#include "base/check.h"
#include "command.h"
#include "terminal.h"

namespace gateskip::cli {
namespace {

struct ReportCommand {
  std::string run;
  std::string out;
};

int Run(const ReportCommand& flags) {
  if (flags.run.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[command line] --run: expected the directory of a training run, found none");
  }
  const std::string out = flags.out.empty() ? (std::filesystem::path(flags.run) / "report.html").string() : flags.out;
  WriteTrainReport(flags.run, out);
  WriteStdout(Printable(out) + "\n");
  return 0;
}

}  // namespace

void AddReport(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<ReportCommand>();
  CLI::App* sub = app.add_subcommand("report", "Write the HTML report of a training run from its log");
  sub->add_option("--run", flags->run, "Run directory of `train`, with log.jsonl")->type_name("DIR")->group("Input");
  sub->add_option("-o,--out", flags->out, "Where the page goes; it replaces what is there [DIR/report.html]")
      ->type_name("FILE")
      ->group("Output");
  sub->footer(
      "`train` writes the same page at every evaluation and at its end.\n"
      "Example:\n"
      "  gateskip report --run runs/a");
  sub->callback([flags, &command] { command.run = [flags] { return Run(*flags); }; });
}

}  // namespace gateskip::cli
