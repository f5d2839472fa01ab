// SPDX-License-Identifier: Apache-2.0
// Hyper-parameters of a decoder, in one form for every file format and architecture.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gate/cost_model.h"
#include "io/gguf.h"
#include "kernels/kernels.h"

namespace gateskip {

class HubDirectory;

struct LayerAttention {
  int64_t window = 0;           // sliding window in tokens: a row sees itself and window - 1 before it; 0 = all
  std::vector<float> inv_freq;  // [rope_dims / 2] RoPE frequencies, scaling included
};

struct ModelConfig {
  std::string architecture;  // "llama", "gemma3"
  std::string name;
  int num_layers = 0;
  int hidden_size = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int ffn_size = 0;
  int vocab_size = 0;
  int context_length = 0;
  float norm_eps = 1e-5F;
  float embedding_scale = 1.0F;  // token embeddings are multiplied by it (Gemma: sqrt(d))
  float attention_scale = 0.0F;  // of the scores
  kernels::RopeLayout rope_layout = kernels::RopeLayout::kHalves;
  kernels::Activation activation = kernels::Activation::kSilu;
  bool qk_norm = false;     // RMS norm on every query and key head (Gemma 3)
  bool post_norms = false;  // RMS norm on each branch's output, before the residual add (Gemma 3)
  // Added to every norm weight after reading: hub checkpoints of Gemma store w - 1, GGUF stores w.
  float norm_weight_shift = 0.0F;
  std::vector<LayerAttention> layers;  // [num_layers]

  int num_branches() const { return 2 * num_layers; }
  int query_size() const { return num_heads * head_dim; }
  int kv_size() const { return num_kv_heads * head_dim; }
};

// KV rule `copy`: the nearest layer below with the same kind of attention (window and rotation), or -1. Without one, a
// skipped row's keys and values are computed.
int KvCopySource(const ModelConfig& config, int layer);

// Limits on what a file may ask for; beyond them Error(kLimitExceeded).
inline constexpr int kMaxLayers = 512;
inline constexpr int kMaxHiddenSize = 1 << 16;
inline constexpr int kMaxVocabSize = 1 << 22;

// Reads and validates (ranges, divisibility, finiteness). Throws Error: kUnsupported for an unknown
// architecture, kCorruptData for impossible values.
ModelConfig ReadConfig(const GgufFile& file);
ModelConfig ReadConfig(const HubDirectory& directory);

LayerDims DimsOf(const ModelConfig& config);

}  // namespace gateskip
