// SPDX-License-Identifier: Apache-2.0
// `gateskip train`: gates, skip paths and LoRA deltas on a frozen model. The flags are TrainOptions; the defaults
// shown are the ones of train/train.h.
#include "train/train.h"

#include <fmt/format.h>

#include <atomic>
#include <csignal>
#include <memory>

#include "base/check.h"
#include "command.h"
#include "flags.h"
#include "interrupt.h"
#include "terminal.h"
#include "train_console.h"
#include "train_module.h"

namespace gateskip::cli {
namespace {

struct TrainCommand {
  TrainOptions options;
  PathFlags paths;
  std::vector<std::string> sources;
  std::vector<std::string> heldout;
  std::string gate_kind = "scalar";
  std::string kv_rule = "compute";
  std::string lora_targets;
  bool json = false;
};

// "PATH", "PATH@WEIGHT" or "PATH@WEIGHT@BEGIN-END", BEGIN and END as shares of the file's documents.
TrainSource ParseSource(const std::string& name, const std::string& text) {
  TrainSource source;
  const size_t at = text.find('@');
  source.path = text.substr(0, at);
  if (source.path.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[command line] {}: expected PATH[@WEIGHT[@BEGIN-END]], found '{}'", name,
         Printable(text));
  }
  if (at == std::string::npos) return source;
  const size_t second = text.find('@', at + 1);
  source.weight = ParseDouble(name + " weight",
                              text.substr(at + 1, second == std::string::npos ? second : second - at - 1), 1e-6, 1e6);
  if (second == std::string::npos) return source;
  const std::string range = text.substr(second + 1);
  const size_t dash = range.find('-');
  source.begin = ParseDouble(name + " begin", range.substr(0, dash), 0, 1);
  source.end = ParseDouble(name + " end", dash == std::string::npos ? "" : range.substr(dash + 1), 0, 1);
  return source;
}

TrainOptions MakeOptions(const TrainCommand& flags) {
  RequireModel(flags.paths);
  TrainOptions options = flags.options;
  options.model_path = flags.paths.model;
  options.adapter_directory = flags.paths.adapter;
  for (const std::string& s : flags.sources) options.sources.push_back(ParseSource("--data", s));
  for (const std::string& s : flags.heldout) options.heldout_sources.push_back(ParseSource("--heldout", s));
  if (options.sources.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[command line] --data: expected at least one training text, found none");
  }
  if (options.run_directory.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[command line] --run: expected a directory for checkpoints, found none");
  }
  options.gate_kind = flags.gate_kind == "scalar"     ? GateKind::kScalar
                      : flags.gate_kind == "low_rank" ? GateKind::kLowRank
                                                      : GateKind::kVector;
  options.kv_rule = flags.kv_rule == "compute" ? KvRule::kCompute
                    : flags.kv_rule == "copy"  ? KvRule::kCopy
                                               : KvRule::kDrop;
  ValidateTrainOptions(options);
  return options;
}

int Run(const TrainCommand& flags) {
  const TrainOptions options = MakeOptions(flags);
  std::atomic<bool> cancelled{false};
  const InterruptFlag guard(cancelled);
  TrainConsole console(options, flags.json, cancelled);
  const TrainOutcome outcome = RunTrainModule(options, console);
  if (outcome == TrainOutcome::kFinished) {
    if (!options.adapter_directory.empty()) {
      fmt::print(stderr, "adapter written to {}; next: gateskip calibrate\n", Printable(options.adapter_directory));
    }
    return 0;
  }
  fmt::print(stderr, "stopped; a checkpoint is in {}, go on with --resume\n", Printable(options.run_directory));
  // SIGTERM is how schedulers ask for a checkpoint: having written one is success.
  return InterruptSignal() == SIGTERM ? 0 : ExitCode(ErrorCode::kCancelled);
}

void AddAdapterShape(CLI::App& app, TrainCommand* flags) {
  TrainOptions& o = flags->options;
  const std::string group = "Adapter";
  AddChoice(app, "--gate", &flags->gate_kind, {"scalar", "low_rank", "vector"}, "Gate per branch")->group(group);
  AddInt(app, "--gate-rank", &o.gate_rank, 1, 4096, "Rank of low_rank gates")->group(group);
  app.add_flag("--multiply-output", o.multiply_output, "The gate multiplies the branch's output, as in the paper")
      ->group(group);
  AddChoice(app, "--kv-rule", &flags->kv_rule, {"compute", "copy", "drop"}, "K/V of a token that skips attention")
      ->group(group);
  AddInt(app, "--skip-rank", &o.skip_rank, -1, 4096,
         "What a skipped row adds instead: rank of a linear map; 0: a bias; -1: nothing")
      ->group(group);
  AddInt(app, "--lora-rank", &o.lora_rank, 0, 4096, "Rank of the LoRA deltas; 0: none")->group(group);
  AddFloat(app, "--lora-alpha", &o.lora_alpha, 0, 1e6, "Their scale: delta = alpha / rank * B A")->group(group);
  app.add_option("--lora-targets", o.lora_targets, "Matrices with a delta")
      ->type_name("NAME,...")
      ->delimiter(',')
      ->default_str(fmt::format("{}", fmt::join(o.lora_targets, ",")))
      ->group(group);
  AddInt(app, "--always-run", &o.always_run_positions, 0, 4096, "First positions of a sequence that never skip")
      ->group(group);
}

void AddStart(CLI::App& app, TrainOptions* o) {
  const std::string group = "Start";
  AddInt(app, "--fit-sequences", &o->fit_sequences, 0, 1 << 20, "Sequences the skip paths are fitted on")->group(group);
  AddDouble(app, "--fit-ridge", &o->fit_ridge, 0, 1e6, "Ridge, relative to the mean diagonal")->group(group);
  AddInt(app, "--prior-sequences", &o->prior_sequences, 0, 1 << 20, "Sequences of the leave-one-out prior")
      ->group(group);
  AddDouble(app, "--prior-step", &o->prior_step, 1e-3, 1,
            "Net saving by which the pruned model grows between its rounds")
      ->group(group);
  AddDouble(app, "--prior-saving", &o->prior_saving, 0, kHighestBudget,
            "... and where it stops; 0: leave-one-out from the dense model only")
      ->group(group);
  AddInt(app, "--prior-candidates", &o->prior_candidates, 1, 1 << 20, "Branches measured again in each round")
      ->group(group);
  AddDouble(app, "--essential-rise", &o->essential_rise, 0, 1e6,
            "Branches whose loss alone costs more nats are never gated")
      ->group(group);
}

void AddSteps(CLI::App& app, TrainOptions* o) {
  const std::string group = "Steps";
  AddInt(app, "--steps", &o->steps, 0, 1 << 30, "Optimizer steps")->group(group);
  AddInt(app, "--sequence-length", &o->sequence_length, 2, 1 << 20, "Tokens per sequence")->group(group);
  AddInt(app, "--batch", &o->batch_sequences, 1, 1 << 16, "Sequences per micro-step")->group(group);
  AddInt(app, "--accumulation", &o->accumulation_steps, 1, 1 << 16, "Micro-steps per optimizer step")->group(group);
  AddDouble(app, "--min-budget", &o->min_budget, 0, kHighestBudget, "Each sequence draws its budget from")
      ->group(group);
  AddDouble(app, "--max-budget", &o->max_budget, 0, kHighestBudget, "... up to")->group(group);
  AddInt(app, "--dense-every", &o->dense_every, 0, 1 << 30, "Every n-th step skips nothing; 0: never")->group(group);
  AddDouble(app, "--temperature", &o->temperature, 1e-6, 1e6, "Of the straight-through decision and its noise")
      ->group(group);
  AddDouble(app, "--noise-final", &o->noise_final, 0, 1, "Share of the noise left at the last step")->group(group);
  AddDouble(app, "--threshold-rate", &o->threshold_rate, 0, 1, "How fast the running thresholds follow")->group(group);
}

void AddLossAndOptimizer(CLI::App& app, TrainOptions* o) {
  AddDouble(app, "--kl-weight", &o->kl_weight, 0, 1e6, "KL(ungated || gated)")->group("Loss");
  AddDouble(app, "--ce-weight", &o->ce_weight, 0, 1e6, "Cross-entropy")->group("Loss");
  AddDouble(app, "--gate-l2", &o->gate_l2, 0, 1e6, "Mean squared gate, the paper's sparsity loss")->group("Loss");
  AddDouble(app, "--head-weight", &o->head_weight, 0, 1e6, "Distilled decision head of vector gates")->group("Loss");
  AddDouble(app, "--loss-positions", &o->loss_positions, 1e-6, 1, "Share of the positions in the loss")->group("Loss");

  const std::string group = "Optimizer";
  AddDouble(app, "--gate-lr", &o->gate_learning_rate, 0, 1e3, "Peak learning rate of the gates")->group(group);
  AddDouble(app, "--gate-bias-lr", &o->gate_bias_learning_rate, 0, 1e3, "... of their biases")->group(group);
  AddDouble(app, "--skip-lr", &o->skip_learning_rate, 0, 1e3, "... of the skip paths")->group(group);
  AddDouble(app, "--lora-lr", &o->lora_learning_rate, 0, 1e3, "... of the LoRA deltas")->group(group);
  AddDouble(app, "--beta1", &o->beta1, 0, 1, "AdamW")->group(group);
  AddDouble(app, "--beta2", &o->beta2, 0, 1, "AdamW")->group(group);
  AddDouble(app, "--weight-decay", &o->weight_decay, 0, 1e3, "AdamW")->group(group);
  AddDouble(app, "--clip-norm", &o->clip_norm, 0, 1e9, "Largest gradient norm")->group(group);
  AddInt(app, "--warmup", &o->warmup_steps, 0, 1 << 30, "Steps to the peak; a cosine follows")->group(group);
  AddDouble(app, "--final-lr", &o->final_learning_rate, 0, 1, "Share of the peak at the last step")->group(group);
  AddInt(app, "--max-bad-steps", &o->max_bad_steps, 0, 1 << 30, "Consecutive non-finite steps before giving up")
      ->group(group);
}

void AddKeeping(CLI::App& app, TrainOptions* o) {
  const std::string group = "Run";
  app.add_option("--run", o->run_directory, "Checkpoints, caches and log.jsonl")->type_name("DIR")->group(group);
  app.add_flag("--resume", o->resume, "Go on from the newest checkpoint of --run")->group(group);
  AddUint64(app, "--seed", &o->seed, "Seed of everything random")->group(group);
  app.add_flag("--f32", o->float32, "Compute in f32 instead of bf16")->group(group);
  AddInt(app, "--checkpoint-every", &o->checkpoint_every, 1, 1 << 30, "Steps between checkpoints")->group(group);
  AddInt(app, "--keep-checkpoints", &o->keep_checkpoints, 1, 1 << 20, "How many stay")->group(group);
  AddInt(app, "--eval-every", &o->eval_every, 0, 1 << 30, "Steps between evaluations; 0: only at the end")
      ->group(group);
  AddInt(app, "--eval-sequences", &o->eval_sequences, 1, 1 << 20, "Sequences of an evaluation")->group(group);
  AddDoubles(app, "--eval-budgets", &o->eval_budgets, 0, kHighestBudget, "Budgets of an evaluation")->group(group);
}

}  // namespace

void AddTrain(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<TrainCommand>();
  CLI::App* sub = app.add_subcommand("train", "Train gates, skip paths and LoRA deltas on a frozen model");
  AddModelPath(*sub, &flags->paths);
  AddAdapterPath(*sub, &flags->paths, "Where the adapter is written at the end");
  AddInt(*sub, "-t,--threads", &flags->options.threads, 1, 256, "Threads")->envname("GATESKIP_THREADS")->group("Model");
  AddTexts(*sub, "-f,--data", &flags->sources, "SOURCE",
           "Training text, PATH[@WEIGHT[@BEGIN-END]]: .txt, .md, .jsonl or .json; may be repeated")
      ->group("Input");
  AddTexts(*sub, "--heldout", &flags->heldout, "SOURCE", "The same for evaluation; never trained on")->group("Input");
  AddKeeping(*sub, &flags->options);
  AddAdapterShape(*sub, flags.get());
  AddStart(*sub, &flags->options);
  AddSteps(*sub, &flags->options);
  AddLossAndOptimizer(*sub, &flags->options);
  sub->add_flag("--json", flags->json, "Print one JSON object per step on stdout")->group("Output");
  sub->footer(
      "SIGINT and SIGTERM end the run with a checkpoint; --resume continues as if it had not stopped.\n"
      "Example:\n"
      "  gateskip train -m model.gguf -f text.txt@1@0-0.9 --heldout text.txt@1@0.9-1 --run runs/a --adapter "
      "adapters/a");
  sub->callback([flags, &command] { command.run = [flags] { return Run(*flags); }; });
}

}  // namespace gateskip::cli
