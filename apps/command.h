// SPDX-License-Identifier: Apache-2.0
// A subcommand declares its options on the parser and leaves behind what to run. Nothing runs, and no model is
// loaded, before the whole command line has been read and validated.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace gateskip::cli {

struct Command {
  std::function<int()> run;  // returns the exit status; throws Error
  bool json = false;         // errors are also printed as a JSON object on stdout
};

// Each adds one subcommand to `app`, which fills `command` when it is the one that was named.
void AddGenerate(CLI::App& app, Command& command);
void AddChat(CLI::App& app, Command& command);
void AddPerplexity(CLI::App& app, Command& command);
void AddTokenize(CLI::App& app, Command& command);
void AddInfo(CLI::App& app, Command& command);
void AddBench(CLI::App& app, Command& command);
void AddData(CLI::App& app, Command& command);
void AddTrain(CLI::App& app, Command& command);
void AddCalibrate(CLI::App& app, Command& command);
void AddEval(CLI::App& app, Command& command);
void AddAnalyze(CLI::App& app, Command& command);
void AddReport(CLI::App& app, Command& command);
void AddExport(CLI::App& app, Command& command);
void AddQuantize(CLI::App& app, Command& command);
void AddPrune(CLI::App& app, Command& command);
void AddServe(CLI::App& app, Command& command);

}  // namespace gateskip::cli
