// SPDX-License-Identifier: Apache-2.0
// Element and block formats of stored tensors. Block layouts are those of GGUF (github.com/ggml-org/ggml,
// ggml-common.h); dequantisation is in tensor/dequantize.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace gateskip {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ4_K,
  kQ5_K,
  kQ6_K,
};
inline constexpr int kNumDTypes = 11;

struct DTypeInfo {
  std::string_view name;    // as llama.cpp and GGUF tools print it: "Q4_1", "F32", ...
  uint32_t block_elements;  // elements per block, 1 for plain types
  uint32_t block_bytes;
};

const DTypeInfo& GetDTypeInfo(DType dtype);

// Bytes of `elements` consecutive elements; nullopt when they are not whole blocks or do not fit 64 bits.
std::optional<uint64_t> StorageBytes(DType dtype, uint64_t elements);

}  // namespace gateskip
