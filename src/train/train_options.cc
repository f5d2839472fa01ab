// SPDX-License-Identifier: Apache-2.0
// Ranges of the training options. Built with and without LibTorch.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "gate/layer_list.h"
#include "train/train.h"

namespace gateskip {
namespace {

void Range(const char* name, double value, double low, double high) {
  if (value >= low && value <= high) return;  // NaN fails
  Fail(ErrorCode::kInvalidArgument, "[train] {}: expected a number in [{}, {}], found {}; change the option", name, low,
       high, value);
}

void CheckSources(const std::vector<TrainSource>& sources) {
  for (const TrainSource& source : sources) {
    Range("source weight", source.weight, 1e-6, 1e6);
    Range("source begin", source.begin, 0, 1);
    Range("source end", source.end, source.begin, 1);
  }
}

constexpr int kMostLayers = 512;  // of any model

void CheckGated(const TrainOptions& o) {
  if (o.gated_branches != "all" && o.gated_branches != "attn" && o.gated_branches != "mlp") {
    Fail(ErrorCode::kInvalidArgument, "[train] gated_branches: expected all, attn or mlp, found {}; correct the name",
         o.gated_branches);
  }
  if (o.gate_scope == GateScope::kLayer && o.gated_branches != "all") {
    Fail(ErrorCode::kInvalidArgument,
         "[train] gated_branches: expected all where a gate decides for the layer, found {}; change it or gate_scope",
         o.gated_branches);
  }
  // What the model at hand has is checked once it is known.
  ParseLayers(o.gated_layers, kMostLayers, "gated_layers");
  ParseLayers(o.always_run_layers, kMostLayers, "always_run_layers");
}

}  // namespace

std::vector<bool> GatedBranches(const TrainOptions& options, int num_layers) {
  const std::vector<bool> layers = ParseLayers(options.gated_layers, num_layers, "gated_layers");
  const std::vector<bool> never = ParseLayers(options.always_run_layers, num_layers, "always_run_layers");
  std::vector<bool> gated;
  for (size_t l = 0; l < layers.size(); ++l) {
    gated.push_back(layers[l] && !never[l] && options.gated_branches != "mlp");
    gated.push_back(layers[l] && !never[l] && options.gated_branches != "attn");
  }
  if (std::find(gated.begin(), gated.end(), true) == gated.end()) {
    Fail(ErrorCode::kInvalidArgument,
         "[train] gated_layers: expected to leave a layer that is not in always_run_layers, found {} without {}; "
         "change them",
         options.gated_layers.empty() ? "none" : options.gated_layers,
         options.always_run_layers.empty() ? "any" : options.always_run_layers);
  }
  return gated;
}

void ValidateTrainOptions(const TrainOptions& o) {
  if (o.model_path.empty() || o.run_directory.empty() || o.sources.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "[train] options: expected a model, a run directory and at least one text, found some of them empty; see "
         "`gateskip train --help`");
  }
  CheckSources(o.sources);
  CheckSources(o.heldout_sources);
  constexpr std::array<const char*, 7> kTargets = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                                   "ffn_gate", "ffn_up", "ffn_down"};
  for (const std::string& target : o.lora_targets) {
    if (std::find(kTargets.begin(), kTargets.end(), target) == kTargets.end()) {
      Fail(ErrorCode::kInvalidArgument,
           "[train] lora_targets: expected some of attn_q attn_k attn_v attn_output ffn_gate ffn_up ffn_down, found "
           "{}; correct the name",
           target);
    }
  }
  CheckGated(o);
  Range("threads", o.threads, 1, 256);
  Range("gate_rank", o.gate_rank, 1, 1024);
  Range("skip_rank", o.skip_rank, -1, 1024);
  Range("lora_rank", o.lora_rank, 0, 1024);
  Range("lora_alpha", static_cast<double>(o.lora_alpha), 1e-3, 1e4);
  Range("always_run_positions", o.always_run_positions, 0, o.sequence_length - 1);
  Range("fit_sequences", o.fit_sequences, 1, 4096);
  Range("fit_ridge", o.fit_ridge, 1e-9, 1e3);
  Range("prior_sequences", o.prior_sequences, 1, 4096);
  Range("prior_step", o.prior_step, 1e-4, 0.95);
  Range("prior_saving", o.prior_saving, 0, 0.95);
  Range("prior_candidates", o.prior_candidates, 1, 4096);
  Range("essential_rise", o.essential_rise, 0, 1e9);
  Range("steps", o.steps, 0, 1e9);
  Range("sequence_length", o.sequence_length, 2, 1 << 20);
  Range("batch_sequences", o.batch_sequences, 1, 4096);
  Range("accumulation_steps", o.accumulation_steps, 1, 4096);
  Range("min_budget", o.min_budget, 0, 0.6);
  Range("max_budget", o.max_budget, o.min_budget, 0.6);
  Range("dense_every", o.dense_every, 0, 1e9);
  Range("temperature", o.temperature, 1e-3, 100);
  Range("noise_final", o.noise_final, 0, 1);
  Range("threshold_rate", o.threshold_rate, 0, 1);
  Range("kl_weight", o.kl_weight, 0, 1e6);
  Range("ce_weight", o.ce_weight, 0, 1e6);
  Range("gate_l2", o.gate_l2, 0, 1e6);
  Range("head_weight", o.head_weight, 0, 1e6);
  Range("loss_positions", o.loss_positions, 1e-3, 1);
  Range("gate_learning_rate", o.gate_learning_rate, 0, 10);
  Range("gate_bias_learning_rate", o.gate_bias_learning_rate, 0, 10);
  Range("skip_learning_rate", o.skip_learning_rate, 0, 10);
  Range("lora_learning_rate", o.lora_learning_rate, 0, 10);
  Range("beta1", o.beta1, 0, 0.99999);
  Range("beta2", o.beta2, 0, 0.99999);
  Range("weight_decay", o.weight_decay, 0, 1);
  Range("clip_norm", o.clip_norm, 1e-9, 1e9);
  Range("warmup_steps", o.warmup_steps, 0, 1e9);
  Range("final_learning_rate", o.final_learning_rate, 0, 1);
  Range("max_bad_steps", o.max_bad_steps, 1, 1e6);
  Range("checkpoint_every", o.checkpoint_every, 1, 1e9);
  Range("keep_checkpoints", o.keep_checkpoints, 1, 1e6);
  Range("eval_every", o.eval_every, 0, 1e9);
  Range("eval_sequences", o.eval_sequences, 1, 1e6);
  for (const double budget : o.eval_budgets) Range("eval_budgets", budget, 1e-6, 0.6);
}

}  // namespace gateskip
