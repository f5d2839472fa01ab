// SPDX-License-Identifier: Apache-2.0
// `gateskip quantize`: a model in fewer bits (docs/compose.md).
#include <fmt/format.h>

#include <atomic>
#include <map>
#include <memory>

#include "base/check.h"
#include "command.h"
#include "eval/quantize_model.h"
#include "flags.h"
#include "interrupt.h"
#include "output_path.h"
#include "report.h"
#include "terminal.h"

namespace gateskip::cli {
namespace {

struct QuantizeCommand {
  PathFlags paths;
  QuantizeOptions options;
  std::string type, head_type, embedding_type, gate_type = "f32", rounding = "search";
  std::vector<std::string> tensor_types;
  bool no_gates = false;
  bool force = false;
  bool json = false;
};

[[noreturn]] void FailOption(const std::string& option, const std::string& expected, const std::string& found) {
  Fail(ErrorCode::kInvalidArgument, "[command line] {}: expected {}, found {}", option, expected, found);
}

std::vector<std::string> FormatNames() {
  std::vector<std::string> names;
  for (const QuantizeType& type : QuantizeTypes()) {
    if (!type.mixed) names.emplace_back(type.name);
  }
  return names;
}

DType FormatNamed(const std::string& option, const std::string& name) {
  const std::optional<DType> dtype = FindDType(name);
  if (!dtype) FailOption(option, fmt::format("one of {}", fmt::join(FormatNames(), ", ")), fmt::format("'{}'", name));
  return *dtype;
}

QuantizeChoice Choice(const QuantizeCommand& flags) {
  if (flags.type.empty()) FailOption("--type", "the format of the matrices", "nothing");
  QuantizeChoice choice;
  choice.type = &FindQuantizeType(flags.type);
  if (!flags.head_type.empty()) choice.head = FormatNamed("--head-type", flags.head_type);
  if (!flags.embedding_type.empty()) choice.embedding = FormatNamed("--embedding-type", flags.embedding_type);
  for (const std::string& rule : flags.tensor_types) {
    const size_t equals = rule.rfind('=');
    if (equals == std::string::npos || equals == 0) {
      FailOption("--tensor-type", "PATTERN=TYPE, like '*ffn_down*=q6_k'", fmt::format("'{}'", rule));
    }
    choice.tensor_types.emplace_back(rule.substr(0, equals), FormatNamed("--tensor-type", rule.substr(equals + 1)));
  }
  return choice;
}

QuantizeOptions CheckedOptions(const QuantizeCommand& flags) {
  RequireModel(flags.paths);
  QuantizeOptions options = flags.options;
  options.model_path = flags.paths.model;
  options.adapter_path = flags.paths.adapter;
  options.choice = Choice(flags);
  options.search = flags.rounding == "search";
  options.gate_type = FormatNamed("--gate-type", flags.gate_type);
  options.with_gates = !flags.no_gates;
  if (options.out.empty()) FailOption("--out", "where to write, -o FILE", "nothing");
  if (options.adapter_path.empty() != options.adapter_out.empty()) {
    FailOption("--adapter-out", "it together with --adapter, the adapter to calibrate for the new model",
               options.adapter_out.empty() ? "--adapter alone" : "no --adapter");
  }
  if (!options.search && !options.importance_texts.empty()) {
    FailOption("--importance-from", "it with --rounding search, which weighs errors", "--rounding plain");
  }
  RequireReplaceable(options.out, OutputKind::kFile, flags.force);
  if (!options.adapter_out.empty()) RequireReplaceable(options.adapter_out, OutputKind::kDirectory, flags.force);
  return options;
}

Json ReportJson(const QuantizeCommand& flags, const QuantizeReport& report) {
  Json body = {{"out", flags.options.out},
               {"type", flags.type},
               {"rounding", flags.rounding},
               {"importance_tokens", report.importance_tokens},
               {"source_bytes", report.source_bytes},
               {"bytes", report.bytes},
               {"bits_per_weight", report.bits_per_weight},
               {"matrices", Json::array()}};
  for (const QuantizeReport::Matrix& m : report.matrices) {
    Json row = {{"name", m.name}, {"from", GetDTypeInfo(m.from).name}, {"to", GetDTypeInfo(m.to).name}};
    if (m.wanted) row["instead_of"] = GetDTypeInfo(*m.wanted).name;
    body["matrices"].push_back(std::move(row));
  }
  if (report.difference) body["comparison"] = DifferenceJson(*report.difference);
  if (!report.calibrated.empty()) body["budgets"] = CalibratedJson(report.calibrated);
  if (!flags.options.adapter_out.empty()) body["adapter_out"] = flags.options.adapter_out;
  return body;
}

void PrintReport(const QuantizeCommand& flags, const QuantizeReport& report) {
  std::map<std::string, size_t> formats;
  std::map<std::string, size_t> stand_ins;
  for (const QuantizeReport::Matrix& m : report.matrices) {
    ++formats[std::string(GetDTypeInfo(m.to).name)];
    if (m.wanted) ++stand_ins[fmt::format("{} instead of {}", GetDTypeInfo(m.to).name, GetDTypeInfo(*m.wanted).name)];
  }
  std::vector<std::string> counts;
  counts.reserve(formats.size());
  for (const auto& [name, count] : formats) counts.push_back(fmt::format("{} {}", count, name));
  fmt::print(stderr, "{} -> {} in {}, {:.2f} bits per weight; matrices: {}\n", HumanBytes(report.source_bytes),
             HumanBytes(report.bytes), Printable(flags.options.out), report.bits_per_weight, fmt::join(counts, ", "));
  for (const auto& [what, count] : stand_ins) {
    fmt::print(stderr, "{} matrices are {}: their rows are no whole blocks of it\n", count, what);
  }
  if (report.difference) WriteStdout(DifferenceTable(*report.difference));
  if (!report.calibrated.empty()) {
    fmt::print(
        stderr, "gates calibrated for {} budgets up to {:.0f} %{}\n", report.calibrated.size(),
        report.calibrated.back().requested * 100,
        flags.options.adapter_out.empty() ? ", inside the file" : ", in " + Printable(flags.options.adapter_out));
  }
}

int Run(const QuantizeCommand& flags) {
  const QuantizeOptions options = CheckedOptions(flags);
  InstallInterruptHandler();
  std::atomic<bool> interrupted = false;  // seen between pieces, so that no half file is left
  const InterruptFlag guard(interrupted);
  StageBar bar;
  const QuantizeReport report = QuantizeModel(options, [&](const std::string& stage, size_t done, size_t total) {
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

void AddQuantize(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<QuantizeCommand>();
  QuantizeOptions& options = flags->options;
  CLI::App* sub = app.add_subcommand("quantize", "Write a model in fewer bits per weight");
  AddModelPath(*sub, &flags->paths);
  AddAdapterPath(*sub, &flags->paths, "Adapter to calibrate for the new model; gates inside the model go along anyway");
  AddThreads(*sub, &options.threads);
  sub->add_option("-o,--out", options.out, "The GGUF to write")->type_name("FILE")->group("Output");
  sub->add_option("--adapter-out", options.adapter_out, "Where the adapter for the new model goes")
      ->type_name("DIR")
      ->group("Output");
  std::vector<std::string> types;
  for (const QuantizeType& type : QuantizeTypes()) types.emplace_back(type.name);
  AddChoice(
      *sub, "--type", &flags->type, types,
      "Of the layers' matrices; q4_k_m and q5_k_m give some of them Q6_K. The head gets Q6_K where the layers get "
      "fewer bits; rows that are no whole blocks of a format get one like it")
      ->group("Formats");
  AddChoice(*sub, "--head-type", &flags->head_type, FormatNames(), "Of the output head, tied embeddings included")
      ->group("Formats");
  AddChoice(*sub, "--embedding-type", &flags->embedding_type, FormatNames(),
            "Of embeddings that are not tied to the head")
      ->group("Formats");
  AddTexts(*sub, "--tensor-type", &flags->tensor_types, "PATTERN=TYPE",
           "Of matrices whose name matches, '*' and '?' being wild; may be repeated, the last that matches counts")
      ->group("Formats");
  AddChoice(*sub, "--gate-type", &flags->gate_type, {"f32", "f16", "q8_0"}, "Of gates inside the file")
      ->group("Formats");
  AddChoice(*sub, "--rounding", &flags->rounding, {"search", "plain"},
            "Scales that leave the least weighted error, or those of the extremes")
      ->group("Formats");
  sub->add_flag("--allow-requantize", options.allow_requantize, "Round again what is in blocks already")
      ->group("Formats");
  AddTexts(*sub, "--importance-from", &options.importance_texts, "FILE",
           "Weigh errors by the squares of the activations on this text, read as `train` reads it; may be repeated")
      ->group("Texts");
  AddInt64(*sub, "--importance-tokens", &options.importance_tokens, 64, int64_t{1} << 32, "Tokens of it at most")
      ->group("Texts");
  AddTexts(*sub, "--calibrate-from", &options.calibration_texts, "FILE",
           "Find the gates' thresholds for the new model on this text; may be repeated")
      ->group("Texts");
  AddInt64(*sub, "--calibration-tokens", &options.calibration_tokens, 64, int64_t{1} << 32, "Tokens of it at most")
      ->group("Texts");
  AddTexts(*sub, "--compare-on", &options.comparison_texts, "FILE",
           "Perplexity before and after, and KL divergence, in f32, on this text; may be repeated")
      ->group("Texts");
  AddInt64(*sub, "--comparison-tokens", &options.comparison_tokens, 64, int64_t{1} << 32, "Tokens of it at most")
      ->group("Texts");
  AddInt(*sub, "-c,--context", &options.window, 16, 8192, "Tokens per window")->group("Texts");
  sub->add_flag("--no-gates", flags->no_gates, "Leave gates inside the model out")->group("Output");
  sub->add_flag("--force", flags->force, "Replace what is there")->group("Output");
  AddJson(*sub, &flags->json);
  sub->footer(
      "Examples:\n"
      "  gateskip quantize -m model-f16.gguf -o model-q4_k.gguf --type q4_k_m --importance-from text.txt\n"
      "  gateskip quantize -m model-f16.gguf -o model-q4_0.gguf --type q4_0 --head-type q4_1 --compare-on text.txt\n"
      "  gateskip quantize -m model-f16.gguf --adapter DIR -o q4.gguf --adapter-out DIR-q4 --type q4_1 "
      "--calibrate-from text.txt");
  sub->callback([flags, &command] { command.run = [flags] { return Run(*flags); }; });
}

}  // namespace gateskip::cli
