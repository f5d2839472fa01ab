// SPDX-License-Identifier: Apache-2.0
#include "eval/quantize_model.h"

#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "base/check.h"
#include "eval/activations.h"
#include "gate/skip_plan.h"
#include "io/atomic_write.h"
#include "io/embedded_adapter.h"
#include "model/adapter_weights.h"
#include "model/model_writer.h"

namespace gateskip {
namespace {

namespace fs = std::filesystem;

// A directory beside `path` for what is not complete yet; removed with all that is in it.
class ScratchDirectory {
 public:
  explicit ScratchDirectory(const std::string& path) {
    const fs::path target(path);
    path_ = target.parent_path() / fmt::format(".{}.{}.quantize", target.filename().string(), getpid());
    std::error_code error;
    fs::create_directory(path_, error);
    if (error) {
      Fail(ErrorCode::kIo, "[{}] directory beside the output: expected to make one, found: {}", path, error.message());
    }
  }
  ~ScratchDirectory() { RemoveDirectory(path_.string()); }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  std::string operator/(const char* name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

struct Source {
  ModelSource model;
  std::vector<TensorDecision> decisions;
  std::optional<Adapter> adapter;  // for the new model, thresholds still the old ones
  bool inside = false;             // the adapter is inside the file
  EmbeddedAdapter embedded;
};

bool IsBlocks(DType dtype) { return GetDTypeInfo(dtype).block_elements > 1; }

void CheckConsent(const QuantizeOptions& options, const Source& source) {
  if (options.allow_requantize) return;
  for (const TensorDecision& decision : source.decisions) {
    if (!IsBlocks(decision.tensor->dtype) || decision.tensor->dtype == decision.dtype) continue;
    Fail(ErrorCode::kInvalidArgument,
         "[{}] tensor {}: expected F32, F16 or BF16 to quantise, found {}, rounded once already; start from the "
         "original, or pass --allow-requantize",
         options.model_path, decision.tensor->name, GetDTypeInfo(decision.tensor->dtype).name);
  }
}

Source OpenSource(const QuantizeOptions& options) {
  std::error_code ignored;
  if (fs::equivalent(options.model_path, options.out, ignored)) {
    Fail(ErrorCode::kInvalidArgument, "[{}] output: expected another file than the model, found the same; name another",
         options.out);
  }
  Source source;
  source.model = OpenModelSource(options.model_path);
  source.decisions = DecideTypes(source.model, options.choice);
  CheckConsent(options, source);
  if (!options.adapter_path.empty()) {
    source.adapter = ReadAdapter(options.adapter_path);
    CheckAdapterBelongs(source.adapter->config, source.model.config, source.model.fingerprint, options.adapter_path);
  } else if (options.with_gates && HasEmbeddedAdapter(*source.model.gguf)) {
    source.embedded = ReadEmbeddedAdapter(*source.model.gguf);
    source.adapter = source.embedded.adapter;
    source.inside = true;
  }
  if (source.adapter && options.calibration_texts.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "[{}] gates: expected a text to find their thresholds for the new weights on, found none; pass "
         "--calibrate-from TEXT{}",
         options.model_path, source.inside ? ", or --no-gates" : "");
  }
  return source;
}

std::unique_ptr<LoadedModel> Load(const std::string& path, ComputeType compute, int threads) {
  EngineOptions engine;
  engine.model_path = path;
  engine.threads = threads;
  engine.compute = compute;
  return LoadModel(engine);
}

TokenWindows Windows(const LoadedModel& model, const std::vector<std::string>& texts, int64_t tokens,
                     const QuantizeOptions& options) {
  return ReadWindows(*model.tokenizer, texts,
                     {.max_tokens = tokens, .window = options.window, .threads = options.threads});
}

std::function<void(size_t, size_t)> Stage(const CalibrateProgress& progress, const char* name) {
  return [&progress, name](size_t done, size_t total) {
    if (progress) progress(name, done, total);
  };
}

// The writer's view of the decisions.
WriteModelOptions WriterOptions(const QuantizeOptions& options, const Source& source,
                                const std::optional<ActivationSquares>& squares, const CalibrateProgress& progress) {
  std::unordered_map<std::string, DType> types;
  for (const TensorDecision& decision : source.decisions) types[decision.tensor->name] = decision.dtype;
  const bool tied = source.model.weights->Find("output.weight") == nullptr;
  WriteModelOptions writer;
  writer.file_type = options.choice.type->file_type;
  writer.format_of = [types = std::move(types), tied, search = options.search, &squares](const TensorView& tensor) {
    TensorFormat format = {.dtype = types.at(tensor.name), .search = search};
    if (squares) format.weights = squares->Of(tensor.name, tied);
    return format;
  };
  writer.on_progress = [&progress](uint64_t done, uint64_t total) {
    if (progress) progress("writing", done, total);
  };
  return writer;
}

// The adapter as one for the model at `path`: its thresholds and its self-test are that model's.
std::vector<CalibratedBudget> Recalibrate(const QuantizeOptions& options, const Source& source, const std::string& path,
                                          const std::string& directory, const CalibrateProgress& progress) {
  Adapter adapter = *source.adapter;
  if (source.inside) RoundGates(options.gate_type, &adapter);
  AdapterConfig& config = adapter.config;
  nlohmann::json training = nlohmann::json::parse(config.training_json);
  training["quantized"] = {{"from_fingerprint", config.base_fingerprint}, {"type", options.choice.type->name}};
  config.training_json = training.dump();
  config.base_fingerprint = GgufFile::Open(path)->Fingerprint();
  config.self_test = {};
  CalibrateOptions calibrate;
  if (config.budgets.size() > 1) calibrate.budgets.assign(config.budgets.begin() + 1, config.budgets.end());
  WriteAdapter(adapter, directory, /*half_precision=*/false);
  calibrate.model_path = path;
  calibrate.adapter_path = directory;
  calibrate.text_paths = options.calibration_texts;
  calibrate.max_tokens = options.calibration_tokens;
  calibrate.window = options.window;
  calibrate.threads = options.threads;
  return Calibrate(calibrate, progress);
}

QuantizeReport Describe(const Source& source, const WrittenModel& written) {
  QuantizeReport report;
  for (const TensorDecision& d : source.decisions) {
    report.matrices.push_back({d.tensor->name, d.tensor->dtype, d.dtype, d.wanted});
  }
  uint64_t elements = 0;
  for (const TensorView& tensor : source.model.gguf->tensors()) {
    if (IsEmbeddedName(tensor.name)) continue;
    report.source_bytes += tensor.data.size();
    elements += static_cast<uint64_t>(tensor.num_elements());
  }
  report.bytes = written.bytes;
  report.bits_per_weight = 8.0 * static_cast<double>(written.bytes) / static_cast<double>(elements);
  return report;
}

}  // namespace

QuantizeReport QuantizeModel(const QuantizeOptions& options, const CalibrateProgress& progress) {
  const Source source = OpenSource(options);
  // What can be refused is refused before the work.
  std::optional<ActivationSquares> squares;
  if (!options.importance_texts.empty()) {
    const auto model = Load(options.model_path, ComputeType::kFast, options.threads);
    squares = MeasureActivations(*model, Windows(*model, options.importance_texts, options.importance_tokens, options),
                                 *DensePlan(), Stage(progress, "importance"));
  }
  std::unique_ptr<LoadedModel> reference;
  TokenWindows comparison;
  if (!options.comparison_texts.empty()) {
    reference = Load(options.model_path, ComputeType::kF32, options.threads);
    comparison = Windows(*reference, options.comparison_texts, options.comparison_tokens, options);
  }
  std::optional<ScratchDirectory> scratch;  // gates are calibrated on the new weights before they are put beside them
  if (source.adapter) scratch.emplace(options.out);
  const std::string adapter_directory = scratch ? *scratch / "adapter" : "";
  QuantizeReport report;
  ThreadPool pool(options.threads == 0 ? static_cast<int>(UsableCpus().size()) : options.threads);
  WriteModelOptions writer = WriterOptions(options, source, squares, progress);
  writer.pool = &pool;
  writer.check = [&](const std::string& path, const WrittenModel& written) {
    report = Describe(source, written);
    if (reference) {
      const auto model = Load(path, ComputeType::kF32, options.threads);
      report.difference = CompareModels(*reference, *model, comparison, Stage(progress, "comparison"));
      reference.reset();
    }
    if (source.adapter) report.calibrated = Recalibrate(options, source, path, adapter_directory, progress);
  };
  WriteModel(source.model, nullptr, writer, source.inside ? *scratch / "model.gguf" : options.out);
  if (squares) report.importance_tokens = squares->tokens;
  if (source.inside) {
    EmbeddedAdapter embedded = source.embedded;
    embedded.adapter = ReadAdapter(adapter_directory);
    embedded.requantized = IsBlocks(options.gate_type);  // once more since the self-test, from f16
    WriteModelOptions with_gates;
    with_gates.adapter = &embedded;
    with_gates.gate_type = options.gate_type;
    WriteModel(OpenModelSource(*scratch / "model.gguf"), nullptr, with_gates, options.out);
  } else if (source.adapter) {
    WriteAdapter(ReadAdapter(adapter_directory), options.adapter_out, /*half_precision=*/true);
  }
  return report;
}

}  // namespace gateskip
