// SPDX-License-Identifier: Apache-2.0
// What must hold between training options; the range of each alone is in option_table.cc. Built with and without
// LibTorch.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/check.h"
#include "gate/layer_list.h"
#include "train/option_table.h"

namespace gateskip {
namespace {

constexpr const char* kOrigin = "train";
constexpr int kMostLayers = 512;  // of any model

void CheckSource(const TrainSource& s) {
  if (!(s.weight >= 1e-6 && s.weight <= 1e6) || !(s.begin >= 0 && s.begin <= s.end && s.end <= 1)) {
    Fail(ErrorCode::kInvalidArgument,
         "[train] source {}: expected a weight in [1e-6, 1e6] and 0 <= begin <= end <= 1, found {}, {} and {}; change "
         "them",
         s.path, s.weight, s.begin, s.end);
  }
  ValidateRecordFields(s.fields);
}

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
  ParseLayers(o.penalty_layers, kMostLayers, "penalty_layers");
}

void CheckRelations(const TrainOptions& o) {
  if (o.always_run_positions >= o.sequence_length) {
    Fail(ErrorCode::kInvalidArgument,
         "[train] always_run: expected fewer positions than sequence_length ({}), found {}; change the option",
         o.sequence_length, o.always_run_positions);
  }
  if (o.max_budget < o.min_budget) {
    Fail(ErrorCode::kInvalidArgument,
         "[train] max_budget: expected at least min_budget ({}), found {}; change the option", o.min_budget,
         o.max_budget);
  }
  if (o.train_base.empty() != o.trained_model_path.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "[train] train_base and trained_model: expected both or none, found {}; say which base parameters are trained "
         "and where the trained model is written",
         o.train_base.empty() ? "trained_model alone" : "train_base alone");
  }
  if (o.decision_rule == DecisionRule::kExit && (o.prior || o.skip_rank >= 0 || o.gate_product != GateProduct::kNone)) {
    Fail(
        ErrorCode::kInvalidArgument,
        "[train] decision: expected no prior, no skip paths and no product of gates where a last layer is drawn, found "
        "some; pass --no-prior --skip-rank -1 --gate-product none, or --preset early-exit");
  }
  if (o.kl_weight == 0 && o.ce_weight == 0) {
    Fail(ErrorCode::kInvalidArgument,
         "[train] kl_weight and ce_weight: expected one above 0, found none; without a loss nothing is learned");
  }
}

}  // namespace

RecordFields ColumnsOf(const std::vector<std::string>& columns) {
  RecordFields fields;
  const struct {
    std::string_view kind;
    std::string RecordFields::*name;
  } kKinds[] = {{"text", &RecordFields::text},
                {"prompt", &RecordFields::prompt},
                {"completion", &RecordFields::completion},
                {"messages", &RecordFields::messages}};
  for (const std::string& column : columns) {
    const size_t equals = column.find('=');
    const auto kind = std::find_if(std::begin(kKinds), std::end(kKinds),
                                   [&](const auto& k) { return k.kind == column.substr(0, equals); });
    if (equals == std::string::npos || equals + 1 == column.size() || kind == std::end(kKinds)) {
      Fail(ErrorCode::kInvalidArgument,
           "[train] columns: expected text=, prompt=, completion= or messages= with a name, found '{}'; correct it",
           column.substr(0, 64));
    }
    fields.*kind->name = column.substr(equals + 1);
  }
  ValidateRecordFields(fields);
  return fields;
}

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

void ValidateTrainOptions(const TrainOptions& options) {
  TrainOptions copy = options;
  if (copy.model_path.empty() || copy.run_directory.empty() || copy.sources.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "[train] options: expected a model, a run directory and at least one text, found some of them empty; see "
         "`gateskip train --help`");
  }
  for (const TrainOption& option : OptionTable(copy)) {
    if (std::holds_alternative<std::vector<TrainSource>*>(option.field)) continue;
    SetOption(option, option.words(), kOrigin, option.key());
  }
  for (const auto* sources : {&options.sources, &options.heldout_sources}) {
    for (const TrainSource& source : *sources) CheckSource(source);
  }
  ColumnsOf(options.columns);
  constexpr std::array<const char*, 7> kTargets = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                                   "ffn_gate", "ffn_up", "ffn_down"};
  for (const std::string& target : options.lora_targets) {
    if (std::find(kTargets.begin(), kTargets.end(), target) == kTargets.end()) {
      Fail(ErrorCode::kInvalidArgument, "[train] lora_targets: expected some of {}, found {}; correct the name",
           fmt::join(kTargets, " "), target);
    }
  }
  CheckGated(options);
  CheckRelations(options);
}

}  // namespace gateskip
