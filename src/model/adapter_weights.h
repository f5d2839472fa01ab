// SPDX-License-Identifier: Apache-2.0
// An adapter bound to a base model: gates, skip paths and LoRA deltas, packed for the kernels.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "io/adapter.h"
#include "kernels/kernels.h"
#include "model/config.h"

namespace gateskip {

struct LowRankMap {
  kernels::PackedMatrix down;  // [rank, in]
  kernels::PackedMatrix up;    // [out, rank]
};

struct BranchGate {
  bool gated = false;
  // The decision: sigmoid(decision_weight . h + decision_bias) for scalar and vector gates (the vector gate's
  // head is distilled to predict its mean), mean(sigmoid(up (down h) + bias)) for low-rank ones.
  std::vector<float> decision_weight;  // [d]
  float decision_bias = 0;
  LowRankMap low_rank;
  kernels::PackedMatrix vector;  // [d, d]
  std::vector<float> bias;       // [d], low-rank and vector
  // The skip path.
  std::vector<float> skip_bias;  // [d], empty = none
  std::optional<LowRankMap> skip_map;
};

struct LayerDeltas {
  std::optional<LowRankMap> q, k, v, o, gate, up, down;
};

struct AdapterWeights {
  AdapterConfig config;
  std::vector<BranchGate> gates;    // [branches]
  std::vector<LayerDeltas> deltas;  // [layers], empty without LoRA
  float lora_scale = 0;             // alpha / rank
};

// Throws Error(kMismatch) unless the adapter was made for this base (architecture, sizes, fingerprint).
void CheckAdapterBelongs(const AdapterConfig& adapter, const ModelConfig& config, const std::string& fingerprint,
                         const std::string& origin);

// Verifies that the adapter belongs to this base (architecture, sizes, fingerprint; Error kMismatch) and packs it:
// matrices in f32 if `exact`, else in f16, and in 8 bits where they read a whole row of activations that is quantised
// anyway: first factors of deltas and skip paths, vector gates.
AdapterWeights BindAdapter(const Adapter& adapter, const ModelConfig& config, const std::string& base_fingerprint,
                           const std::string& origin, bool exact, ThreadPool& pool);

}  // namespace gateskip
