// SPDX-License-Identifier: Apache-2.0
// `gateskip export`: what was trained, in formats that others read (docs/export.md).
#include <fmt/format.h>

#include <atomic>
#include <memory>
#include <optional>

#include "base/check.h"
#include "command.h"
#include "flags.h"
#include "interrupt.h"
#include "io/embedded_adapter.h"
#include "model/adapter_weights.h"
#include "model/merge.h"
#include "model/model_writer.h"
#include "model/peft.h"
#include "model/quantize_plan.h"
#include "output_path.h"
#include "report.h"
#include "terminal.h"

namespace gateskip::cli {
namespace {

constexpr const char* kSourceTypes = "source";

struct ExportCommand {
  PathFlags paths;
  std::string out;
  std::string format = "gguf";
  std::string type = kSourceTypes;
  std::string base_name;
  bool no_gates = false;
  bool force = false;
  bool json = false;
};

[[noreturn]] void FailOption(const std::string& option, const std::string& expected, const std::string& found) {
  Fail(ErrorCode::kInvalidArgument, "[command line] {}: expected {}, found {}", option, expected, found);
}

void CheckOptions(const ExportCommand& flags) {
  RequireModel(flags.paths);
  if (flags.out.empty()) FailOption("--out", "where to write, -o PATH", "nothing");
  if (flags.format == "safetensors" && flags.type.starts_with('q')) {
    FailOption("--type", "source, f32, f16 or bf16 with --format safetensors", flags.type);
  }
  if (flags.format == "peft" && flags.type != kSourceTypes) {
    FailOption("--type", "source with --format peft, which holds no weights of the model", flags.type);
  }
  if (flags.format == "peft" && flags.paths.adapter.empty()) {
    FailOption("--adapter", "an adapter with deltas for --format peft", "none");
  }
  if (flags.format != "peft" && !flags.base_name.empty())
    FailOption("--base-name", "it with --format peft", flags.format);
}

struct Source {
  ModelSource model;
  std::optional<EmbeddedAdapter> adapter;
};

Source OpenSource(const ExportCommand& flags) {
  Source source = {OpenModelSource(flags.paths.model), {}};
  if (!flags.paths.adapter.empty()) {
    source.adapter = EmbeddedAdapter{ReadAdapter(flags.paths.adapter), false, {}};
    CheckAdapterBelongs(source.adapter->adapter.config, source.model.config, source.model.fingerprint,
                        flags.paths.adapter);
  } else if (source.model.gguf && HasEmbeddedAdapter(*source.model.gguf)) {
    source.adapter = ReadEmbeddedAdapter(*source.model.gguf);
  }
  return source;
}

// Coarse types may move decisions so far that the file would be refused when it is loaded; it is not written, then.
void CheckSelfTest(const std::string& written, const ExportCommand& flags) {
  EngineOptions options;
  options.model_path = written;
  try {
    Engine::Load(options);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kMismatch) throw;
    const std::string_view what = error.what();
    const size_t found = what.find("found ");
    Fail(
        ErrorCode::kMismatch,
        "[{}] self-test: expected the gates to decide nearly as before on weights in {}, {}; choose a wider --type, or "
        "--no-gates",
        flags.out, flags.type, what.substr(found, what.find(';', found) - found));
  }
}

Json ExportModel(const ExportCommand& flags, const Source& source) {
  ProgressBar bar("writing");
  WriteModelOptions options;
  options.format = flags.format == "gguf" ? ModelFormat::kGguf : ModelFormat::kSafetensors;
  options.dtype = FindDType(flags.type);  // none: kSourceTypes
  const bool gates = source.adapter && !flags.no_gates;
  if (gates) options.adapter = &*source.adapter;
  options.on_progress = [&bar](uint64_t done, uint64_t total) {
    ThrowIfInterrupted();
    bar.Update(done >> 20, total >> 20, "MiB");
  };
  if (gates && !source.adapter->adapter.config.self_test.token_ids.empty()) {
    options.check = [&](const std::string& path, const WrittenModel& written) {
      if (written.requantized) CheckSelfTest(path, flags);
    };
  }
  const bool deltas = source.adapter && source.adapter->adapter.config.lora_rank > 0;
  const WrittenModel written = WriteModel(
      source.model, deltas ? MergeDeltas(source.adapter->adapter, source.model, flags.paths.adapter) : nullptr, options,
      flags.out);
  bar.Clear();
  return {{"type", flags.type},     {"tensors", written.tensors},
          {"bytes", written.bytes}, {"deltas_merged", deltas},
          {"gates", gates},         {"requantized", written.requantized}};
}

Json ExportPeft(const ExportCommand& flags, const Source& source) {
  const std::string& trained_on = source.adapter->adapter.config.base_model_name;
  const uint64_t bytes = WritePeft(source.adapter->adapter, source.model,
                                   flags.base_name.empty() ? trained_on : flags.base_name, !flags.no_gates, flags.out);
  return {{"bytes", bytes}, {"gates", !flags.no_gates}};
}

int Run(const ExportCommand& flags) {
  CheckOptions(flags);
  RequireReplaceable(flags.out, flags.format == "gguf" ? OutputKind::kFile : OutputKind::kDirectory, flags.force);
  InstallInterruptHandler();
  std::atomic<bool> interrupted = false;  // seen between pieces, so that no half file is left
  const InterruptFlag guard(interrupted);
  const Source source = OpenSource(flags);
  Json body = {{"out", flags.out}, {"format", flags.format}};
  body.update(flags.format == "peft" ? ExportPeft(flags, source) : ExportModel(flags, source));
  if (flags.json) {
    PrintJson(body);
  } else {
    fmt::print(stderr, "{} in {}{}{}\n", HumanBytes(body["bytes"].get<uint64_t>()), Printable(flags.out),
               body.value("deltas_merged", false) ? ", deltas merged" : "",
               body["gates"].get<bool>() ? ", with gates" : ", without gates");
  }
  return 0;
}

}  // namespace

void AddExport(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<ExportCommand>();
  CLI::App* sub = app.add_subcommand("export", "Write a trained model in a format that others read");
  AddModelPath(*sub, &flags->paths);
  AddAdapterPath(*sub, &flags->paths, "Adapter whose deltas are merged and whose gates go along");
  sub->add_option("-o,--out", flags->out, "The file (gguf) or directory (safetensors, peft) to write")
      ->type_name("PATH")
      ->group("Output");
  AddChoice(*sub, "--format", &flags->format, {"gguf", "safetensors", "peft"},
            "One file with the gates inside; a Hugging Face style directory; the deltas alone, for the package peft")
      ->group("Output");
  AddChoice(*sub, "--type", &flags->type, {kSourceTypes, "f32", "f16", "bf16", "q8_0", "q4_1", "q4_0"},
            "Of the matrices; source: what each is in the model")
      ->group("Output");
  sub->add_flag("--no-gates", flags->no_gates, "Leave the gates out: an ordinary model, for llama.cpp too")
      ->group("Output");
  sub->add_option("--base-name", flags->base_name, "What peft loads the base model by (default: what the adapter says)")
      ->type_name("NAME")
      ->group("Output");
  sub->add_flag("--force", flags->force, "Replace what is there")->group("Output");
  AddJson(*sub, &flags->json);
  sub->footer(
      "Examples:\n"
      "  gateskip export -m model.gguf --adapter DIR -o merged.gguf --type q8_0\n"
      "  gateskip generate -m merged.gguf --budget 0.25 -p \"The sea is\"\n"
      "  gateskip export -m model.gguf --adapter DIR -o merged --format safetensors --type bf16\n"
      "  gateskip export -m model.gguf --adapter DIR -o lora --format peft --base-name ORG/MODEL");
  sub->callback([flags, &command] { command.run = [flags] { return Run(*flags); }; });
}

}  // namespace gateskip::cli
