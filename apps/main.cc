// SPDX-License-Identifier: Apache-2.0
// The `gateskip` binary: reads the command line, runs one subcommand, maps every Error to a message and an exit
// status (docs/errors.md).
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/nearest_name.h"
#include "command.h"
#include "gateskip/engine.h"
#include "help_format.h"
#include "terminal.h"

namespace gateskip::cli {
namespace {

constexpr const char* kFooter = R"(Examples:
  gateskip generate -m model.gguf -p "The sea is" -n 64
  gateskip generate -m model.gguf --adapter DIR --budget 0.25 --chat -p "Why is the sky blue?"
  gateskip chat -m model.gguf
  gateskip perplexity -m model.gguf --adapter DIR --budget 0,0.15,0.25 -f text.txt
  gateskip bench -m model.gguf --adapter DIR --budgets 0,0.15,0.25,0.5

Exit status: 0 success, 1 internal error, 2 usage, 3 not found, 4 corrupt data, 5 unsupported, 6 mismatch,
7 limit exceeded, 8 input/output, 130 interrupted.)";

// A misspelt first word is worth a better message than the parser's.
void RefuseUnknownSubcommand(const CLI::App& app, const std::string& word) {
  if (word.empty() || word[0] == '-') return;
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands(nullptr)) names.push_back(sub->get_name());
  if (std::find(names.begin(), names.end(), word) != names.end()) return;
  const std::string nearest = NearestName(names, word);
  const std::string hint =
      nearest.empty() ? std::string("see 'gateskip --help'") : fmt::format("did you mean 'gateskip {}'?", nearest);
  Fail(ErrorCode::kInvalidArgument, "[command line] subcommand: expected one of {}, found '{}'; {}",
       fmt::join(names, ", "), Printable(word.substr(0, 64)), hint);
}

// The parser's own complaints, in the project's words.
[[noreturn]] void FailParse(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  const std::string name = chosen.empty() ? "gateskip" : "gateskip " + chosen.front()->get_name();
  std::string what = error.what();
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    const std::vector<std::string> extras = app.remaining(true);
    Fail(ErrorCode::kInvalidArgument,
         "[command line] {}: expected an option that '{}' knows, found '{}'; see '{} --help'",
         extras.empty() ? "arguments" : Printable(extras.front().substr(0, 64)), name,
         Printable(fmt::format("{}", fmt::join(extras, " ")).substr(0, 128)), name);
  }
  std::replace(what.begin(), what.end(), '\n', ' ');
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    Fail(ErrorCode::kInvalidArgument, "[command line] {}: expected a value, found none; see '{} --help'",
         Printable(what.substr(0, what.find(':'))), name);
  }
  constexpr std::string_view kExcludes = " excludes ";
  if (const size_t at = what.find(kExcludes); at != std::string::npos) {
    Fail(ErrorCode::kInvalidArgument, "[command line] {}: expected it without {}, found both; see '{} --help'",
         what.substr(0, at), what.substr(at + kExcludes.size()), name);
  }
  Fail(ErrorCode::kInvalidArgument, "[command line] {}: expected valid options, found '{}'; see '{} --help'", name,
       Printable(what), name);
}

int ReportError(ErrorCode code, const std::string& message, bool json) {
  fmt::print(stderr, "{}gateskip: error:{} {}\n", Paint(stderr, Style::kError), Paint(stderr, Style::kReset),
             Printable(message));
  if (json && code != ErrorCode::kCancelled) {
    const nlohmann::ordered_json body = {{"error", {{"code", ErrorCodeName(code)}, {"message", message}}}};
    fmt::print("{}\n", body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  return ExitCode(code);
}

int Main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a closed reader shows as a failed write, which ends the run quietly
  std::signal(SIGXFSZ, SIG_IGN);  // a file that reaches its limit is a failed write, too
  CLI::App app(
      "Run and train language models whose tokens skip attention and MLP branches.\n"
      "The budget is the share of the ungated model's layer cost to save, net of what the gates cost.",
      "gateskip");
  app.footer(kFooter);
  app.set_version_flag("--version", [] { return "gateskip " + std::string(Version()); });
  const auto format = std::make_shared<HelpFormat>();
  format->column_width(34);
  app.formatter(format);
  app.failure_message(CLI::FailureMessage::simple);
  Command command;
  for (int i = 1; i < argc; ++i) command.json = command.json || std::string_view(argv[i]) == "--json";
  try {
    AddGenerate(app, command);
    AddChat(app, command);
    AddPerplexity(app, command);
    AddTokenize(app, command);
    AddInfo(app, command);
    AddBench(app, command);
    AddData(app, command);
    AddTrain(app, command);
    AddCalibrate(app, command);
    AddEval(app, command);
    AddAnalyze(app, command);
    AddReport(app, command);
    AddExport(app, command);
    AddQuantize(app, command);
    AddPrune(app, command);
    AddServe(app, command);
    if (argc < 2) {
      fmt::print(stderr, "{}", app.help());
      return ExitCode(ErrorCode::kInvalidArgument);
    }
    RefuseUnknownSubcommand(app, argv[1]);
    try {
      app.parse(argc, argv);
    } catch (const CLI::Success& request) {  // --help, --version
      app.exit(request);
      return FinishStdout();
    } catch (const CLI::ParseError& error) {
      FailParse(app, error);
    }
    const int status = command.run();
    const int flushed = FinishStdout();
    return status != 0 ? status : flushed;
  } catch (const Error& error) {
    return ReportError(error.code(), error.what(), command.json);
  } catch (const std::bad_alloc&) {
    return ReportError(ErrorCode::kLimitExceeded,
                       "[memory] allocation: expected enough free memory, found too little; try a smaller -c", false);
  } catch (const std::exception& error) {
    return ReportError(
        ErrorCode::kInternal,
        fmt::format("[gateskip] exception: expected none, found {}; please report this as a bug", error.what()),
        command.json);
  }
}

}  // namespace
}  // namespace gateskip::cli

int main(int argc, char** argv) { return gateskip::cli::Main(argc, argv); }
