// SPDX-License-Identifier: Apache-2.0
// `gateskip report`: the HTML page of a training run, made again from its log; or the page of a sweep, made from its
// results.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <span>

#include "analysis/sweep_report.h"
#include "analysis/sweep_results.h"
#include "analysis/train_report.h"
#include "base/check.h"
#include "command.h"
#include "flags.h"
#include "io/atomic_write.h"
#include "terminal.h"

namespace gateskip::cli {
namespace {

namespace fs = std::filesystem;

struct ReportCommand {
  std::string run;
  std::vector<std::string> results;
  std::string out;
  bool markdown = false;
};

int ReportRun(const ReportCommand& flags) {
  const std::string out = flags.out.empty() ? (fs::path(flags.run) / "report.html").string() : flags.out;
  WriteTrainReport(flags.run, out);
  WriteStdout(Printable(out) + "\n");
  return 0;
}

// The tables are for a pipe, so they come alone: the page is written with them only if its place was named.
int ReportSweep(const ReportCommand& flags) {
  const SweepResults results = ReadSweepResults(flags.results);
  if (!flags.out.empty() || !flags.markdown) {
    const std::string out =
        flags.out.empty() ? fs::path(flags.results.front()).replace_extension(".html").string() : flags.out;
    const std::string html = RenderSweepPage(results);
    WriteFileAtomically(out, std::as_bytes(std::span(html)));
    if (!flags.markdown) WriteStdout(Printable(out) + "\n");
  }
  if (flags.markdown) WriteStdout(RenderSweepMarkdown(results));
  return 0;
}

int Run(const ReportCommand& flags) {
  if (flags.run.empty() == flags.results.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "[command line] --run, --results: expected the directory of a training run or the results of a sweep, found "
         "{}",
         flags.run.empty() ? "none" : "both");
  }
  if (flags.markdown && flags.results.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[command line] --markdown: expected it with --results, found --run");
  }
  return flags.results.empty() ? ReportRun(flags) : ReportSweep(flags);
}

}  // namespace

void AddReport(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<ReportCommand>();
  CLI::App* sub = app.add_subcommand("report", "Write the HTML report of a training run or of an evaluation sweep");
  sub->add_option("--run", flags->run, "Run directory of `train`, with log.jsonl")->type_name("DIR")->group("Input");
  AddTexts(*sub, "--results", &flags->results, "FILE",
           "Results of `eval --sweep`; may be repeated, and all of one model make one page")
      ->group("Input");
  sub->add_option("-o,--out", flags->out,
                  "Where the page goes; it replaces what is there [DIR/report.html, or the first FILE with .html]")
      ->type_name("FILE")
      ->group("Output");
  sub->add_flag("--markdown", flags->markdown, "With --results: print its tables; a page is written only with -o")
      ->group("Output");
  sub->footer(
      "`train` writes the same page at every evaluation and at its end.\n"
      "Examples:\n"
      "  gateskip report --run runs/a\n"
      "  gateskip report --results sweep.json -o sweep.html\n"
      "  gateskip report --results gates.json --results rivals.json --markdown");
  sub->callback([flags, &command] { command.run = [flags] { return Run(*flags); }; });
}

}  // namespace gateskip::cli
