// SPDX-License-Identifier: Apache-2.0
// `gateskip perplexity`: quality of a text at one or several budgets, net saving beside it.
#include <fmt/format.h>

#include <memory>

#include "base/check.h"
#include "command.h"
#include "flags.h"
#include "interrupt.h"
#include "report.h"
#include "terminal.h"
#include "window_score.h"

namespace gateskip::cli {
namespace {

struct PerplexityCommand {
  EngineFlags engine;
  PolicyFlags policy;
  std::vector<double> budgets = {0};
  TextSource text;
  int window = 512;
  int64_t max_tokens = 0;
  bool json = false;
};

Json ScoreJson(const TextScore& score) {
  return {{"perplexity", score.perplexity},
          {"perplexity_standard_error", score.perplexity_error},
          {"nll", score.nll},
          {"nll_standard_error", score.nll_error},
          {"bits_per_byte", score.bits_per_byte},
          {"tokens", score.tokens},
          {"bytes", score.bytes},
          {"windows", score.windows},
          {"tokens_per_second", PerSecond(static_cast<double>(score.tokens), score.seconds)},
          {"saving", SavingJson(score.saving)}};
}

std::vector<std::string> ScoreRow(const TextScore& s) {
  return {fmt::format("{:.1f} %", s.saving.requested * 100),
          fmt::format("{:.4f} +- {:.4f}", s.perplexity, s.perplexity_error),
          fmt::format("{:.5f} +- {:.5f}", s.nll, s.nll_error),
          fmt::format("{:.4f}", s.bits_per_byte),
          fmt::format("{:.1f} %", s.saving.nominal * 100),
          fmt::format("{:.1f} %", s.saving.net * 100),
          fmt::format("{}", s.tokens),
          fmt::format("{:.0f}", PerSecond(static_cast<double>(s.tokens), s.seconds))};
}

int Run(const PerplexityCommand& flags) {
  std::vector<BudgetOptions> budgets;
  for (const double b : flags.budgets) budgets.push_back(MakeBudget(b, b, flags.policy, flags.engine));
  RequireModel(flags.engine.paths);
  const std::string text = ReadText(flags.text, kMaxTextBytes);

  InstallInterruptHandler();
  EngineFlags engine_flags = flags.engine;
  engine_flags.context_length = flags.window;
  const std::unique_ptr<Engine> engine = LoadEngine(engine_flags);
  std::vector<TextScore> scores;
  for (const BudgetOptions& budget : budgets) {
    ProgressBar bar(fmt::format("budget {}", budget.prefill));
    scores.push_back(ScoreText(*engine, text, budget, flags.window, static_cast<size_t>(flags.max_tokens),
                               [&](size_t done, size_t total) { bar.Update(done, total, "tok"); }));
    scores.back().saving.requested = budget.prefill;
  }

  if (flags.json) {
    Json body = {{"model", engine->info().name},
                 {"context", flags.window},
                 {"policy", flags.policy.policy},
                 {"results", Json::array()}};
    for (const TextScore& score : scores) body["results"].push_back(ScoreJson(score));
    PrintJson(body);
    return 0;
  }
  std::vector<std::vector<std::string>> rows = {
      {"budget", "perplexity", "NLL", "bits/byte", "nominal", "net saving", "tokens", "tok/s"}};
  for (const TextScore& score : scores) rows.push_back(ScoreRow(score));
  WriteStdout(FormatTable(rows, /*markdown=*/false));
  return 0;
}

}  // namespace

void AddPerplexity(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<PerplexityCommand>();
  CLI::App* sub = app.add_subcommand("perplexity", "Perplexity of a text at one or more budgets");
  AddEngineFlags(*sub, &flags->engine);
  AddBudgetList(*sub, &flags->budgets);
  AddPolicyFlags(*sub, &flags->policy);
  AddPromptFlags(*sub, &flags->text, "The text; without -p and -f it is read from stdin");
  AddInt(*sub, "-c,--context", &flags->window, 2, 1 << 24, "Tokens per window, BOS included; windows do not overlap")
      ->group("Input");
  AddInt64(*sub, "--max-tokens", &flags->max_tokens, 0, int64_t{1} << 40, "Use only the first N tokens; 0: all")
      ->group("Input");
  AddJson(*sub, &flags->json);
  sub->footer(
      "Examples:\n"
      "  gateskip perplexity -m model.gguf -f text.txt\n"
      "  gateskip perplexity -m model.gguf --adapter DIR --budget 0,0.15,0.25,0.5 -f text.txt --json");
  sub->callback([flags, &command] { command.run = [flags] { return Run(*flags); }; });
}

}  // namespace gateskip::cli
