// SPDX-License-Identifier: Apache-2.0
// `gateskip report`: the HTML page of a training run, made again from its log,
// or of evaluations, from their results.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <span>

#include "analysis/sweep_report.h"
#include "analysis/train_report.h"
#include "base/check.h"
#include "command.h"
#include "flags.h"
#include "io/atomic_write.h"
#include "io/hub_directory.h"
#include "io/json.h"
#include "terminal.h"

namespace gateskip::cli {
namespace {

constexpr size_t kMaxResultsBytes = size_t{256} << 20;

struct ReportCommand {
  std::string run;
  std::vector<std::string> results;
  bool markdown = false;
  std::string out;
};

int RunSweepReport(const ReportCommand& flags) {
  std::vector<SweepResults> parts;
  for (const std::string& path : flags.results) {
    parts.push_back(ReadSweepResults(ParseJson(ReadTextFile(path, kMaxResultsBytes), path), path));
  }
  const SweepResults results = MergeSweepResults(std::move(parts));
  if (flags.markdown) {
    WriteStdout(RenderSweepMarkdown(results));
    return 0;
  }
  const std::string beside = (std::filesystem::path(flags.results[0]).parent_path() / "report.html").string();
  const std::string out = flags.out.empty() ? beside : flags.out;
  const std::string page = RenderSweepReport(results);
  WriteFileAtomically(out, std::as_bytes(std::span<const char>(page)));
  WriteStdout(Printable(out) + "\n");
  return 0;
}

int Run(const ReportCommand& flags) {
  if (flags.run.empty() == flags.results.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "[command line] --run, --results: expected the directory of a training run, or results of evaluations, found "
         "{}",
         flags.run.empty() ? "none" : "both");
  }
  if (!flags.results.empty()) return RunSweepReport(flags);
  const std::string out = flags.out.empty() ? (std::filesystem::path(flags.run) / "report.html").string() : flags.out;
  WriteTrainReport(flags.run, out);
  WriteStdout(Printable(out) + "\n");
  return 0;
}

}  // namespace

void AddReport(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<ReportCommand>();
  CLI::App* sub = app.add_subcommand("report", "Write the HTML report of a training run, or of evaluations");
  sub->add_option("--run", flags->run, "Run directory of `train`, with log.jsonl")->type_name("DIR")->group("Input");
  AddTexts(*sub, "--results", &flags->results, "FILE", "results.json of `eval`; several make one page")->group("Input");
  sub->add_flag("--markdown", flags->markdown, "Of results: print tables instead of a page")->group("Output");
  sub->add_option("-o,--out", flags->out,
                  "Where the page goes; it replaces what is there [report.html beside the input]")
      ->type_name("FILE")
      ->group("Output");
  sub->footer(
      "`train` writes the same page at every evaluation and at its end, `eval` at its end.\n"
      "Examples:\n"
      "  gateskip report --run runs/a\n"
      "  gateskip report --results runs/eval/results.json --markdown");
  sub->callback([flags, &command] { command.run = [flags] { return Run(*flags); }; });
}

}  // namespace gateskip::cli
