// SPDX-License-Identifier: Apache-2.0
// `gateskip prune`: a model without its least important layers, heads and neurons (docs/compose.md).
#include <fmt/format.h>

#include <atomic>
#include <cmath>
#include <memory>

#include "base/check.h"
#include "command.h"
#include "eval/prune_model.h"
#include "flags.h"
#include "interrupt.h"
#include "model/quantize_plan.h"
#include "output_path.h"
#include "report.h"
#include "terminal.h"

namespace gateskip::cli {
namespace {

constexpr const char* kSourceTypes = "source";

struct PruneCommand {
  PathFlags paths;
  PruneModelOptions options;
  std::string by = "block-influence";
  std::string type = kSourceTypes;
  bool force = false;
  bool json = false;
};

// "4", "25%" or "list:0,3,7:9".
PruneAmount ParseAmount(const std::string& option, const std::string& text) {
  constexpr std::string_view kList = "list:";
  if (text.starts_with(kList)) return {.list = text.substr(kList.size())};
  if (text.ends_with('%')) {
    return {.share = ParseDouble(option, text.substr(0, text.size() - 1), 0.0, 100.0) / 100.0};
  }
  const double count = ParseDouble(option, text, 0.0, 1 << 20);
  if (count != std::floor(count)) {
    Fail(ErrorCode::kInvalidArgument,
         "[command line] {}: expected a number of parts, a share or a list, found '{}'; write 4, 25% or list:0,3,7:9",
         option, text);
  }
  return {.count = static_cast<int>(count)};
}

void AddAmount(CLI::App& app, const std::string& option, PruneAmount* amount, const std::string& help) {
  app.add_option_function<std::string>(
         option, [=](const std::string& text) { *amount = ParseAmount(option, text); }, help)
      ->type_name("N|N%|list:LIST")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
      ->group("What goes");
}

Json ReportJson(const PruneCommand& flags, const PruneReport& report) {
  const PruneSelection& kept = report.kept;
  Json body = {{"out", flags.options.out},
               {"source_bytes", report.source_bytes},
               {"bytes", report.bytes},
               {"kept", {{"layers", kept.layers}, {"heads", Json::array()}, {"neurons", Json::array()}}}};
  for (const size_t l : kept.layers) {
    body["kept"]["heads"].push_back(kept.heads[l]);
    body["kept"]["neurons"].push_back(kept.neurons[l]);
  }
  if (!report.layer_scores.empty()) {
    body["layer_measure"] = flags.by;
    body["layer_scores"] = report.layer_scores;
  }
  if (report.difference) body["comparison"] = DifferenceJson(*report.difference);
  return body;
}

void PrintReport(const PruneCommand& flags, const PruneReport& report) {
  const size_t any = report.kept.layers.front();
  fmt::print(stderr, "{} -> {} in {}; left: {} of {} layers, {} heads, {} KV heads and {} neurons in each\n",
             HumanBytes(report.source_bytes), HumanBytes(report.bytes), Printable(flags.options.out),
             report.kept.layers.size(), report.kept.heads.size(), report.kept.heads[any].size(),
             report.kept.kv_heads[any].size(), report.kept.neurons[any].size());
  if (report.difference) WriteStdout(DifferenceTable(*report.difference));
}

int Run(const PruneCommand& flags) {
  RequireModel(flags.paths);
  PruneModelOptions options = flags.options;
  options.model_path = flags.paths.model;
  options.layer_measure = flags.by == "leave-one-out" ? LayerMeasure::kLeaveOneOut : LayerMeasure::kBlockInfluence;
  options.dtype = FindDType(flags.type);  // none: kSourceTypes
  if (options.out.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[command line] --out: expected where to write, -o FILE, found nothing");
  }
  RequireReplaceable(options.out, OutputKind::kFile, flags.force);
  InstallInterruptHandler();
  std::atomic<bool> interrupted = false;  // seen between pieces, so that no half file is left
  const InterruptFlag guard(interrupted);
  StageBar bar;
  const PruneReport report = PruneModel(options, [&](const std::string& stage, size_t done, size_t total) {
    ThrowIfInterrupted();
    bar.Update(stage, done, total);
  });
  bar.Clear();
  if (flags.json) {
    PrintJson(ReportJson(flags, report));
  } else {
    PrintReport(flags, report);
  }
  return 0;
}

}  // namespace

void AddPrune(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<PruneCommand>();
  PruneModelOptions& options = flags->options;
  CLI::App* sub = app.add_subcommand("prune", "Write a model without its least important layers, heads and neurons");
  AddModelPath(*sub, &flags->paths);
  AddThreads(*sub, &options.threads);
  AddAmount(*sub, "--layers", &options.layers, "Layers that go: a number, a share, or these (list:0,3,7:9)");
  AddChoice(*sub, "--by", &flags->by, {"block-influence", "leave-one-out"},
            "What tells which layers: how little they change their input, or how little the text's NLL rises without "
            "them")
      ->group("What goes");
  AddAmount(*sub, "--kv-groups", &options.kv_groups, "KV heads that go in every layer, each with its query heads");
  AddAmount(*sub, "--heads", &options.heads, "Query heads that go in every KV group of every layer");
  AddAmount(*sub, "--neurons", &options.neurons, "MLP neurons that go in every layer; a share leaves a multiple of 32");
  AddTexts(*sub, "-f,--file", &options.texts, "FILE",
           "Text to measure on, read as `train` reads it; may be repeated, and each gives its share")
      ->group("Texts");
  AddInt64(*sub, "--tokens", &options.tokens, 64, int64_t{1} << 32, "Tokens of it at most")->group("Texts");
  AddTexts(*sub, "--compare-on", &options.comparison_texts, "FILE",
           "Perplexity before and after, and KL divergence, in f32, on this text; may be repeated")
      ->group("Texts");
  AddInt64(*sub, "--comparison-tokens", &options.comparison_tokens, 64, int64_t{1} << 32, "Tokens of it at most")
      ->group("Texts");
  AddInt(*sub, "-c,--context", &options.window, 16, 8192, "Tokens per window")->group("Texts");
  sub->add_option("-o,--out", options.out, "The GGUF to write")->type_name("FILE")->group("Output");
  AddChoice(*sub, "--type", &flags->type, {kSourceTypes, "f32", "f16", "bf16", "q8_0"},
            "Of the matrices; source: what each is in the model, but for Q8_0 where columns went from blocks")
      ->group("Output");
  sub->add_flag("--no-gates", options.without_gates, "Leave gates inside the model out")->group("Output");
  sub->add_flag("--force", flags->force, "Replace what is there")->group("Output");
  AddJson(*sub, &flags->json);
  sub->footer(
      "Examples:\n"
      "  gateskip prune -m model.gguf -o smaller.gguf --layers 4 -f text.txt --compare-on other.txt\n"
      "  gateskip prune -m model.gguf -o smaller.gguf --neurons 25% --heads 1 -f text.txt\n"
      "  gateskip train -m smaller.gguf ...    heals it");
  sub->callback([flags, &command] { command.run = [flags] { return Run(*flags); }; });
}

}  // namespace gateskip::cli
