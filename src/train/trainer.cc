// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "train/samples.h"
#include "train/step_exchange.h"

namespace gateskip::train {
namespace {

using Json = nlohmann::json;
constexpr int kBranchLogEvery = 20;  // steps

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void AddTo(std::vector<double>& sums, const std::vector<double>& values) {
  sums.resize(values.size(), 0.0);
  for (size_t i = 0; i < values.size(); ++i) sums[i] += values[i];
}

}  // namespace

TrainOutcome Trainer::Run() {
  try {
    return RunSteps();
  } catch (const Error& e) {
    group_->GiveUp(e.what());
    throw;
  }
}

TrainOutcome Trainer::RunSteps() {
  if (step_ == 0) Evaluate();
  const auto start = std::chrono::steady_clock::now();
  while (step_ < options_.steps && !NotBetterForLong()) {
    if (!group_->AgreeAll("whether to go on", !observer_.Cancelled())) {
      Save();
      group_->Leave();
      return TrainOutcome::kCancelled;
    }
    Step(SecondsSince(start));
    if (step_ % kBranchLogEvery == 0 || step_ == options_.steps) LogBranches();
    if (options_.eval_every > 0 && step_ % options_.eval_every == 0 && step_ < options_.steps) Evaluate();
    if (step_ % options_.checkpoint_every == 0 && step_ < options_.steps) SaveOrGoOn();
  }
  if (step_ < options_.steps) {
    Say(fmt::format("stopped early: no better held-out loss since step {}", best_step_));
  }
  Evaluate();
  if (options_.steps > 0) SaveOrGoOn();
  if (is_main()) WriteResults();
  group_->Leave();
  return TrainOutcome::kFinished;
}

void Trainer::Step(double seconds_so_far) {
  const auto start = std::chrono::steady_clock::now();
  const double rate = LearningRateAt(options_, step_);
  const MicroStepResult result = ForwardBackward();
  // On every rank the same: the gradients are.
  const double norm =
      std::isfinite(result.loss) ? optimizer_->GradientNorm() : std::numeric_limits<double>::quiet_NaN();
  const std::string refusal = guard_.Refuses(result.loss, norm);
  if (refusal.empty()) {
    optimizer_->Step(rate, norm > options_.clip_norm ? options_.clip_norm / norm : 1.0);
    const double share = 1.0 / (static_cast<double>(options_.batch_sequences) * options_.accumulation_steps);
    for (const auto& [budget, exact] : result.thresholds) curve_.Update(budget, exact, options_.threshold_rate * share);
  } else {
    optimizer_->ClearGradients();
    Log({{"event", "bad_step"}, {"step", step_ + 1}, {"reason", refusal}, {"loss", result.loss}});
    if (guard_.in_a_row() >= options_.max_bad_steps) {
      Fail(ErrorCode::kInternal,
           "[train] step {}: expected a good loss and gradient, found {} steps in a row without ({}); lower the "
           "learning rates and resume from the last checkpoint",
           step_ + 1, guard_.in_a_row(), refusal);
    }
  }
  ++step_;
  const int64_t step_tokens =
      int64_t{options_.accumulation_steps} * options_.batch_sequences * options_.sequence_length;
  tokens_ += step_tokens;
  const double seconds = SecondsSince(start);
  const double speed = static_cast<double>(step_tokens) / seconds;
  average_rate_ = average_rate_ == 0 ? speed : 0.95 * average_rate_ + 0.05 * speed;
  const TrainProgress progress = {.step = step_,
                                  .steps = options_.steps,
                                  .loss = result.loss,
                                  .learning_rate = rate,
                                  .gradient_norm = norm,
                                  .requested_saving = result.requested,
                                  .realised_saving = result.realised,
                                  .tokens_per_second = average_rate_,
                                  .tokens = tokens_,
                                  .bad_steps = guard_.total()};
  if (is_main()) observer_.OnStep(progress);
  Log({{"event", "step"},
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
       {"seconds", seconds_so_far + seconds},
       {"bad_steps", guard_.total()}});
  if (EventFile* events = Events()) {
    events->Scalar("loss/train", step_, result.loss);
    events->Scalar("loss/kl", step_, result.kl);
    events->Scalar("loss/nll", step_, result.nll);
    events->Scalar("optimizer/rate", step_, rate);
    events->Scalar("optimizer/gradient_norm", step_, norm);
    events->Scalar("optimizer/bad_steps", step_, guard_.total());
    events->Scalar("saving/requested", step_, result.requested);
    events->Scalar("saving/realised", step_, result.realised);
    events->Scalar("speed/tokens_per_second", step_, speed);
  }
}

EventFile* Trainer::Events() {
  if (is_main() && options_.tensorboard && !events_)
    events_ = std::make_unique<EventFile>(options_.run_directory, step_);
  return events_.get();
}

MicroStepResult Trainer::ForwardBackward() {
  const int micro_steps = options_.accumulation_steps;
  const double share = 1.0 / micro_steps;
  std::vector<MicroStepResult> own;
  for (int micro = group_->rank(); micro < micro_steps; micro += group_->size()) {
    const int64_t index = static_cast<int64_t>(step_) * micro_steps + micro;
    const TrainBatch batch = Batch(index * options_.batch_sequences, options_.batch_sequences);
    own.push_back(micro_step_->Run(batch, step_, micro, curve_, share));
  }
  MicroStepResult mean;
  for (const MicroStepResult& result : GatherResults(*group_, own, micro_steps)) {
    mean.loss += share * result.loss;
    mean.kl += share * result.kl;
    mean.nll += share * result.nll;
    mean.requested += share * result.requested;
    mean.realised += share * result.realised;
    mean.thresholds.insert(mean.thresholds.end(), result.thresholds.begin(), result.thresholds.end());
    CountBranches(result);
  }
  if (std::isfinite(mean.loss)) SumGradients(*group_, model_->parameters());
  return mean;
}

void Trainer::CountBranches(const MicroStepResult& result) {
  if (result.run_share.empty() || !std::isfinite(result.loss)) return;
  AddTo(branches_.run_share, result.run_share);
  branches_.gate_mean.resize(result.gate_mean.size(), 0.0);
  branches_.gate_count.resize(result.gate_mean.size(), 0);
  for (size_t b = 0; b < result.gate_mean.size(); ++b) {
    if (std::isnan(result.gate_mean[b])) continue;
    branches_.gate_mean[b] += result.gate_mean[b];
    ++branches_.gate_count[b];
  }
  ++branches_.count;
}

void Trainer::LogBranches() {
  if (branches_.count == 0) return;
  Json run_share = Json::array();
  Json gate_mean = Json::array();
  std::vector<float> shares;
  std::vector<float> means;
  for (size_t b = 0; b < branches_.run_share.size(); ++b) {
    run_share.push_back(branches_.run_share[b] / branches_.count);
    const int n = branches_.gate_count[b];
    gate_mean.push_back(n > 0 ? Json(branches_.gate_mean[b] / n) : Json());
    shares.push_back(run_share.back().get<float>());
    if (n > 0) means.push_back(gate_mean.back().get<float>());
  }
  if (EventFile* events = Events()) {
    events->Histogram("branches/run_share", step_, shares);
    events->Histogram("branches/gate_mean", step_, means);
    events->Flush();
  }
  Log({{"event", "branches"}, {"step", step_}, {"run_share", run_share}, {"gate_mean", gate_mean}});
  branches_ = {};
}

void Trainer::Evaluate() {
  if (!options_.heldout_sources.empty()) {
    double loss = 0;
    TrainEvaluation e;
    if (is_main()) {
      e = evaluator_->Run(step_);
      loss = std::accumulate(e.nll.begin(), e.nll.end(), 0.0) / static_cast<double>(e.nll.size());
    }
    loss = group_->AllGather("an evaluation", std::vector<double>{loss})[0][0];
    const bool better = loss < best_loss_;
    not_better_ = better ? 0 : not_better_ + 1;
    if (better) {
      best_loss_ = loss;
      best_step_ = step_;
    }
    if (is_main()) Report(e);
    if (better && step_ > 0 && step_ < options_.steps && step_ % options_.checkpoint_every != 0) SaveOrGoOn();
  }
  if (is_main()) WriteSamples();
}

void Trainer::Report(const TrainEvaluation& e) {
  Log({{"event", "eval"},
       {"step", step_},
       {"tokens", tokens_},
       {"base_nll", e.base_nll},
       {"budgets", e.budgets},
       {"nll", e.nll},
       {"net_saving", e.net_saving}});
  if (EventFile* events = Events()) {
    events->Scalar("heldout/nll_ungated", step_, e.base_nll);
    for (size_t i = 0; i < e.budgets.size(); ++i) {
      events->Scalar(fmt::format("heldout/nll_{:g}", e.budgets[i] * 100), step_, e.nll[i]);
    }
    events->Flush();
  }
  observer_.OnEvaluation(e);
}

bool Trainer::NotBetterForLong() const { return options_.early_stop > 0 && not_better_ >= options_.early_stop; }

void Trainer::WriteSamples() {
  Decisions decisions;
  if (options_.sample_budget > 0) decisions = micro_step_->AtBudget(options_.sample_budget, curve_);
  for (const std::string& prompt : options_.sample_prompts) {
    const std::string text =
        GreedyContinuation(*model_, *tokenizer_, prompt, options_.sample_tokens, options_.sequence_length, decisions);
    Log({{"event", "sample"}, {"step", step_}, {"budget", options_.sample_budget}, {"prompt", prompt}, {"text", text}});
    observer_.OnSample({step_, options_.sample_budget, prompt, text});
  }
}

void Trainer::Say(const std::string& message) const {
  if (is_main()) observer_.OnMessage(message);
}

void Trainer::Log(const Json& event) {
  if (!is_main()) return;
  const std::string path = (std::filesystem::path(options_.run_directory) / "log.jsonl").string();
  std::ofstream out(path, std::ios::app);
  out << event.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
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
