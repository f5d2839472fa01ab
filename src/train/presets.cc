// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <array>

#include "base/check.h"
#include "train/config_file.h"

namespace gateskip {
namespace {

struct Preset {
  const char* name;
  std::string_view text;
};

// The hyper-parameters of arXiv 2510.13876 and of its published code: full fine-tuning with individual vector gates
// that multiply, cross-entropy + mean squared gate, a per-branch quantile that rises from 0 to 20 %.
constexpr std::string_view kPaper = R"([adapter]
gate = "vector"
gate_product = "output"
kv_rule = "copy"
skip_rank = -1
lora_rank = 0
train_base = "all"
[start]
prior = false
essential_rise = 1e9
[steps]
steps = 6800
sequence_length = 1024
batch = 1
decision = "quantile"
budget_schedule = "linear"
min_budget = 0.0
max_budget = 0.2
dense_every = 0
straight_through = false
noise = 0.0
[loss]
kl_weight = 0.0
ce_weight = 1.0
gate_l2 = 1.0
loss_positions = 1.0
[optimizer]
gate_lr = 3e-6
gate_bias_lr = 3e-6
base_lr = 3e-6
beta1 = 0.9
beta2 = 0.95
weight_decay = 0.001
clip_norm = 1.0
warmup = 1000
final_lr = 0.0
)";

// Longer sequences and bigger batches, for a device that likes them.
constexpr std::string_view kGpu = R"([model]
device = "cuda"
[steps]
steps = 4000
sequence_length = 1024
batch = 16
[optimizer]
warmup = 100
[run]
checkpoint_every = 200
eval_every = 200
eval_sequences = 32
)";

// Healed static pruning: the branches go in the order of the leave-one-out prior, and what is left learns to do without
// them. The gates stay at the prior, so that no row's input changes a decision. One pruned model for every budget as it
// stands; for one of them alone, min_budget = max_budget. ShortGPT (arXiv 2403.03853) prunes whole layers in the order
// of their block influence: gate_scope = "layer" gives whole layers, the order stays ours (loss, not similarity).
constexpr std::string_view kStaticPruning = R"([steps]
noise = 0.0
[optimizer]
gate_lr = 0.0
gate_bias_lr = 0.0
)";

// Early exit with one head for all layers, trained so that any layer may be the last: LayerSkip (arXiv 2404.16710).
// What the exit policies of the runtime run on: CALM (arXiv 2207.07061), PABEE (arXiv 2006.04152), DeeBERT (arXiv
// 2004.12993), FREE (arXiv 2310.05424). Deviations: LayerSkip sums the losses of many exits, drops layers at random
// besides and anneals both; here each sequence has one exit, drawn for its budget. DeeBERT and PABEE have a classifier
// for each layer; here all share the model's norm and head. K/V of the layers above are projected from the last state
// that was computed, as CALM's state copying has it.
constexpr std::string_view kEarlyExit = R"([adapter]
skip_rank = -1
[start]
prior = false
[steps]
decision = "exit"
)";

// Mixture-of-Depths (arXiv 2404.02258): a router for each layer picks the tokens of the sequence it runs for, its
// output is multiplied by the router's. Deviations: every layer is routed, not every second one; the router's weight is
// a sigmoid, and a pretrained model starts with it open; the share that skips is drawn for each sequence instead of
// being fixed; at run time a calibrated threshold stands for the top k, which look at later tokens (the paper trains a
// predictor for that). The little noise breaks the ties of routers that all start alike: at a tie nobody is among the
// top.
constexpr std::string_view kMod = R"([adapter]
gate_scope = "layer"
gate_product = "output"
skip_rank = -1
[start]
prior = false
[steps]
decision = "quantile"
straight_through = false
noise = 0.1
)";

// SkipLayer (arXiv 2311.15436): a binary router for each layer, trained straight through with Gumbel noise.
// Deviations: the budget is met by a running threshold instead of an auxiliary loss on the rate, and is drawn for each
// sequence; logistic noise on one logit, which is Gumbel noise on two.
constexpr std::string_view kSkipLayer = R"([adapter]
gate_scope = "layer"
gate_product = "output"
skip_rank = -1
[start]
prior = false
)";

constexpr std::array<Preset, 7> kPresets = {{{"fast-cpu", ""},
                                             {"paper", kPaper},
                                             {"gpu", kGpu},
                                             {"static-pruning", kStaticPruning},
                                             {"early-exit", kEarlyExit},
                                             {"mod", kMod},
                                             {"skiplayer", kSkipLayer}}};

}  // namespace

std::vector<std::string> PresetNames() {
  std::vector<std::string> names;
  for (const Preset& preset : kPresets) names.emplace_back(preset.name);
  return names;
}

std::string_view PresetText(const std::string& name) {
  for (const Preset& preset : kPresets) {
    if (name == preset.name) return preset.text;
  }
  Fail(ErrorCode::kInvalidArgument, "[command line] --preset: expected one of {}, found '{}'; choose one",
       fmt::join(PresetNames(), ", "), name.substr(0, 64));
}

}  // namespace gateskip
