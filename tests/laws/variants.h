// SPDX-License-Identifier: Apache-2.0
// The models and adapters every law is tried on, and the plans they are run under.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "support/model_runner.h"
#include "support/tiny_model.h"

namespace gateskip::testing {

struct Variant {
  const char* name;
  TinyArch arch;
  TinyAdapterOptions adapter;
  kernels::KvType kv_type = kernels::KvType::kF16;  // of fast runs
};

inline std::string VariantName(const ::testing::TestParamInfo<Variant>& info) { return info.param.name; }

// Both architectures, every gate kind, scope and product, own and shared matrices, every KV rule, skip paths of both
// shapes, deltas, both formats of the KV cache.
inline std::vector<Variant> AllVariants() {
  using enum GateKind;
  using enum KvRule;
  using enum GateProduct;
  std::vector<Variant> variants;
  for (const TinyArch arch : {TinyArch::kLlama, TinyArch::kGemma3}) {
    const bool llama = arch == TinyArch::kLlama;
    const auto add = [&](const char* llama_name, const char* gemma_name, const TinyAdapterOptions& adapter) {
      variants.push_back({llama ? llama_name : gemma_name, arch, adapter});
    };
    add("LlamaScalarCompute", "GemmaScalarCompute", {.kind = kScalar, .kv_rule = kCompute});
    add("LlamaScalarCopy", "GemmaScalarCopy", {.kind = kScalar, .kv_rule = kCopy, .all_gated = false});
    add("LlamaScalarDrop", "GemmaScalarDrop", {.kind = kScalar, .kv_rule = kDrop});
    add("LlamaScalarSkipPathDeltas", "GemmaScalarSkipPathDeltas",
        {.kind = kScalar, .kv_rule = kCompute, .skip_rank = 4, .lora_rank = 4});
    add("LlamaScalarMultiplyDeltasDrop", "GemmaScalarMultiplyDeltasDrop",
        {.kind = kScalar, .kv_rule = kDrop, .product = kOutput, .lora_rank = 4});
    add("LlamaLowRankBias", "GemmaLowRankBias", {.kind = kLowRank, .kv_rule = kCompute, .skip_rank = 0});
    add("LlamaLowRankMultiplyCopy", "GemmaLowRankMultiplyCopy",
        {.kind = kLowRank, .kv_rule = kCopy, .product = kOutput});
    add("LlamaVectorDrop", "GemmaVectorDrop", {.kind = kVector, .kv_rule = kDrop});
    add("LlamaVectorMultiplySkipPath", "GemmaVectorMultiplySkipPath",
        {.kind = kVector, .kv_rule = kCompute, .product = kOutput, .skip_rank = 4});
    add("LlamaMlp", "GemmaMlp", {.kind = kMlp, .kv_rule = kCompute});
    add("LlamaMlpMultiplyDrop", "GemmaMlpMultiplyDrop", {.kind = kMlp, .kv_rule = kDrop, .product = kOutput});
    add("LlamaScalarBeforeSkipPath", "GemmaScalarBeforeSkipPath",
        {.kind = kScalar, .kv_rule = kCompute, .product = kInput, .skip_rank = 4});
    add("LlamaLowRankBeforeDeltasCopy", "GemmaLowRankBeforeDeltasCopy",
        {.kind = kLowRank, .kv_rule = kCopy, .product = kInput, .lora_rank = 4});
    add("LlamaVectorBeforeDrop", "GemmaVectorBeforeDrop", {.kind = kVector, .kv_rule = kDrop, .product = kInput});
    add("LlamaScalarShared", "GemmaScalarShared", {.kind = kScalar, .kv_rule = kDrop, .shared = true});
    add("LlamaVectorSharedMultiply", "GemmaVectorSharedMultiply",
        {.kind = kVector, .kv_rule = kCompute, .product = kOutput, .shared = true, .all_gated = false});
    add("LlamaMlpSharedBeforeBias", "GemmaMlpSharedBeforeBias",
        {.kind = kMlp, .kv_rule = kCompute, .product = kInput, .shared = true, .skip_rank = 0});
    add("LlamaLayerScalarSkipPath", "GemmaLayerScalarSkipPath",
        {.kind = kScalar, .kv_rule = kCompute, .scope = GateScope::kLayer, .skip_rank = 4});
    add("LlamaLayerLowRankMultiplyCopy", "GemmaLayerLowRankMultiplyCopy",
        {.kind = kLowRank, .kv_rule = kCopy, .product = kOutput, .scope = GateScope::kLayer, .all_gated = false});
    add("LlamaLayerVectorBeforeSharedDrop", "GemmaLayerVectorBeforeSharedDrop",
        {.kind = kVector, .kv_rule = kDrop, .product = kInput, .shared = true, .scope = GateScope::kLayer});
    add("LlamaScalarComputeQ8Cache", "GemmaScalarComputeQ8Cache", {.kind = kScalar, .kv_rule = kCompute});
    variants.back().kv_type = kernels::KvType::kQ8;
    add("LlamaScalarCopyQ8Cache", "GemmaScalarCopyQ8Cache", {.kind = kScalar, .kv_rule = kCopy, .all_gated = false});
    variants.back().kv_type = kernels::KvType::kQ8;
  }
  return variants;
}

// A tiny model with its adapter.
class VariantTest : public ::testing::TestWithParam<Variant> {
 protected:
  void SetUp() override {
    bytes_ = TinyGguf({.arch = GetParam().arch});
    file_ = OpenTiny(bytes_);
    adapter_ = TinyAdapter(*file_, GetParam().adapter);
    branches_ = static_cast<int>(adapter_.config.gated.size());
  }

  SkipPlanPtr Gates(double budget) const { return GatesPlan(adapter_.config, budget); }

  // Branches and positions at random, branch by branch with another share: from never to always. The first
  // position runs everything, so that under `drop` every query finds at least one key below it.
  SkipPlanPtr RandomMask(size_t positions, uint64_t seed) const {
    auto plan = std::make_shared<SkipPlan>();
    plan->kind = SkipPlan::Kind::kMask;
    plan->always_run_positions = 1;
    const std::vector<int32_t> dice = TinyTokens(static_cast<size_t>(branches_) * positions, seed);
    for (int b = 0; b < branches_; ++b) {
      std::vector<uint8_t> row(positions);
      for (size_t t = 0; t < positions; ++t) {
        row[t] = dice[static_cast<size_t>(b) * positions + t] % 8 < 1 + (b * 3 + static_cast<int>(seed)) % 8;
      }
      plan->mask.push_back(std::move(row));
    }
    return plan;
  }

  std::vector<std::byte> bytes_;
  std::shared_ptr<const GgufFile> file_;
  Adapter adapter_;
  int branches_ = 0;
};

inline uint64_t CountEvents(const RunResult& run, uint8_t bit) {
  uint64_t count = 0;
  for (const auto& branch : run.events) {
    for (const uint8_t event : branch) count += (event & bit) != 0;
  }
  return count;
}

}  // namespace gateskip::testing
