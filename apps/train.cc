// SPDX-License-Identifier: Apache-2.0
// `gateskip train`: gates, skip paths, LoRA deltas, or the whole model. The flags are the rows of
// train/option_table.cc.
#include "train/train.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <memory>

#include "base/check.h"
#include "command.h"
#include "flags.h"
#include "interrupt.h"
#include "terminal.h"
#include "train/config_file.h"
#include "train/rank_environment.h"
#include "train_console.h"
#include "train_launch.h"
#include "train_module.h"

namespace gateskip::cli {
namespace {

constexpr const char* kOrigin = "command line";

// Flags as they were given; they are applied after the preset and the configuration file.
struct TrainCommand {
  std::vector<std::pair<std::string, std::vector<std::string>>> given;  // option name, words
  std::string preset;
  std::string config;
  bool print_config = false;
  int num_ranks = 1;
  bool json = false;
};

TrainOptions MakeOptions(const TrainCommand& flags) {
  TrainOptions options;
  const std::vector<TrainOption> table = OptionTable(options);
  if (!flags.preset.empty()) ApplyConfigText(PresetText(flags.preset), "preset " + flags.preset, table);
  if (!flags.config.empty()) ApplyConfigFile(flags.config, table);
  for (const auto& given : flags.given) {
    const auto option =
        std::find_if(table.begin(), table.end(), [&](const TrainOption& o) { return o.name == given.first; });
    SetOption(*option, given.second, kOrigin, "--" + given.first);
  }
  return options;
}

void RequirePaths(const TrainOptions& options) {
  RequireModel({.model = options.model_path, .adapter = {}});
  if (options.sources.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[command line] --data: expected at least one training text, found none");
  }
  if (options.run_directory.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[command line] --run: expected a directory for checkpoints, found none");
  }
}

int Run(const TrainCommand& flags) {
  TrainOptions options = MakeOptions(flags);
  if (flags.print_config) {
    WriteStdout(PrintConfig(OptionTable(options)));
    return 0;
  }
  RequirePaths(options);
  ValidateTrainOptions(options);
  if (flags.num_ranks > 1) {
    if (!IsRank())
      return LaunchRanks({.num_ranks = flags.num_ranks, .command = {}, .kill_after = options.rank_time_out});
    options.threads = ThreadsPerRank(options.threads, flags.num_ranks);
  }
  std::atomic<bool> cancelled{false};
  const InterruptFlag guard(cancelled);
  TrainConsole console(options, flags.json, cancelled);
  const TrainOutcome outcome = RunTrainModule(options, console);
  const bool talks = train::RankEnvironment::Read().rank == 0;
  if (outcome == TrainOutcome::kFinished) {
    if (talks && !options.adapter_directory.empty()) {
      fmt::print(stderr, "next: gateskip calibrate --adapter {}\n", Printable(options.adapter_directory));
    }
    return 0;
  }
  if (talks) {
    fmt::print(stderr, "stopped; a checkpoint is in {}, go on with --resume\n", Printable(options.run_directory));
  }
  // SIGTERM is how schedulers ask for a checkpoint: having written one is success.
  return InterruptSignal() == SIGTERM ? 0 : ExitCode(ErrorCode::kCancelled);
}

// The spelling of a flag: short forms and the environment variables other subcommands share.
std::string Spelling(const TrainOption& option) {
  if (option.name == "model") return "-m,--model";
  if (option.name == "threads") return "-t,--threads";
  if (option.name == "data") return "-f,--data";
  return "--" + option.name;
}

const char* Environment(const TrainOption& option) {
  if (option.name == "model") return "GATESKIP_MODEL";
  if (option.name == "adapter") return "GATESKIP_ADAPTER";
  if (option.name == "threads") return "GATESKIP_THREADS";
  return "";
}

std::vector<std::string> SplitAtCommas(const std::string& text) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (true) {
    const size_t comma = text.find(',', begin);
    parts.push_back(text.substr(begin, comma - begin));
    if (comma == std::string::npos) return parts;
    begin = comma + 1;
  }
}

// Checks the words at once, so that a bad value is refused before any file is opened, and keeps them.
void Give(const std::shared_ptr<TrainCommand>& flags, const TrainOption& option,
          const std::vector<std::string>& words) {
  SetOption(option, words, kOrigin, "--" + option.name);
  flags->given.emplace_back(option.name, words);
}

// One flag per row of the option table. `defaults` holds the values that the help shows and takes checked ones.
void AddOptions(CLI::App& app, const std::shared_ptr<TrainCommand>& flags,
                const std::shared_ptr<TrainOptions>& defaults) {
  for (const TrainOption& option : OptionTable(*defaults)) {
    CLI::Option* flag = nullptr;
    if (std::holds_alternative<bool*>(option.field)) {
      flag = app.add_flag_function(
          fmt::format("--{0},!--no-{0}", option.name),
          [flags, defaults, option](int64_t count) { Give(flags, option, {count > 0 ? "true" : "false"}); },
          option.help + (option.words()[0] == "true" ? " [default]" : ""));
    } else if (option.is_repeated()) {
      flag = app.add_option_function<std::vector<std::string>>(
          Spelling(option),
          [flags, defaults, option](const std::vector<std::string>& words) { Give(flags, option, words); },
          option.help);
      flag->allow_extra_args(false);
    } else {
      flag = app.add_option_function<std::string>(
          Spelling(option),
          [flags, defaults, option](const std::string& text) {
            Give(flags, option, option.is_list() ? SplitAtCommas(text) : std::vector<std::string>{text});
          },
          option.help);
      flag->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
      const std::string initial = fmt::format("{}", fmt::join(option.words(), ","));
      if (!initial.empty()) flag->default_str(initial);
    }
    if (!std::holds_alternative<bool*>(option.field)) flag->type_name(option.type_name());
    if (*Environment(option) != '\0') flag->envname(Environment(option));
    flag->group(option.section);
  }
}

}  // namespace

void AddTrain(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<TrainCommand>();
  const auto defaults = std::make_shared<TrainOptions>();
  CLI::App* sub = app.add_subcommand("train", "Train gates, skip paths, LoRA deltas or the whole model");
  AddChoice(*sub, "--preset", &flags->preset, PresetNames(), "Built-in configuration to start from")
      ->group("Configuration");
  sub->add_option("--config", flags->config, "TOML file, applied after the preset and before the flags")
      ->type_name("FILE")
      ->group("Configuration");
  sub->add_flag("--print-config", flags->print_config, "Print the resulting configuration as TOML and exit")
      ->group("Configuration");
  AddOptions(*sub, flags, defaults);
  AddInt(*sub, "--nproc", &flags->num_ranks, 1, 256,
         "Processes of this host that train together, the threads divided among them")
      ->group("Model");
  sub->add_flag("--json", flags->json, "Print one JSON object per step on stdout")->group("Output");
  sub->footer(
      "SIGINT and SIGTERM end the run with a checkpoint; --resume continues as if it had not stopped.\n"
      "Example:\n"
      "  gateskip train -m model.gguf -f text.txt@1@0-0.9 --heldout text.txt@1@0.9-1 --run runs/a --adapter "
      "adapters/a");
  sub->callback([flags, &command] { command.run = [flags] { return Run(*flags); }; });
}

}  // namespace gateskip::cli
