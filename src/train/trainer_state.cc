// SPDX-License-Identifier: Apache-2.0
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <re2/re2.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>

#include "base/check.h"
#include "base/sha256.h"
#include "gate/layer_list.h"
#include "model/model_writer.h"
#include "train/option_table.h"
#include "train/prior.h"
#include "train/step_exchange.h"
#include "train/trainer.h"

namespace gateskip::train {
namespace {

using Json = nlohmann::json;
constexpr int kFitBatch = 8;  // sequences at a time

// The values are fetched when the writer has come to them: one buffer at a time for tensors of another device.
CheckpointTensor ToCheckpoint(const std::string& name, const Tensor& value) {
  GS_CHECK(value.is_contiguous() && value.scalar_type() == at::kFloat);
  return {name, value.sizes().vec(), [&value, host = Tensor()]() mutable {
            host = value.detach().cpu();
            return std::span<const float>(host.data_ptr<float>(), static_cast<size_t>(host.numel()));
          }};
}

void FromCheckpoint(const SavedCheckpoint& checkpoint, const std::string& name, Tensor& value) {
  at::NoGradGuard no_grad;
  Tensor host = value.is_cpu() ? value.detach() : at::empty(value.sizes(), at::kFloat);
  GS_CHECK(host.is_contiguous() && host.scalar_type() == at::kFloat);
  checkpoint.Read(name, value.sizes().vec(), {host.data_ptr<float>(), static_cast<size_t>(host.numel())});
  if (!value.is_cpu()) value.copy_(host);
}

at::Device DeviceOf(const std::string& name) {
  const bool cuda = name == "cuda" || name.starts_with("cuda:");
  if (name != "cpu" && !cuda) {
    Fail(ErrorCode::kInvalidArgument, "[train] device: expected cpu, cuda or cuda:N, found '{}'; choose one",
         name.substr(0, 32));
  }
  if (cuda && !torch::cuda::is_available()) {
    Fail(ErrorCode::kUnsupported,
         "[train] device: expected a CUDA device and a LibTorch built for it, found none; use --device cpu, or build "
         "with -DCMAKE_PREFIX_PATH=/path/to/a/CUDA/libtorch");
  }
  try {
    return at::Device(name);
  } catch (const c10::Error&) {
    Fail(ErrorCode::kInvalidArgument, "[train] device: expected cuda:N with a number, found '{}'; correct it",
         name.substr(0, 32));
  }
}

// Names of the options that are not what this version's default is.
Json ChangedOptions(const TrainOptions& options) {
  const Json defaults = ResultOptionsJson(TrainOptions());
  const Json values = ResultOptionsJson(options);
  Json changed = Json::array();
  for (const auto& [name, value] : values.items()) {
    if (value != defaults.at(name)) changed.push_back(name);
  }
  return changed;
}

// NaN (not known yet) has no form in JSON.
Json OrNull(const std::vector<double>& values) {
  Json out = Json::array();
  for (const double v : values) out.push_back(std::isfinite(v) ? Json(v) : Json());
  return out;
}

}  // namespace

Trainer::Trainer(const TrainOptions& options, TrainObserver& observer)
    : options_(options),
      observer_(observer),
      guard_(options.loss_spike),
      best_loss_(std::numeric_limits<double>::max()) {
  ValidateTrainOptions(options_);
  for (auto* sources : {&options_.sources, &options_.heldout_sources}) {
    for (TrainSource& source : *sources) {
      if (source.fields == RecordFields()) source.fields = ColumnsOf(options_.columns);
    }
  }
  at::set_num_threads(options_.threads);
  source_ = OpenModelSource(options_.model_path);
  RankTimes times;
  times.time_out = options_.rank_time_out;
  times.work_time_out = options_.rank_work_time_out;
  times.join_time_out = options_.rank_join_time_out;
  group_ = ProcessGroup::FromEnvironment({.times = times, .cuda = options_.device != "cpu"});
  if (!group_->warning().empty()) Say(group_->warning());
  if (is_main()) lock_ = std::make_unique<RunLock>(options_.run_directory);
  options_.accumulation_steps *= group_->size();
  BuildModel();
}

TrainBatch Trainer::Batch(int64_t first_sequence, int64_t count) {
  std::vector<TrainSequence> sequences;
  for (int64_t i = 0; i < count; ++i) sequences.push_back(data_->Sequence(first_sequence + i));
  return MakeBatch(sequences);
}

void Trainer::BuildModel() {
  Say("reading " + options_.model_path);
  const at::ScalarType compute = options_.float32 ? at::kFloat : at::kBFloat16;
  base_ = LoadBaseModel(source_, compute, options_.sequence_length, DeviceOf(options_.device));
  tokenizer_ = source_.gguf ? Tokenizer::FromGguf(*source_.gguf) : Tokenizer::FromHubDirectory(options_.model_path);
  data_ = std::make_unique<TrainData>(options_.sources, *tokenizer_, DataOptionsOf(options_));
  for (const SourceReport& report : data_->reports()) {
    for (const std::string& line : report.Lines()) Say(line);
  }
  Say(fmt::format("{} sequences of {} tokens per epoch", data_->sequences_per_epoch(), options_.sequence_length));
  group_->RequireSame("the options, base model and text", OptionsHash());
  if (is_main() && !options_.resume && HasCheckpoints(options_.run_directory)) {
    Fail(ErrorCode::kInvalidArgument,
         "[{}] run directory: expected one without checkpoints for a new run, found some; pass --resume to go on, or "
         "name another directory",
         options_.run_directory);
  }
  if (!options_.resume || !Resume()) StartFresh();
}

Json Trainer::DataEvent() const {
  Json files = Json::array();
  int64_t tokens = 0;
  for (size_t i = 0; i < data_->reports().size(); ++i) {
    const SourceReport& report = data_->reports()[i];
    tokens += report.tokens;
    files.push_back({{"path", options_.sources[i].path},
                     {"rows", report.rows.rows},
                     {"used", report.rows.used},
                     {"skipped", report.rows.skipped}});
  }
  return {{"event", "data"}, {"files", files}, {"tokens", tokens}};
}

void Trainer::BuildEvaluator() {
  if (!is_main() || options_.heldout_sources.empty()) return;
  DataOptions data = DataOptionsOf(options_);
  data.seed = 0;
  TrainData heldout(options_.heldout_sources, *tokenizer_, data);
  evaluator_ =
      std::make_unique<Evaluator>(*model_, *cost_, MakeBatch(heldout.InTurn(options_.eval_sequences)), options_);
}

AdapterConfig Trainer::StartConfig() const {
  const ModelConfig& c = base_.config;
  AdapterConfig config;
  config.base_model_name = c.name;
  config.base_fingerprint = source_.fingerprint;
  config.architecture = c.architecture;
  config.num_layers = c.num_layers;
  config.hidden_size = c.hidden_size;
  config.gate_kind = options_.gate_kind;
  config.gate_rank = GateHasRank(options_.gate_kind) ? options_.gate_rank : 0;
  config.gate_shared = options_.gate_shared;
  config.gate_product = options_.gate_product;
  config.gate_scope = options_.gate_scope;
  config.kv_rule = options_.kv_rule;
  config.gated = options_.decision_rule == DecisionRule::kExit
                     ? std::vector<bool>(static_cast<size_t>(2 * c.num_layers), false)
                     : GatedBranches(options_, c.num_layers);
  config.always_run_positions = options_.always_run_positions;
  config.skip_rank = options_.skip_rank;
  config.lora_rank = options_.lora_targets.empty() ? 0 : options_.lora_rank;
  config.lora_alpha = config.lora_rank > 0 ? options_.lora_alpha : 0.0F;
  if (config.lora_rank > 0) config.lora_targets = options_.lora_targets;
  return config;
}

std::vector<NamedTensor> Trainer::TrainedBase() const {
  std::vector<NamedTensor> trained;
  if (options_.train_base.empty()) return trained;
  RE2::Options quiet;
  quiet.set_log_errors(false);
  const RE2 pattern(options_.train_base == "all" ? ".*" : options_.train_base, quiet);
  if (!pattern.ok()) {
    Fail(ErrorCode::kInvalidArgument,
         "[train] train_base: expected all or a regular expression, found one with an error: {}; see the syntax of RE2",
         pattern.error());
  }
  std::vector<std::string> names;
  BaseModel model = base_;
  VisitWeights(model, [&](const std::string& name, Tensor&) { names.push_back(name); });
  for (const std::string& name : names) {
    if (RE2::FullMatch(name, pattern)) trained.emplace_back(name, LoadWeight(source_, name));
  }
  if (trained.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "[train] train_base: expected to match some of the base's {} tensors, '{}' to '{}', found none that '{}' "
         "matches; a match is of the whole name",
         names.size(), names.front(), names.back(), options_.train_base);
  }
  return trained;
}

void Trainer::CreateModel(const AdapterConfig& config) {
  model_ = std::make_unique<GatedModel>(base_, config, options_.seed, TrainedBase());
  model_->set_activation_checkpointing(options_.activation_checkpointing);
  GatePenalty penalty{options_.gate_l2, options_.gate_l1, options_.gate_kl, options_.gate_target, {}};
  penalty.layers = ParseLayers(options_.penalty_layers, config.num_layers, "penalty_layers");
  model_->set_penalty(penalty);
}

void Trainer::StartFresh() {
  const ModelConfig& c = base_.config;
  CreateModel(StartConfig());
  Json start = {{"event", "start"}};
  if (is_main() && options_.skip_rank >= 0) {
    Say("fitting skip paths");
    std::vector<TokenBatch> batches;
    for (int i = 0; i < options_.fit_sequences; i += kFitBatch) {
      batches.push_back(Batch(i, std::min(kFitBatch, options_.fit_sequences - i)).tokens);
    }
    FitSkipPaths(*model_, batches, options_.fit_ridge);
  }
  if (is_main() && options_.prior) {
    Say("measuring the prior");
    const CostModel all_gated(DimsOf(c), model_->config());
    const Prior prior = MeasurePrior(*model_, Batch(options_.fit_sequences, options_.prior_sequences).tokens, all_gated,
                                     options_, [&](const std::string& m) { Say(m); });
    ApplyPrior(*model_, prior);
    start.update({{"rise", prior.rise}, {"score", prior.score}, {"gated", prior.gated}});
  }
  const Json gated = Json::parse(ShareText(*group_, "the start of training", Json(model_->config().gated).dump()));
  model_->mutable_config().gated = gated.get<std::vector<bool>>();
  model_->RemoveUngated();
  ShareParameters(*group_, model_->parameters());
  model_->Refresh();
  cost_ = std::make_unique<CostModel>(DimsOf(c), model_->config());
  optimizer_ = std::make_unique<AdamW>(model_->parameters(), options_);
  micro_step_ = std::make_unique<MicroStep>(*model_, *cost_, options_);
  start.update({{"model", c.name},
                {"data_sha256", data_->sha256()},
                {"options", ResultOptionsJson(options_)},
                {"changed", ChangedOptions(options_)}});
  Log(start);
  Log(DataEvent());
  InitialThresholds();
  BuildEvaluator();
}

void Trainer::InitialThresholds() {
  at::NoGradGuard no_grad;
  const TrainBatch batch = Batch(0, options_.batch_sequences);
  const std::vector<double> dense(static_cast<size_t>(options_.batch_sequences), 0.0);
  Decisions decisions = micro_step_->Decide(dense, 0, std::numeric_limits<uint64_t>::max() / 8192, curve_);
  decisions.kind = Decisions::Kind::kThresholds;
  std::fill(decisions.thresholds.begin(), decisions.thresholds.end(), -std::numeric_limits<float>::infinity());
  ForwardTrace trace;
  model_->Forward(batch.tokens, decisions, true, &trace);
  std::vector<BranchLogits> logits;
  for (int64_t s = 0; s < options_.batch_sequences; ++s) {
    for (const BranchLogits& b : SequenceLogits(trace, s, options_.sequence_length)) logits.push_back(b);
  }
  double last = 0;
  for (int i = 0; i < ThresholdCurve::kPoints; ++i) {
    const double exact =
        SolveThreshold(*cost_, options_.kv_rule, logits, batch.tokens.tokens.numel(), i * ThresholdCurve::kSpacing);
    if (std::isfinite(exact)) last = exact;
    curve_.Set(i, last);
  }
  curve_.values() = group_->AllGather("the first thresholds", curve_.values())[0];
}

std::string Trainer::OptionsHash() const {
  Json mixture = Json::array();  // data_->sha256() is of the tokens alone
  for (const TrainSource& s : options_.sources) mixture.push_back({s.weight, s.begin, s.end});
  const std::string text = ResultOptionsJson(options_).dump() + mixture.dump() + source_.fingerprint + data_->sha256();
  return Sha256Hex(std::as_bytes(std::span<const char>(text)));
}

std::string Trainer::StateJson() const {
  return Json({{"step", step_},
               {"tokens", tokens_},
               {"guard", guard_.State()},
               {"updates", optimizer_->updates()},
               {"threshold_curve", curve_.values()},
               {"eval_thresholds", evaluator_ ? OrNull(evaluator_->thresholds()) : Json::array()},
               {"best_loss", best_loss_},
               {"best_step", best_step_},
               {"not_better", not_better_},
               {"gated", model_->config().gated},
               {"seed", options_.seed},
               {"options_hash", OptionsHash()},
               {"options", ResultOptionsJson(options_)}})
      .dump(1);
}

void Trainer::Save() {
  if (!is_main()) return;
  Checkpoint checkpoint;
  checkpoint.step = step_;
  checkpoint.state_json = StateJson();
  const auto& parameters = model_->parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    checkpoint.tensors.push_back(ToCheckpoint(parameters[i].name, parameters[i].value));
    checkpoint.tensors.push_back(ToCheckpoint("adam_m." + parameters[i].name, optimizer_->first_moments()[i]));
    checkpoint.tensors.push_back(ToCheckpoint("adam_v." + parameters[i].name, optimizer_->second_moments()[i]));
  }
  WriteCheckpoint(checkpoint, options_.run_directory, {.keep = options_.keep_checkpoints, .best_step = best_step_});
}

void Trainer::SaveOrGoOn() {
  try {
    Save();
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kIo || options_.on_save_error == OnSaveError::kStop) throw;
    Say(fmt::format("checkpoint of step {} failed ({} so far), training goes on: {}", step_, ++failed_saves_,
                    e.what()));
  }
}

void Trainer::Restore(const SavedCheckpoint* checkpoint, const Json& state) {
  const int step = state.at("step").get<int>();
  if (state.at("options_hash").get<std::string>() != OptionsHash()) {
    Fail(ErrorCode::kMismatch,
         "[{}] checkpoint of step {}: expected the options, base model and text it was started "
         "with, found others; pass the same ones or start a new run directory",
         options_.run_directory, step);
  }
  AdapterConfig config = StartConfig();
  config.gated = state.at("gated").get<std::vector<bool>>();
  CreateModel(config);
  cost_ = std::make_unique<CostModel>(DimsOf(base_.config), config);
  optimizer_ = std::make_unique<AdamW>(model_->parameters(), options_);
  micro_step_ = std::make_unique<MicroStep>(*model_, *cost_, options_);
  auto& parameters = model_->parameters();
  for (size_t i = 0; checkpoint != nullptr && i < parameters.size(); ++i) {
    FromCheckpoint(*checkpoint, parameters[i].name, parameters[i].value);
    FromCheckpoint(*checkpoint, "adam_m." + parameters[i].name, optimizer_->first_moments()[i]);
    FromCheckpoint(*checkpoint, "adam_v." + parameters[i].name, optimizer_->second_moments()[i]);
  }
  ShareParameters(*group_, parameters);
  if (group_->size() > 1) {
    group_->Broadcast(optimizer_->first_moments(), 0);
    group_->Broadcast(optimizer_->second_moments(), 0);
  }
  model_->Refresh();
  step_ = step;
  tokens_ = state.at("tokens").get<int64_t>();
  guard_.SetState(state.at("guard").get<std::vector<double>>());
  optimizer_->set_updates(state.at("updates").get<int64_t>());
  curve_.values() = state.at("threshold_curve").get<std::vector<double>>();
  best_loss_ = state.at("best_loss").get<double>();
  best_step_ = state.at("best_step").get<int>();
  not_better_ = state.at("not_better").get<int>();
  BuildEvaluator();
  if (const Json& known = state.at("eval_thresholds"); evaluator_ && known.size() == evaluator_->thresholds().size()) {
    for (size_t i = 0; i < known.size(); ++i) {
      if (!known[i].is_null()) evaluator_->thresholds()[i] = known[i].get<double>();
    }
  }
}

bool Trainer::Resume() {
  std::unique_ptr<SavedCheckpoint> checkpoint;
  if (is_main()) {
    checkpoint = OpenNewestCheckpoint(options_.run_directory, [&](const std::string& m) { Say(m); });
    if (!checkpoint && HasCheckpoints(options_.run_directory)) {
      Fail(ErrorCode::kCorruptData,
           "[{}] checkpoints: expected a valid one to resume from, found damaged ones alone; remove them to start anew",
           options_.run_directory);
    }
  }
  const std::string state = ShareText(*group_, "a checkpoint's state", checkpoint ? checkpoint->state_json() : "");
  if (state.empty()) return false;
  try {
    Restore(checkpoint.get(), Json::parse(state));
  } catch (const Json::exception& e) {
    Fail(ErrorCode::kCorruptData, "[{}] state of a checkpoint: expected its fields, found: {}; remove it",
         options_.run_directory, e.what());
  }
  Say(fmt::format("resumed at step {}", step_));
  return true;
}

Json Trainer::Provenance() const {
  Json sources = Json::array();
  for (const TrainSource& s : options_.sources) {
    sources.push_back({{"file", std::filesystem::path(s.path).filename().string()},
                       {"weight", s.weight},
                       {"begin", s.begin},
                       {"end", s.end}});
  }
  return {{"options", ResultOptionsJson(options_)},
          {"sources", sources},
          {"tokens", tokens_},
          {"data_sha256", data_->sha256()},
          {"bad_steps", guard_.total()}};
}

std::string Trainer::WriteTrainedModel() const {
  std::map<std::string, Tensor> trained;
  for (const Parameter& p : model_->parameters()) {
    if (p.group == ParameterGroup::kBase) trained[p.name] = p.value.detach().cpu().contiguous();
  }
  const float shift = base_.config.norm_weight_shift;
  const auto updates = [&](const std::string& name) -> RowUpdate {
    const auto found = trained.find(name);
    if (found == trained.end()) return nullptr;
    return [values = found->second, shift](size_t r, std::span<float> row) {
      const float* from = values.data_ptr<float>() + r * row.size();
      std::copy(from, from + row.size(), row.begin());
      for (float& value : row) value -= values.dim() == 1 ? shift : 0.0F;
    };
  };
  WriteModelOptions options;
  options.format = options_.trained_model_path.ends_with(".gguf") ? ModelFormat::kGguf : ModelFormat::kSafetensors;
  options.dtype = options_.trained_model_type == TrainedModelType::kF32   ? DType::kF32
                  : options_.trained_model_type == TrainedModelType::kF16 ? DType::kF16
                                                                          : DType::kBF16;
  WriteModel(source_, updates, options, options_.trained_model_path);
  return OpenModelSource(options_.trained_model_path).fingerprint;
}

void Trainer::WriteResults() {
  std::string fingerprint = source_.fingerprint;
  if (!options_.trained_model_path.empty()) {
    fingerprint = WriteTrainedModel();
    Say("trained model written to " + options_.trained_model_path);
  }
  if (options_.adapter_directory.empty()) return;
  Adapter adapter = model_->ToAdapter();
  adapter.config.base_fingerprint = fingerprint;
  // Everything runs until `gateskip calibrate` fills the grid: importance is never below 0.
  adapter.config.budgets = {0.0};
  adapter.config.thresholds = {std::vector<float>(static_cast<size_t>(model_->num_branches()), -1.0F)};
  adapter.config.realised_net_saving = {0.0};
  adapter.config.training_json = Provenance().dump();
  WriteAdapter(adapter, options_.adapter_directory, true);
  Say("adapter written to " + options_.adapter_directory);
}

}  // namespace gateskip::train
