// SPDX-License-Identifier: Apache-2.0
#include "runtime/loaded_model.h"

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "base/check.h"
#include "io/embedded_adapter.h"
#include "io/hub_directory.h"
#include "model/measured_cost.h"

namespace gateskip {
namespace {

struct FoundAdapter {
  Adapter adapter;
  std::string origin;
  std::string base_fingerprint;  // of the model it has to be for
  bool requantized = false;
};

// The adapter asked for, or else the one inside the model. The latter is part of the file, whatever it was trained for.
std::optional<FoundAdapter> FindAdapter(const EngineOptions& options, const GgufFile* gguf,
                                        const std::string& fingerprint) {
  if (!options.adapter_path.empty()) {
    return FoundAdapter{ReadAdapter(options.adapter_path), options.adapter_path, fingerprint};
  }
  if (gguf == nullptr || !HasEmbeddedAdapter(*gguf)) return std::nullopt;
  EmbeddedAdapter embedded = ReadEmbeddedAdapter(*gguf);
  std::string base = embedded.adapter.config.base_fingerprint;
  return FoundAdapter{std::move(embedded.adapter), options.model_path, std::move(base), embedded.requantized};
}

WeightFormats FormatsOf(const EngineOptions& options) {
  using kernels::PackFormat;
  if (options.compute == ComputeType::kF32) {
    if (options.head != HeadFormat::kStored) {
      Fail(ErrorCode::kInvalidArgument,
           "[options] head: expected the stored format where everything is f32, found q4; drop one of both");
    }
    return {PackFormat::kF32, PackFormat::kF32};
  }
  return {PackFormat::kNative, options.head == HeadFormat::kQ4 ? PackFormat::kQ4 : PackFormat::kNative};
}

kernels::KvType KvTypeOf(const EngineOptions& options) {
  const bool eight_bit = options.kv_cache == KvCacheFormat::kQ8_0;
  if (options.compute == ComputeType::kFast) return eight_bit ? kernels::KvType::kQ8 : kernels::KvType::kF16;
  if (eight_bit) {
    Fail(ErrorCode::kInvalidArgument,
         "[options] KV cache: expected f32 where everything is, found q8_0; drop one of both");
  }
  return kernels::KvType::kF32;
}

}  // namespace

Step MakeStep(const LoadedModel& model, int max_rows) {
  const ModelConfig& config = model.transformer->config;
  constexpr size_t kLogitTileFloats = size_t{4} << 20;
  const auto rows = static_cast<size_t>(max_rows);
  return {config, model.kv_type, rows,
          std::clamp<size_t>(kLogitTileFloats / static_cast<size_t>(config.vocab_size), 1, rows)};
}

std::unique_ptr<LoadedModel> LoadModel(const EngineOptions& options) {
  if (options.threads < 0 || options.threads > 256) {
    Fail(ErrorCode::kInvalidArgument, "[options] threads: expected 0 (all cores) to 256, found {}; pass -t",
         options.threads);
  }
  const bool exact = options.compute == ComputeType::kF32;
  const WeightFormats formats = FormatsOf(options);
  const kernels::KvType kv_type = KvTypeOf(options);
  const size_t cores = options.cpus.empty() ? UsableCpus().size() : options.cpus.size();
  auto pool = std::make_unique<ThreadPool>(
      options.threads == 0 ? static_cast<int>(std::min<size_t>(cores, 256)) : options.threads, options.cpus);

  ModelConfig config;
  std::unique_ptr<WeightSource> source;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const void> file;
  std::shared_ptr<const GgufFile> gguf;
  std::string fingerprint;
  std::error_code ignored;
  if (std::filesystem::is_directory(options.model_path, ignored)) {
    const auto directory = HubDirectory::Open(options.model_path);
    config = ReadConfig(*directory);
    source = MakeWeightSource(directory, config);
    tokenizer = Tokenizer::FromHubDirectory(options.model_path);
    fingerprint = directory->Fingerprint();
    file = directory;
  } else {
    gguf = GgufFile::Open(options.model_path);
    config = ReadConfig(*gguf);
    source = MakeWeightSource(gguf);
    tokenizer = Tokenizer::FromGguf(*gguf);
    fingerprint = gguf->Fingerprint();
    file = gguf;
  }
  if (tokenizer->vocab_size() > config.vocab_size) {
    Fail(ErrorCode::kCorruptData,
         "[{}] vocabulary: expected at most {} tokens (rows of the embedding), found {}; the file "
         "is damaged",
         options.model_path, config.vocab_size, tokenizer->vocab_size());
  }

  // Read before the weights are packed: a bad adapter is refused at once.
  const std::optional<FoundAdapter> found = FindAdapter(options, gguf.get(), fingerprint);
  std::optional<AdapterWeights> adapter;
  if (found) adapter = BindAdapter(found->adapter, config, found->base_fingerprint, found->origin, exact, *pool);

  ModelWeights weights = BindWeights(*source, config, formats, *pool);
  const CostModel plain = MeasureCost(weights, nullptr);
  const CostModel gated = MeasureCost(weights, adapter ? &*adapter : nullptr);
  uint64_t file_bytes = 0;
  if (std::filesystem::is_regular_file(options.model_path, ignored)) {
    file_bytes = std::filesystem::file_size(options.model_path, ignored);
  }
  auto transformer = std::make_unique<Transformer>(std::move(config), std::move(weights), std::move(adapter), *pool);
  return std::make_unique<LoadedModel>(LoadedModel{.pool = std::move(pool),
                                                   .tokenizer = std::move(tokenizer),
                                                   .file = std::move(file),
                                                   .transformer = std::move(transformer),
                                                   .fingerprint = std::move(fingerprint),
                                                   .adapter_origin = found ? found->origin : "",
                                                   .kv_type = kv_type,
                                                   .requantized = found && found->requantized,
                                                   .file_bytes = file_bytes,
                                                   .plain_cost = plain,
                                                   .adapter_cost = gated});
}

SkipPlanPtr MakePlan(const LoadedModel& model, const BudgetOptions& options, double budget) {
  if (!(budget >= 0.0 && budget <= kMaxBudget)) {
    Fail(ErrorCode::kInvalidArgument,
         "[budget] value: expected a number in [0, {}], found {}; pass the share of the "
         "ungated layer cost to save, e.g. 0.25",
         kMaxBudget, budget);
  }
  if (budget == 0.0) return DensePlan();
  const auto& adapter = model.transformer->adapter;
  const bool with_adapter = options.use_adapter && adapter.has_value();
  if (options.policy == Policy::kRandom) {
    if (!with_adapter) {
      return RandomPlan(model.plain_cost, KvRule::kCompute, GateScope::kBranch, {}, 1, budget, options.policy_seed);
    }
    const AdapterConfig& config = adapter->config;
    std::vector<uint8_t> essential;
    for (const bool gated : config.gated) essential.push_back(gated ? 0 : 1);
    return RandomPlan(model.adapter_cost, config.kv_rule, config.gate_scope, essential, config.always_run_positions,
                      budget, options.policy_seed);
  }
  if (!with_adapter) {
    Fail(ErrorCode::kInvalidArgument,
         "[budget] value: expected 0 without an adapter, found {}; load one with --adapter "
         "or use --policy random",
         budget);
  }
  return GatesPlan(adapter->config, budget);
}

SavingReport MakeReport(const CostModel& cost, const SkipCounts& counts, double requested) {
  SavingReport report;
  report.requested = requested;
  report.nominal = CostModel::NominalSaving(counts);
  report.net = cost.NetSaving(counts);
  report.branches_run = std::accumulate(counts.run.begin(), counts.run.end(), uint64_t{0});
  report.branches_skipped = std::accumulate(counts.skipped.begin(), counts.skipped.end(), uint64_t{0});
  if (!counts.run.empty()) report.rows = counts.run[0] + counts.skipped[0];
  return report;
}

}  // namespace gateskip
