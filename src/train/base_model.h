// SPDX-License-Identifier: Apache-2.0
// The base model as LibTorch tensors, dequantised from a GGUF or read from a hub-style directory. Norms are f32,
// matrices of the compute type. Llama and Gemma 3 differ by ModelConfig's flags only.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/model_source.h"

namespace gateskip::train {

using at::Tensor;

struct BaseLayer {
  Tensor attn_norm, ffn_norm;            // [d] f32
  Tensor post_attn_norm, post_ffn_norm;  // [d] f32, undefined without post_norms
  Tensor q_norm, k_norm;                 // [head_dim] f32, undefined without qk_norm
  Tensor q, k, v, o;                     // [out, in]
  Tensor gate, up, down;
  int rope = 0;  // index into BaseModel::cosines
};

struct BaseModel {
  ModelConfig config;
  at::ScalarType dtype = at::kBFloat16;
  Tensor embedding;    // [vocab, d]
  Tensor output_norm;  // [d] f32
  Tensor head;         // [vocab, d]; the same memory as embedding when tied
  std::vector<BaseLayer> layers;
  // Rotation tables by kind (layers with equal frequencies share one), [max_length, rotated / 2] f32.
  std::vector<Tensor> cosines, sines;
};

// Calls visit(canonical tensor name, tensor) for every tensor there is, in file order of the architecture. A tied head
// is not visited: it is the embedding.
void VisitWeights(BaseModel& model, const std::function<void(const std::string&, Tensor&)>& visit);

// max_length: the longest sequence that will be run. Throws Error for absent tensors and wrong shapes.
BaseModel LoadBaseModel(const ModelSource& source, at::ScalarType dtype, int64_t max_length,
                        at::Device device = at::kCPU);
// One tensor in f32, as VisitWeights names it and shifted as the norms are.
Tensor LoadWeight(const ModelSource& source, const std::string& name);

}  // namespace gateskip::train
