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
#include "text/document_encoder.h"

namespace gateskip {

// A text file (.txt, .md and any other name) or records (.jsonl, .json): chats, texts, or prompts with their answers;
// text/document.h has the columns, docs/training_data.md the rules.
struct TrainSource {
  std::string path;
  double weight = 1.0;  // share of the training sequences, relative to the other sources
  double begin = 0.0;   // the part of the file that is used, as shares of its documents in file order
  double end = 1.0;
  RecordFields fields = {};  // columns of records under other names
};

// How documents become sequences of equal length.
enum class Packing {
  kMasked,  // back to back; attention and positions stay within a document, a long one goes on in another sequence
  kJoined,  // back to back as one stream: attention crosses documents, positions run through
  kNone,    // one document per sequence, cut to its length or padded
};

// How the rows of a step are chosen to skip.
enum class DecisionRule {
  kThreshold,  // z > the running threshold of the sequence's budget, one for all branches: what the runtime does
  kQuantile,   // importance > the quantile of its branch over the rows of the micro-step: the paper's, not causal
  // No gate decides: a layer is drawn for each sequence, above which nothing runs, so that the sequence's budget is met
  // on average. It trains a model whose every layer may be the last one; no branch is gated.
  kExit,
};

enum class BudgetSchedule {
  kSample,  // drawn uniformly from [min_budget, max_budget] per sequence, stratified over the batch
  kLinear,  // rises from min_budget at the first step to max_budget at the last: the paper's
};

enum class LearningRateSchedule { kCosine, kLinear, kConstant };

// What a checkpoint that cannot be written (full disk, quota, I/O error) does to the run. One that a signal asks for is
// always an error.
enum class OnSaveError {
  kStop,  // ends it with the error
  kGoOn,  // is reported and counted; the next interval tries again
};

enum class TrainedModelType { kBf16, kF16, kF32 };

// Every option, with its flag, its key in a configuration file, its range and its help, is a row of
// option_table.cc; the defaults here are those of the preset `fast-cpu`.
struct TrainOptions {
  // What is trained, on what, into what.
  std::string model_path;                    // the base: a GGUF or a hub-style directory
  std::vector<TrainSource> sources;          // training text
  std::vector<TrainSource> heldout_sources;  // never trained on; empty = no held-out evaluation
  std::string run_directory;                 // checkpoints, caches and log.jsonl
  std::string adapter_directory;             // written at the end; empty = not written
  // The model with the trained base weights, a GGUF if the name ends so, else a hub-style directory; written at the
  // end, needed when train_base names some. The adapter then belongs to it.
  std::string trained_model_path;
  TrainedModelType trained_model_type = TrainedModelType::kBf16;  // of its matrices
  bool resume = false;  // go on from the newest valid checkpoint of run_directory
  uint64_t seed = 1;
  int threads = 2;  // of one rank
  // Seconds: of silence after which a rank counts as dead; that the others wait for one that answers but works; until
  // all ranks are there at the start.
  double rank_time_out = 60;
  double rank_work_time_out = 1800;
  double rank_join_time_out = 300;
  std::string device = "cpu";
  bool float32 = false;  // compute in f32 instead of bf16 (norms, softmax and the residual are always f32)
  bool activation_checkpointing = false;  // keep only each layer's input and run the layer again for its gradient
  // Base parameters that are trained beside the adapter's: "" none, "all", or a regular expression (RE2) that
  // matches whole GGUF tensor names, "blk\\.2[0-9]\\.ffn_.*".
  std::string train_base;

  // The text.
  std::vector<std::string> columns;  // "prompt=query": names for the sources that have none of their own
  Packing packing = Packing::kMasked;
  PairFormat pair_format = PairFormat::kMixed;
  bool loss_on_prompts = false;               // prompts and the turns of others are in the loss, too
  bool strict_data = false;                   // a bad row ends the run; otherwise it is counted, named and left out
  int64_t max_row_bytes = int64_t{64} << 20;  // of a line of records; a longer one is a bad row

  // The adapter.
  GateKind gate_kind = GateKind::kScalar;
  int gate_rank = 8;         // low_rank and mlp only
  bool gate_shared = false;  // one set of gate matrices for all attention branches and one for all MLP branches
  GateProduct gate_product = GateProduct::kNone;
  GateScope gate_scope = GateScope::kBranch;
  std::string gated_branches = "all";  // all, attn or mlp: the kind of branches that get gates; the others always run
  std::string gated_layers = ":";      // layers whose branches get gates, as gate/layer_list.h reads them
  std::string always_run_layers;       // layers that get none, whatever gated_layers says
  KvRule kv_rule = KvRule::kCompute;
  int skip_rank = 32;  // -1: nothing is added for a skipped row; 0: a bias only
  int lora_rank = 8;   // 0 = none
  float lora_alpha = 16.0F;
  std::vector<std::string> lora_targets = {"attn_output", "ffn_down"};
  int always_run_positions = 1;

  // The start: skip paths by ridge regression, gate biases by a leave-one-out prior.
  int fit_sequences = 32;
  double fit_ridge = 1e-2;  // relative to the mean diagonal of H^T H
  bool prior = true;        // false: every gate starts open, with the paper's bias of 5
  int prior_sequences = 2;
  double prior_step = 0.05;     // net saving by which the pruned model grows between measurements
  double prior_saving = 0.5;    // and where it stops; 0: leave-one-out from the dense model only
  int prior_candidates = 16;    // how many branches are measured again in each round
  double essential_rise = 0.5;  // nats; a branch whose loss alone costs more is never gated

  // Steps.
  int steps = 1000;
  int sequence_length = 512;
  int batch_sequences = 4;     // per micro-step
  int accumulation_steps = 1;  // micro-steps per optimizer step, of each rank
  DecisionRule decision_rule = DecisionRule::kThreshold;
  BudgetSchedule budget_schedule = BudgetSchedule::kSample;
  double min_budget = 0.05;
  double max_budget = 0.5;
  int dense_every = 6;           // every n-th step skips nothing; 0 = never
  bool straight_through = true;  // false: the gates learn from their product and their penalties only
  double temperature = 0.3;      // of the straight-through sigmoid and of the logistic noise on the decision
  double noise = 1.0;            // scale of that noise; 0 = none
  double noise_final = 0.25;     // the noise shrinks linearly to this share of it
  double threshold_rate = 0.3;   // how fast the running threshold of a budget follows what would have met it

  // Loss = KL(ungated || gated) + ce_weight CE + penalties, on a random share of the positions. The penalties are
  // means over gated branches of penalty_layers of: mean(g^2), mean(g), KL(Bernoulli(gate_target) || mean(g)).
  double kl_weight = 1.0;
  double ce_weight = 0.0;
  double gate_l2 = 0.0;
  double gate_l1 = 0.0;
  double gate_kl = 0.0;
  double gate_target = 0.8;
  std::string penalty_layers = ":";  // Python-like slices and lists: ":", "4:20", "0,1,8::2"
  double head_weight = 1.0;          // vector gates: BCE of the distilled decision head
  double loss_positions = 0.5;

  // AdamW.
  double gate_learning_rate = 1e-3;
  double gate_bias_learning_rate = 2e-3;
  double skip_learning_rate = 5e-4;
  double lora_learning_rate = 1e-3;
  double base_learning_rate = 1e-5;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.001;  // decoupled, of matrices only
  double clip_norm = 1.0;
  LearningRateSchedule schedule = LearningRateSchedule::kCosine;
  int warmup_steps = 30;
  double final_learning_rate = 0.05;  // share of the peak at the last step
  // A step with a non-finite loss or gradient, or with a loss above loss_spike times the largest of the last 50 good
  // steps (0: no such guard), is skipped and counted; so many in a row end the run.
  double loss_spike = 5.0;
  int max_bad_steps = 10;

  // Watching and keeping.
  int checkpoint_every = 50;
  int keep_checkpoints = 2;
  OnSaveError on_save_error = OnSaveError::kStop;
  int eval_every = 100;    // 0 = only at the end
  int eval_sequences = 6;  // of sequence_length tokens, spread evenly over the held-out sources
  std::vector<double> eval_budgets = {0.15, 0.25, 0.5};
  int early_stop = 0;       // evaluations in a row without a better mean NLL over the budgets; 0 = never
  bool tensorboard = true;  // event files in run_directory
  std::vector<std::string> sample_prompts;  // continued greedily at every evaluation
  int sample_tokens = 32;
  double sample_budget = 0.25;
};

// TrainOptions::columns as names. Throws Error(kInvalidArgument).
RecordFields ColumnsOf(const std::vector<std::string>& columns);

// Throws Error(kInvalidArgument) naming the first option that is out of range.
void ValidateTrainOptions(const TrainOptions& options);

// [2 * num_layers], the branches that get gates by gated_branches, gated_layers and always_run_layers. Throws
// Error(kInvalidArgument) for a layer that is not there, and when no branch is left.
std::vector<bool> GatedBranches(const TrainOptions& options, int num_layers);

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
  // A greedy continuation of one of sample_prompts.
  virtual void OnSample(const TrainSample& sample) { (void)sample; }
  // Polled between steps; true saves a checkpoint and makes Train() return early without an adapter.
  virtual bool Cancelled() { return false; }
};

enum class TrainOutcome { kFinished, kCancelled };

// Throws Error.
TrainOutcome Train(const TrainOptions& options, TrainObserver& observer);

}  // namespace gateskip
