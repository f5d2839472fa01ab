// SPDX-License-Identifier: Apache-2.0
// Tiny random models and adapters for tests, built in memory. Fixed seeds; the same bytes every time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/adapter.h"
#include "io/gguf.h"

namespace gateskip::testing {

enum class TinyArch { kLlama, kGemma3 };

struct TinyOptions {
  TinyArch arch = TinyArch::kLlama;
  DType dtype = DType::kQ4_1;  // of the branches' matrices: kF32, kF16, kQ8_0 or kQ4_1; the embedding is Q8_0 or F32
  uint64_t seed = 1;
};

// A complete GGUF file: 4 layers (Gemma: 7, the sixth global), d 64, toy byte-level vocabulary.
std::vector<std::byte> TinyGguf(const TinyOptions& options);

// Opens bytes that outlive the result.
std::shared_ptr<const GgufFile> OpenTiny(const std::vector<std::byte>& bytes);

struct TinyAdapterOptions {
  GateKind kind = GateKind::kScalar;
  KvRule kv_rule = KvRule::kCompute;
  GateProduct product = GateProduct::kNone;
  bool shared = false;
  GateScope scope = GateScope::kBranch;
  int skip_rank = -1;
  int lora_rank = 0;
  bool all_gated = true;  // false: branch 1 always runs, or all of layer 0 if the scope is a layer
  uint64_t seed = 2;
};

// Random gates whose importances spread over (0, 1), with a threshold grid {0, 0.2, 0.4} that skips about as much.
Adapter TinyAdapter(const GgufFile& base, const TinyAdapterOptions& options);

// Deterministic token ids in the toy vocabulary, without special tokens.
std::vector<int32_t> TinyTokens(size_t count, uint64_t seed);

}  // namespace gateskip::testing
