// SPDX-License-Identifier: Apache-2.0
// An adapter bound to a base model: gates, skip paths and LoRA deltas, packed for the kernels.
#pragma once

#include <memory>
#include <optional>
#include <span>
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

// The matrices of a gate, of one branch or, shared, of all branches of its kind.
struct GateWeights {
  std::vector<float> scalar;     // [d]
  LowRankMap low_rank;           // low-rank and MLP gates
  kernels::PackedMatrix vector;  // [d, d]
};

struct BranchGate {
  bool gated = false;
  // Null where the attention branch's gate decides for this MLP branch, too (GateScope::kLayer).
  std::shared_ptr<const GateWeights> weights;
  // The head that decides for a vector gate, distilled to predict the mean of g: sigmoid(head . h + decision_bias).
  std::vector<float> head;  // [d]
  float decision_bias = 0;  // of the head or of a scalar gate
  std::vector<float> bias;  // [d], low-rank, vector and MLP gates
  // The skip path.
  std::vector<float> skip_bias;  // [d], empty = none
  std::optional<LowRankMap> skip_map;

  // [d], where one dot product decides; else empty, and the importance is the mean of g.
  std::span<const float> decision_weight() const { return !weights || !head.empty() ? head : weights->scalar; }
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
