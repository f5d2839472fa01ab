// SPDX-License-Identifier: Apache-2.0
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

constexpr std::array<Preset, 3> kPresets = {{{"fast-cpu", ""}, {"paper", kPaper}, {"gpu", kGpu}}};

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
  Fail(ErrorCode::kInvalidArgument, "[command line] --preset: expected fast-cpu, paper or gpu, found '{}'; choose one",
       name.substr(0, 64));
}

}  // namespace gateskip
