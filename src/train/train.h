// SPDX-License-Identifier: Apache-2.0
// Training of gates, skip paths and LoRA deltas on a frozen base model: the public door of src/train.
//
// No LibTorch type appears here. The command line loads the trainer as a module (module.cc), so that only
// `gateskip train` needs LibTorch.
// The method is arXiv 2510.13876 with the changes docs/training.md explains and measures.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/adapter.h"

namespace gateskip {

// A text file (.txt, .md: cut into pieces at line ends) or records (.jsonl, .json array: fields `text`, or a
// prompt and an answer under question+answer, prompt+completion or instruction+output).
struct TrainSource {
  std::string path;
  double weight = 1.0;  // share of the training sequences, relative to the other sources
  double begin = 0.0;   // the part of the file that is used, as shares of its documents in file order
  double end = 1.0;
};

struct TrainOptions {
  // What is trained, on what, into what.
  std::string model_path;                    // GGUF, the frozen base
  std::vector<TrainSource> sources;          // training text
  std::vector<TrainSource> heldout_sources;  // never trained on; empty = no held-out evaluation
  std::string run_directory;                 // checkpoints, caches and log.jsonl
  std::string adapter_directory;             // written at the end; empty = not written
  bool resume = false;                       // go on from the newest valid checkpoint of run_directory
  uint64_t seed = 1;
  int threads = 2;
  bool float32 = false;  // compute in f32 instead of bf16 (norms, softmax and the residual are always f32)

  // The adapter.
  GateKind gate_kind = GateKind::kScalar;
  int gate_rank = 8;  // low_rank only
  bool multiply_output = false;
  KvRule kv_rule = KvRule::kCompute;
  int skip_rank = 8;  // -1: nothing is added for a skipped row; 0: a bias only
  int lora_rank = 8;  // 0 = none
  float lora_alpha = 16.0F;
  std::vector<std::string> lora_targets = {"attn_output", "ffn_down"};
  int always_run_positions = 1;

  // The start: skip paths by ridge regression, gate biases by a leave-one-out prior.
  int fit_sequences = 8;
  double fit_ridge = 1e-2;  // relative to the mean diagonal of H^T H
  int prior_sequences = 2;
  double prior_step = 0.05;     // net saving by which the pruned model grows between measurements
  double prior_saving = 0.5;    // and where it stops; 0: leave-one-out from the dense model only
  int prior_candidates = 16;    // how many branches are measured again in each round
  double essential_rise = 0.5;  // nats; a branch whose loss alone costs more is never gated

  // Steps.
  int steps = 1000;
  int sequence_length = 512;
  int batch_sequences = 4;     // per micro-step
  int accumulation_steps = 1;  // micro-steps per optimizer step
  double min_budget = 0.05;    // the budget of each sequence is drawn uniformly, stratified over the batch
  double max_budget = 0.5;
  int dense_every = 6;          // every n-th step skips nothing; 0 = never
  double temperature = 0.3;     // of the straight-through sigmoid and of the logistic noise on the decision
  double noise_final = 0.25;    // the noise shrinks linearly to this share of it
  double threshold_rate = 0.3;  // how fast the running threshold of a budget follows what would have met it

  // Loss = KL(ungated || gated) + ce_weight CE + gate_l2 mean(g^2), on a random share of the positions.
  double kl_weight = 1.0;
  double ce_weight = 0.0;
  double gate_l2 = 0.0;
  double head_weight = 1.0;  // vector gates: BCE of the distilled decision head
  double loss_positions = 0.5;

  // AdamW, cosine schedule with warm-up.
  double gate_learning_rate = 1e-4;
  double gate_bias_learning_rate = 2e-3;
  double skip_learning_rate = 5e-4;
  double lora_learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double weight_decay = 0.001;
  double clip_norm = 1.0;
  int warmup_steps = 30;
  double final_learning_rate = 0.05;  // share of the peak at the last step
  int max_bad_steps = 10;             // consecutive steps with a non-finite loss or gradient before giving up

  // Watching and keeping.
  int checkpoint_every = 50;
  int keep_checkpoints = 2;
  int eval_every = 100;    // 0 = only at the end
  int eval_sequences = 6;  // of sequence_length tokens, spread evenly over the held-out sources
  std::vector<double> eval_budgets = {0.15, 0.25, 0.5};
};

// Throws Error(kInvalidArgument) naming the first option that is out of range.
void ValidateTrainOptions(const TrainOptions& options);

struct TrainProgress {
  int step = 0;  // steps done
  int steps = 0;
  double loss = 0;
  double learning_rate = 0;  // share of the peak rates
  double gradient_norm = 0;
  double requested_saving = 0;  // mean net saving asked for in this step, and what the decisions gave
  double realised_saving = 0;
  double tokens_per_second = 0;
  int64_t tokens = 0;
  int bad_steps = 0;  // skipped for a non-finite loss or gradient, in all
};

struct TrainEvaluation {
  int step = 0;
  double base_nll = 0;             // of the ungated model
  std::vector<double> budgets;     // 0 first, then TrainOptions::eval_budgets
  std::vector<double> nll;         // mean next-token NLL at each
  std::vector<double> net_saving;  // realised
};

struct TrainSample {
  int step = 0;
  double budget = 0;
  std::string prompt;
  std::string text;  // what the gated model made of it at that budget
};

class TrainObserver {
 public:
  virtual ~TrainObserver() = default;
  // A line of progress before the steps start ("fitting skip paths") and at checkpoints.
  virtual void OnMessage(const std::string& message) { (void)message; }
  virtual void OnStep(const TrainProgress& progress) { (void)progress; }
  // The line of the log is written before, so that a report made here holds it.
  virtual void OnEvaluation(const TrainEvaluation& evaluation) { (void)evaluation; }
  virtual void OnSample(const TrainSample& sample) { (void)sample; }
  // Polled between steps; true saves a checkpoint and makes Train() return early without an adapter.
  virtual bool Cancelled() { return false; }
};

enum class TrainOutcome { kFinished, kCancelled };

// Throws Error.
TrainOutcome Train(const TrainOptions& options, TrainObserver& observer);

}  // namespace gateskip
