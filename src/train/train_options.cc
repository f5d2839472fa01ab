// SPDX-License-Identifier: Apache-2.0
// What must hold between training options; the range of each alone is in option_table.cc. Built with and without
// LibTorch.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/check.h"
#include "train/option_table.h"

namespace gateskip {
namespace {

constexpr const char* kOrigin = "train";

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
  if (o.kl_weight == 0 && o.ce_weight == 0) {
    Fail(ErrorCode::kInvalidArgument,
         "[train] kl_weight and ce_weight: expected one above 0, found none; without a loss nothing is learned");
  }
}

}  // namespace

void ValidateTrainOptions(const TrainOptions& options) {
  TrainOptions copy = options;
  if (copy.model_path.empty() || copy.run_directory.empty() || copy.sources.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "[train] options: expected a model, a run directory and at least one text, found some of them empty; see "
         "`gateskip train --help`");
  }
  for (const TrainOption& option : OptionTable(copy)) SetOption(option, option.words(), kOrigin, option.key());
  constexpr std::array<const char*, 7> kTargets = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                                   "ffn_gate", "ffn_up", "ffn_down"};
  for (const std::string& target : options.lora_targets) {
    if (std::find(kTargets.begin(), kTargets.end(), target) == kTargets.end()) {
      Fail(ErrorCode::kInvalidArgument, "[train] lora_targets: expected some of {}, found {}; correct the name",
           fmt::join(kTargets, " "), target);
    }
  }
  CheckRelations(options);
}

}  // namespace gateskip
