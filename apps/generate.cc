// SPDX-License-Identifier: Apache-2.0
// `gateskip generate`: one prompt, one continuation, streamed.
#include <fmt/format.h>

#include <chrono>
#include <memory>

#include "base/check.h"
#include "command.h"
#include "flags.h"
#include "interrupt.h"
#include "prompt.h"
#include "report.h"
#include "runtime/sampler.h"

namespace gateskip::cli {
namespace {

struct GenerateCommand {
  EngineFlags engine;
  BudgetFlags budget;
  GenerationFlags generation;
  TextSource prompt;
  bool chat = false;
  bool no_chat = false;
  bool json = false;
  bool verbose = false;
};

int Run(GenerateCommand& flags) {
  GenerateOptions options = flags.generation.options;
  ValidateSamplingOptions(options.sampling);
  options.budget = MakeBudget(flags.budget, flags.engine);
  const bool has_system = !flags.generation.system.empty();
  if (has_system && flags.no_chat) {
    Fail(ErrorCode::kInvalidArgument,
         "[command line] --system: expected the chat template, found --no-chat; drop one of them");
  }
  RequireModel(flags.engine.paths);
  options.speculation = MakeSpeculation(flags.generation.speculation, &flags.engine);
  const std::string text = ReadText(flags.prompt, kMaxPromptBytes);

  InstallInterruptHandler();
  const auto started = std::chrono::steady_clock::now();
  const std::unique_ptr<Engine> engine = LoadEngine(flags.engine);
  if (flags.verbose) {
    const ModelInfo& info = engine->info();
    fmt::print(stderr, "{}: {} layers of {}, {} weights, {} threads on {}, adapter: {}, loaded in {:.2f} s\n",
               Printable(info.name), info.num_layers, info.hidden_size, HumanBytes(info.weight_bytes), info.threads,
               info.cpu_target, info.has_adapter ? "yes" : "no",
               std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
  }
  std::vector<int32_t> ids;
  if (flags.chat || has_system) {
    std::vector<ChatTurn> turns;
    if (has_system) turns.push_back({"system", flags.generation.system});
    turns.push_back({"user", text});
    ids = EncodeChat(*engine, turns);
  } else {
    ids = EncodePlain(*engine, text);
  }

  const GenerateResult result = GenerateStreaming(*engine, ids, options, !flags.json);
  if (flags.json) {
    Json body = GenerateJson(result);
    body["model"] = engine->info().name;
    PrintJson(body);
  } else {
    WriteStdout("\n");
    fmt::print(stderr, "{}{}{}", Paint(stderr, Style::kDim), TimingText(result), Paint(stderr, Style::kReset));
    if (flags.verbose) fmt::print(stderr, "finished: {}\n", FinishReasonName(result.finish_reason));
  }
  return InterruptSignal() != 0 ? ExitCode(ErrorCode::kCancelled) : 0;
}

}  // namespace

void AddGenerate(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<GenerateCommand>();
  CLI::App* sub = app.add_subcommand("generate", "Continue a prompt; the text goes to stdout, the timings to stderr");
  AddEngineFlags(*sub, &flags->engine);
  AddContextLength(*sub, &flags->engine);
  AddBudgetFlags(*sub, &flags->budget);
  AddPromptFlags(*sub, &flags->prompt, "The prompt; without -p and -f it is read from stdin");
  CLI::Option* chat = sub->add_flag("--chat", flags->chat, "Put the prompt through the model's chat template");
  chat->group("Input");
  sub->add_flag("--no-chat", flags->no_chat, "Take the prompt as it is (the default without --system)")
      ->excludes(chat)
      ->group("Input");
  AddGenerationFlags(*sub, &flags->generation);
  AddJson(*sub, &flags->json);
  sub->add_flag("--verbose", flags->verbose, "Say what was loaded and why the text ended")->group("Output");
  sub->footer(
      "Examples:\n"
      "  gateskip generate -m model.gguf -p 'The sea is' -n 64\n"
      "  gateskip generate -m model.gguf --adapter DIR --budget 0.25 --chat -p 'Why is the sky blue?'\n"
      "  gateskip generate -m model.gguf -f prompt.txt --temp 0.7 --top-p 0.9 --seed 7 --json");
  sub->callback([flags, &command] { command.run = [flags] { return Run(*flags); }; });
}

}  // namespace gateskip::cli
