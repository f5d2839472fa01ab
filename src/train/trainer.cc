// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/sha256.h"
#include "train/ops.h"
#include "train/prior.h"
#include "train/random.h"

namespace gateskip::train {
namespace {

using Json = nlohmann::json;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Json OptionsJson(const TrainOptions& o) {
  return {{"seed", o.seed},
          {"float32", o.float32},
          {"gate_kind", static_cast<int>(o.gate_kind)},
          {"gate_rank", o.gate_rank},
          {"multiply_output", o.multiply_output},
          {"kv_rule", static_cast<int>(o.kv_rule)},
          {"skip_rank", o.skip_rank},
          {"lora_rank", o.lora_rank},
          {"lora_alpha", o.lora_alpha},
          {"lora_targets", o.lora_targets},
          {"always_run_positions", o.always_run_positions},
          {"fit_sequences", o.fit_sequences},
          {"fit_ridge", o.fit_ridge},
          {"prior_sequences", o.prior_sequences},
          {"prior_step", o.prior_step},
          {"prior_saving", o.prior_saving},
          {"prior_candidates", o.prior_candidates},
          {"essential_rise", o.essential_rise},
          {"steps", o.steps},
          {"sequence_length", o.sequence_length},
          {"batch_sequences", o.batch_sequences},
          {"accumulation_steps", o.accumulation_steps},
          {"min_budget", o.min_budget},
          {"max_budget", o.max_budget},
          {"dense_every", o.dense_every},
          {"temperature", o.temperature},
          {"noise_final", o.noise_final},
          {"threshold_rate", o.threshold_rate},
          {"kl_weight", o.kl_weight},
          {"ce_weight", o.ce_weight},
          {"gate_l2", o.gate_l2},
          {"head_weight", o.head_weight},
          {"loss_positions", o.loss_positions},
          {"gate_learning_rate", o.gate_learning_rate},
          {"gate_bias_learning_rate", o.gate_bias_learning_rate},
          {"skip_learning_rate", o.skip_learning_rate},
          {"lora_learning_rate", o.lora_learning_rate},
          {"beta1", o.beta1},
          {"beta2", o.beta2},
          {"weight_decay", o.weight_decay},
          {"clip_norm", o.clip_norm},
          {"warmup_steps", o.warmup_steps},
          {"final_learning_rate", o.final_learning_rate}};
}

// Names of the options that are not what this version's default is.
Json ChangedOptions(const TrainOptions& options) {
  const Json defaults = OptionsJson(TrainOptions());
  const Json values = OptionsJson(options);
  Json changed = Json::array();
  for (const auto& [name, value] : values.items()) {
    if (value != defaults.at(name)) changed.push_back(name);
  }
  return changed;
}

CheckpointTensor ToCheckpoint(const Tensor& value) {
  const Tensor t = value.detach().contiguous();
  return {t.sizes().vec(), {t.data_ptr<float>(), t.data_ptr<float>() + t.numel()}};
}

void FromCheckpoint(const Checkpoint& checkpoint, const std::string& name, Tensor& value) {
  const auto found = checkpoint.tensors.find(name);
  if (found == checkpoint.tensors.end() || found->second.shape != value.sizes().vec()) {
    Fail(ErrorCode::kMismatch,
         "[train] checkpoint tensor {}: expected shape [{}], found another or none; resume with "
         "the options the run was started with",
         name, fmt::join(value.sizes().vec(), ", "));
  }
  at::NoGradGuard no_grad;
  std::copy(found->second.values.begin(), found->second.values.end(), value.data_ptr<float>());
}

}  // namespace

Trainer::Trainer(const TrainOptions& options, TrainObserver& observer) : options_(options), observer_(observer) {
  ValidateTrainOptions(options_);
  at::set_num_threads(options_.threads);
  file_ = GgufFile::Open(options_.model_path);
  lock_ = std::make_unique<RunLock>(options_.run_directory);
  BuildModel();
}

at::Tensor Trainer::Batch(int64_t first_sequence, int64_t count) {
  Tensor tokens = at::empty({count, options_.sequence_length}, at::kLong);
  for (int64_t i = 0; i < count; ++i) {
    const std::vector<int32_t> ids = data_->Sequence(first_sequence + i);
    std::copy(ids.begin(), ids.end(), tokens.data_ptr<int64_t>() + i * options_.sequence_length);
  }
  return tokens;
}

void Trainer::BuildModel() {
  observer_.OnMessage("reading " + options_.model_path);
  base_ = LoadBaseModel(*file_, options_.float32 ? at::kFloat : at::kBFloat16, options_.sequence_length);
  const auto tokenizer = Tokenizer::FromGguf(*file_);
  data_ = std::make_unique<TrainData>(options_.sources, *tokenizer, options_.sequence_length, options_.seed);
  observer_.OnMessage(
      fmt::format("{} sequences of {} tokens per epoch", data_->sequences_per_epoch(), options_.sequence_length));
  if (!options_.resume && HasCheckpoints(options_.run_directory)) {
    Fail(ErrorCode::kInvalidArgument,
         "[{}] run directory: expected one without checkpoints for a new run, found some; pass --resume to go on, or "
         "name another directory",
         options_.run_directory);
  }
  if (!options_.resume || !Resume()) StartFresh();
  if (!options_.heldout_sources.empty()) {
    TrainData heldout(options_.heldout_sources, *tokenizer, options_.sequence_length, 0);
    const auto sequences = heldout.InTurn(options_.eval_sequences);
    Tensor tokens = at::empty({options_.eval_sequences, options_.sequence_length}, at::kLong);
    for (size_t i = 0; i < sequences.size(); ++i) {
      std::copy(sequences[i].begin(), sequences[i].end(),
                tokens.data_ptr<int64_t>() + static_cast<int64_t>(i) * options_.sequence_length);
    }
    evaluator_ = std::make_unique<Evaluator>(*model_, *cost_, tokens, options_);
  }
}

AdapterConfig Trainer::StartConfig() const {
  const ModelConfig& c = base_.config;
  AdapterConfig config;
  config.base_model_name = c.name;
  config.base_fingerprint = file_->Fingerprint();
  config.architecture = c.architecture;
  config.num_layers = c.num_layers;
  config.hidden_size = c.hidden_size;
  config.gate_kind = options_.gate_kind;
  config.gate_rank = options_.gate_kind == GateKind::kLowRank ? options_.gate_rank : 0;
  config.multiply_output = options_.multiply_output;
  config.kv_rule = options_.kv_rule;
  config.gated.assign(static_cast<size_t>(c.num_branches()), true);
  config.always_run_positions = options_.always_run_positions;
  config.skip_rank = options_.skip_rank;
  config.lora_rank = options_.lora_targets.empty() ? 0 : options_.lora_rank;
  config.lora_alpha = config.lora_rank > 0 ? options_.lora_alpha : 0.0F;
  if (config.lora_rank > 0) config.lora_targets = options_.lora_targets;
  return config;
}

void Trainer::StartFresh() {
  const ModelConfig& c = base_.config;
  const AdapterConfig config = StartConfig();
  model_ = std::make_unique<GatedModel>(base_, config, options_.seed);
  observer_.OnMessage("fitting skip paths");
  FitSkipPaths(*model_, Batch(0, options_.fit_sequences), options_.fit_ridge);
  observer_.OnMessage("measuring the prior");
  const CostModel all_gated(DimsOf(c), config);
  const Prior prior = MeasurePrior(*model_, Batch(options_.fit_sequences, options_.prior_sequences), all_gated,
                                   options_, [&](const std::string& m) { observer_.OnMessage(m); });
  ApplyPrior(*model_, prior);
  cost_ = std::make_unique<CostModel>(DimsOf(c), model_->config());
  optimizer_ = std::make_unique<AdamW>(model_->parameters(), options_);
  Log(Json({{"event", "start"},
            {"model", c.name},
            {"rise", prior.rise},
            {"score", prior.score},
            {"gated", prior.gated},
            {"data_sha256", data_->sha256()},
            {"options", OptionsJson(options_)},
            {"changed", ChangedOptions(options_)}})
          .dump());
  InitialThresholds();
}

void Trainer::InitialThresholds() {
  at::NoGradGuard no_grad;
  const Tensor tokens = Batch(0, options_.batch_sequences);
  Decisions decisions;
  decisions.kind = Decisions::Kind::kThresholds;
  decisions.thresholds.assign(static_cast<size_t>(options_.batch_sequences), -std::numeric_limits<float>::infinity());
  decisions.noise = NoiseScale();
  decisions.noise_seed = options_.seed;
  decisions.noise_index = std::numeric_limits<uint64_t>::max() / 8192;
  ForwardTrace trace;
  model_->Forward(tokens, decisions, true, &trace);
  std::vector<BranchLogits> logits;
  for (int64_t s = 0; s < options_.batch_sequences; ++s) {
    for (const BranchLogits& b : SequenceLogits(trace, s, options_.sequence_length, options_.always_run_positions)) {
      logits.push_back(b);
    }
  }
  double last = 0;
  for (int i = 0; i < ThresholdCurve::kPoints; ++i) {
    const double exact = SolveThreshold(*cost_, options_.kv_rule, logits, tokens.numel(), i * ThresholdCurve::kSpacing);
    if (std::isfinite(exact)) last = exact;
    curve_.Set(i, last);
  }
}

double Trainer::NoiseScale() const {
  const double t = options_.steps > 0 ? static_cast<double>(step_) / options_.steps : 0.0;
  return options_.temperature * (1.0 - (1.0 - options_.noise_final) * t);
}

std::vector<double> Trainer::DrawBudgets(int micro) const {
  const int n = options_.batch_sequences;
  std::vector<double> budgets(static_cast<size_t>(n), 0.0);
  if (options_.dense_every > 0 && step_ % options_.dense_every == options_.dense_every - 1) return budgets;
  Random random(
      options_.seed, Stream::kBudget,
      static_cast<uint64_t>(step_) * static_cast<uint64_t>(options_.accumulation_steps) + static_cast<uint64_t>(micro));
  for (int i = 0; i < n; ++i) {
    const double u = (i + random.Uniform()) / n;
    budgets[static_cast<size_t>(i)] = options_.min_budget + u * (options_.max_budget - options_.min_budget);
  }
  return budgets;
}

void Trainer::MicroStep(int micro, StepResult& result) {
  const int64_t batch = options_.batch_sequences;
  const int64_t length = options_.sequence_length;
  const int64_t index = static_cast<int64_t>(step_) * options_.accumulation_steps + micro;
  const Tensor tokens = Batch(index * batch, batch);
  const std::vector<double> budgets = DrawBudgets(micro);

  // A random share of the positions of every sequence, ascending.
  const auto wanted = std::max<int64_t>(1, static_cast<int64_t>(options_.loss_positions * static_cast<double>(length)));
  std::vector<int64_t> picked;
  for (int64_t s = 0; s < batch; ++s) {
    auto order =
        Permutation(length, Random(options_.seed, Stream::kPositions, static_cast<uint64_t>(index * batch + s)));
    order.resize(static_cast<size_t>(wanted));
    std::sort(order.begin(), order.end());
    for (const int64_t t : order) picked.push_back(s * length + t);
  }
  const Tensor rows = at::tensor(picked, at::kLong);
  Tensor targets = at::empty({rows.size(0)}, at::kInt);
  for (size_t i = 0; i < picked.size(); ++i) {
    targets.data_ptr<int32_t>()[i] =
        picked[i] % length == length - 1 ? -1 : static_cast<int32_t>(tokens.data_ptr<int64_t>()[picked[i] + 1]);
  }

  Tensor teacher;
  {
    at::NoGradGuard no_grad;
    teacher = model_->Logits(model_->Forward(tokens, Decisions(), false, nullptr), rows);
  }
  Decisions decisions;
  decisions.kind = Decisions::Kind::kThresholds;
  decisions.temperature = options_.temperature;
  decisions.noise = NoiseScale();
  decisions.noise_seed = options_.seed;
  decisions.noise_index = static_cast<uint64_t>(index);
  for (const double budget : budgets) {
    decisions.thresholds.push_back(static_cast<float>(budget > 0 ? curve_.At(budget) : -kInfinity));
  }
  model_->Refresh();
  ForwardTrace trace;
  const Tensor hidden = model_->Forward(tokens, decisions, true, &trace);
  double kl = 0;
  double nll = 0;
  Tensor loss =
      DistillLoss(model_->Logits(hidden, rows), teacher, targets, options_.kl_weight, options_.ce_weight, kl, nll);
  if (options_.gate_l2 > 0) loss = loss + options_.gate_l2 * trace.gate_l2;
  if (options_.gate_kind == GateKind::kVector) loss = loss + options_.head_weight * trace.head_loss;
  const auto value = static_cast<double>(loss.item<float>());
  const double share = 1.0 / options_.accumulation_steps;
  result.loss += share * value;
  result.kl += share * kl / static_cast<double>(rows.size(0));
  result.nll += share * nll / static_cast<double>(rows.size(0));
  if (!std::isfinite(value)) {
    result.finite = false;
    return;
  }
  (options_.accumulation_steps > 1 ? loss * share : loss).backward();
  for (int64_t s = 0; s < batch; ++s) {
    const double budget = budgets[static_cast<size_t>(s)];
    result.requested += share * budget / static_cast<double>(batch);
    result.realised += share * RealisedSaving(trace, *cost_, options_.kv_rule, s, length) / static_cast<double>(batch);
    if (budget <= 0) continue;
    const auto logits = SequenceLogits(trace, s, length, options_.always_run_positions);
    curve_.Update(budget, SolveThreshold(*cost_, options_.kv_rule, logits, length, budget),
                  options_.threshold_rate / static_cast<double>(batch));
  }
}

Trainer::StepResult Trainer::ForwardBackward() {
  StepResult result;
  for (int micro = 0; micro < options_.accumulation_steps && result.finite; ++micro) MicroStep(micro, result);
  return result;
}

TrainOutcome Trainer::Run() {
  if (step_ == 0) Evaluate();
  const auto run_start = std::chrono::steady_clock::now();
  double average_rate = 0;
  while (step_ < options_.steps) {
    if (observer_.Cancelled()) {
      Save();
      return TrainOutcome::kCancelled;
    }
    const auto start = std::chrono::steady_clock::now();
    const double rate = LearningRateAt(options_, step_);
    const StepResult result = ForwardBackward();
    const double norm = result.finite ? optimizer_->GradientNorm() : std::numeric_limits<double>::quiet_NaN();
    if (std::isfinite(norm)) {
      bad_run_ = 0;
      optimizer_->Step(rate, norm > options_.clip_norm ? options_.clip_norm / norm : 1.0);
    } else {
      optimizer_->ClearGradients();
      ++bad_steps_;
      if (++bad_run_ >= options_.max_bad_steps) {
        Fail(ErrorCode::kInternal,
             "[train] step {}: expected a finite loss and gradient, found none in {} steps in a "
             "row; lower the learning rates and resume from the last checkpoint",
             step_ + 1, bad_run_);
      }
    }
    ++step_;
    const int64_t step_tokens =
        int64_t{options_.accumulation_steps} * options_.batch_sequences * options_.sequence_length;
    tokens_ += step_tokens;
    const double seconds = SecondsSince(start);
    const double speed = static_cast<double>(step_tokens) / seconds;
    average_rate = average_rate == 0 ? speed : 0.95 * average_rate + 0.05 * speed;
    observer_.OnStep({.step = step_,
                      .steps = options_.steps,
                      .loss = result.loss,
                      .learning_rate = rate,
                      .gradient_norm = norm,
                      .requested_saving = result.requested,
                      .realised_saving = result.realised,
                      .tokens_per_second = average_rate,
                      .tokens = tokens_,
                      .bad_steps = bad_steps_});
    Log(Json({{"event", "step"},
              {"step", step_},
              {"loss", result.loss},
              {"kl", result.kl},
              {"nll", result.nll},
              {"rate", rate},
              {"gradient_norm", norm},
              {"requested_saving", result.requested},
              {"realised_saving", result.realised},
              {"tokens_per_second", speed},
              {"tokens", tokens_},
              {"seconds", SecondsSince(run_start)},
              {"bad_steps", bad_steps_}})
            .dump());
    if (options_.eval_every > 0 && step_ % options_.eval_every == 0 && step_ < options_.steps) Evaluate();
    if (step_ % options_.checkpoint_every == 0 && step_ < options_.steps) Save();
  }
  if (options_.steps > 0) Save();
  Evaluate();
  WriteFinalAdapter();
  return TrainOutcome::kFinished;
}

void Trainer::Evaluate() {
  if (!evaluator_) return;
  const TrainEvaluation e = evaluator_->Run(step_);
  Log(Json({{"event", "eval"},
            {"step", step_},
            {"tokens", tokens_},
            {"base_nll", e.base_nll},
            {"budgets", e.budgets},
            {"nll", e.nll},
            {"net_saving", e.net_saving}})
          .dump());
  observer_.OnEvaluation(e);
}

void Trainer::Log(const std::string& json_line) {
  const std::string path = (std::filesystem::path(options_.run_directory) / "log.jsonl").string();
  std::ofstream out(path, std::ios::app);
  out << json_line << '\n';
}

std::string Trainer::OptionsHash() const {
  Json mixture = Json::array();  // data_->sha256() is of the tokens alone
  for (const TrainSource& s : options_.sources) mixture.push_back({s.weight, s.begin, s.end});
  const std::string text = OptionsJson(options_).dump() + mixture.dump() + file_->Fingerprint() + data_->sha256();
  return Sha256Hex(std::as_bytes(std::span<const char>(text)));
}

std::string Trainer::StateJson() const {
  return Json({{"step", step_},
               {"tokens", tokens_},
               {"bad_steps", bad_steps_},
               {"bad_run", bad_run_},
               {"updates", optimizer_->updates()},
               {"threshold_curve", curve_.values()},
               {"gated", model_->config().gated},
               {"seed", options_.seed},
               {"options_hash", OptionsHash()},
               {"options", OptionsJson(options_)}})
      .dump(1);
}

void Trainer::Save() {
  Checkpoint checkpoint;
  checkpoint.step = step_;
  checkpoint.state_json = StateJson();
  const auto& parameters = model_->parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    checkpoint.tensors[parameters[i].name] = ToCheckpoint(parameters[i].value);
    checkpoint.tensors["adam_m." + parameters[i].name] = ToCheckpoint(optimizer_->first_moments()[i]);
    checkpoint.tensors["adam_v." + parameters[i].name] = ToCheckpoint(optimizer_->second_moments()[i]);
  }
  WriteCheckpoint(checkpoint, options_.run_directory, options_.keep_checkpoints);
}

void Trainer::WriteFinalAdapter() {
  if (options_.adapter_directory.empty()) return;
  Adapter adapter = model_->ToAdapter();
  // Everything runs until `gateskip calibrate` fills the grid: importance is never below 0.
  adapter.config.budgets = {0.0};
  adapter.config.thresholds = {std::vector<float>(static_cast<size_t>(model_->num_branches()), -1.0F)};
  adapter.config.realised_net_saving = {0.0};
  Json sources = Json::array();
  for (const TrainSource& s : options_.sources) {
    sources.push_back({{"file", std::filesystem::path(s.path).filename().string()},
                       {"weight", s.weight},
                       {"begin", s.begin},
                       {"end", s.end}});
  }
  adapter.config.training_json = Json({{"options", OptionsJson(options_)},
                                       {"sources", sources},
                                       {"tokens", tokens_},
                                       {"data_sha256", data_->sha256()},
                                       {"bad_steps", bad_steps_}})
                                     .dump();
  WriteAdapter(adapter, options_.adapter_directory, true);
  observer_.OnMessage("adapter written to " + options_.adapter_directory);
}

void Trainer::Restore(const Checkpoint& checkpoint) {
  const Json state = Json::parse(checkpoint.state_json);
  if (state.at("options_hash").get<std::string>() != OptionsHash()) {
    Fail(ErrorCode::kMismatch,
         "[{}] checkpoint of step {}: expected the options, base model and text it was started "
         "with, found others; pass the same ones or start a new run directory",
         options_.run_directory, checkpoint.step);
  }
  const ModelConfig& c = base_.config;
  AdapterConfig config = StartConfig();
  config.gated = state.at("gated").get<std::vector<bool>>();
  model_ = std::make_unique<GatedModel>(base_, config, options_.seed);
  cost_ = std::make_unique<CostModel>(DimsOf(c), config);
  optimizer_ = std::make_unique<AdamW>(model_->parameters(), options_);
  auto& parameters = model_->parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    FromCheckpoint(checkpoint, parameters[i].name, parameters[i].value);
    FromCheckpoint(checkpoint, "adam_m." + parameters[i].name, optimizer_->first_moments()[i]);
    FromCheckpoint(checkpoint, "adam_v." + parameters[i].name, optimizer_->second_moments()[i]);
  }
  model_->Refresh();
  step_ = state.at("step").get<int>();
  tokens_ = state.at("tokens").get<int64_t>();
  bad_steps_ = state.at("bad_steps").get<int>();
  bad_run_ = state.at("bad_run").get<int>();
  optimizer_->set_updates(state.at("updates").get<int64_t>());
  curve_.values() = state.at("threshold_curve").get<std::vector<double>>();
}

bool Trainer::Resume() {
  const auto checkpoint =
      ReadNewestCheckpoint(options_.run_directory, [&](const std::string& m) { observer_.OnMessage(m); });
  if (!checkpoint) return false;
  try {
    Restore(*checkpoint);
  } catch (const Json::exception& e) {
    Fail(ErrorCode::kCorruptData, "[{}] state of step {}: expected the fields of a checkpoint, found: {}; remove it",
         options_.run_directory, checkpoint->step, e.what());
  }
  observer_.OnMessage(fmt::format("resumed at step {}", step_));
  return true;
}

}  // namespace gateskip::train

namespace gateskip {

TrainOutcome Train(const TrainOptions& options, TrainObserver& observer) {
  try {
    return train::Trainer(options, observer).Run();
  } catch (const c10::Error& e) {
    Fail(ErrorCode::kInternal, "[train] LibTorch: expected the step to run, found: {}; please report this",
         e.what_without_backtrace());
  }
}

}  // namespace gateskip
