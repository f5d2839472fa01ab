// SPDX-License-Identifier: Apache-2.0
// GGUF files in memory, right or wrong on purpose: every field can be set to what it must not be. GgufWriter
// (io/gguf.h) writes the right ones only. Bytes are kept in strings, because those concatenate.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/gguf.h"

namespace gateskip::testing {

template <typename T>
std::string Raw(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

std::string GgufString(std::string_view text);  // 8-byte length and the bytes
// Key, type and whatever the payload is.
std::string GgufPair(std::string_view key, uint32_t type, std::string_view payload);
std::string GgufPair(std::string_view key, GgufType type, std::string_view payload);
std::string GgufArrayPair(std::string_view key, uint32_t element, uint64_t count, std::string_view payload);
std::string GgufArrayPair(std::string_view key, GgufType element, uint64_t count, std::string_view payload);

struct GgufTensorBytes {
  std::string name;
  std::vector<uint64_t> dims;  // in the file's order, fastest first
  uint32_t type = 0;
  uint64_t offset = 0;
  std::optional<uint32_t> rank = {};         // instead of dims.size()
  std::optional<uint64_t> name_length = {};  // instead of name.size()

  std::string Build() const;
};

struct GgufBytes {
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::optional<uint64_t> num_tensors = {};  // instead of what is there
  std::optional<uint64_t> num_values = {};
  std::vector<std::string> values;  // encoded pairs
  std::vector<GgufTensorBytes> tensors;
  std::string data;
  uint64_t alignment = 32;  // of the data in the file; what the file says of it is a pair like others

  std::string Build() const;
  size_t HeaderBytes() const;  // up to the end of the tensor table

  // A key of every type, an array of every kind, and the tensors a: F32 [2, 4], b: Q4_0 [1, 32], c: F16 [3], whose
  // bytes end the file.
  static GgufBytes Valid();
};

}  // namespace gateskip::testing
