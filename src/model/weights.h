// SPDX-License-Identifier: Apache-2.0
// The base model's weights: found by canonical (GGUF) name, checked against the config, packed for the kernels.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "io/gguf.h"
#include "kernels/kernels.h"
#include "model/config.h"

namespace gateskip {

// Where tensors come from, under canonical names.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual const TensorView* Find(const std::string& canonical) const = 0;  // nullptr when absent
  virtual std::string origin() const = 0;
  virtual void Release(const TensorView& tensor) const = 0;  // its pages are no longer needed
};
std::unique_ptr<WeightSource> MakeWeightSource(std::shared_ptr<const GgufFile> file);
std::unique_ptr<WeightSource> MakeWeightSource(std::shared_ptr<const HubDirectory> directory,
                                               const ModelConfig& config);

struct LayerWeights {
  std::vector<float> attn_norm;       // [d]
  std::vector<float> q_norm, k_norm;  // [head_dim], empty unless config.qk_norm
  std::vector<float> attn_post_norm;  // [d], empty unless config.post_norms
  std::vector<float> ffn_norm;        // [d]
  std::vector<float> ffn_post_norm;   // [d], empty unless config.post_norms
  kernels::PackedMatrix q, k, v;      // [query_size | kv_size, d]
  kernels::PackedMatrix o;            // [d, query_size]
  kernels::PackedMatrix gate, up;     // [ffn, d]
  kernels::PackedMatrix down;         // [d, ffn]

  uint64_t attention_bytes() const { return q.bytes + k.bytes + v.bytes + o.bytes; }
  uint64_t mlp_bytes() const { return gate.bytes + up.bytes + down.bytes; }
};

struct ModelWeights {
  TensorView token_embedding;      // [vocab, d], stays in the file: one row is read per token
  kernels::PackedMatrix head;      // [vocab, d]; the embedding again when tied
  std::vector<float> output_norm;  // [d]
  std::vector<LayerWeights> layers;

  uint64_t branch_bytes() const;
  uint64_t total_bytes() const;
};

// How the weights are packed; the head, which is read for every token that is wanted, may have a format of its own.
struct WeightFormats {
  kernels::PackFormat layers = kernels::PackFormat::kNative;
  kernels::PackFormat head = kernels::PackFormat::kNative;
};

// Throws Error(kCorruptData) naming the first missing or misshapen tensor.
ModelWeights BindWeights(const WeightSource& source, const ModelConfig& config, const WeightFormats& formats,
                         ThreadPool& pool);

}  // namespace gateskip
