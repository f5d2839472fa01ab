// SPDX-License-Identifier: Apache-2.0
// What an opened GGUF file holds, shared by its parser (gguf_parse.cc) and its getters (gguf.cc). Of these two only.
#pragma once

#include <cstring>
#include <map>
#include <memory>

#include "base/check.h"
#include "io/gguf.h"
#include "io/mapped_file.h"

namespace gateskip {

class GgufCursor;  // gguf_parse.cc

struct GgufTypeInfo {
  GgufType type;
  std::string_view name;
  uint32_t bytes;  // 0 for strings and arrays
};
const GgufTypeInfo* FindGgufType(uint32_t raw);  // nullptr when unknown

struct GgufValue {
  GgufType type = GgufType::kUint8;
  GgufType element = GgufType::kUint8;  // of an array
  uint64_t count = 1;
  std::span<const std::byte> bytes;  // of a scalar or an array of scalars
  std::string_view string;
  std::vector<std::string_view> strings;
  std::span<const std::byte> raw;  // the whole of it behind the key: type, then value
};

template <typename T>
T LoadGguf(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

struct GgufFile::Impl {
  std::string origin;
  std::unique_ptr<MappedFile> mapped;
  std::span<const std::byte> bytes;
  uint64_t header_bytes = 0;
  std::vector<std::string_view> keys;
  // Ordered: names come from the file, and names made to collide turn a hash table into a list.
  std::map<std::string_view, GgufValue> values;
  std::vector<TensorView> tensors;
  std::map<std::string_view, size_t> tensor_index;

  void ParseAll();
  uint64_t ParseHeader(GgufCursor* cursor, uint64_t* num_tensors);
  GgufValue ParseValue(GgufCursor* cursor, std::string_view key);
  void ParseKeyValues(GgufCursor* cursor, uint64_t count);
  void ParseTensors(GgufCursor* cursor, uint64_t count);
  TensorView ParseTensor(GgufCursor* cursor, uint64_t* offset);
  void PlaceTensors(const std::vector<uint64_t>& offsets, uint64_t data_begin, uint64_t alignment);
  uint64_t Alignment() const;

  const GgufValue* Find(std::string_view key) const {
    const auto found = values.find(key);
    return found == values.end() ? nullptr : &found->second;
  }
  [[noreturn]] void FailKey(std::string_view key, std::string_view expected, const GgufValue* found) const {
    Fail(ErrorCode::kCorruptData, "[{}] key {}: expected {}, found {}; the file does not hold what this model needs",
         origin, key, expected, found == nullptr ? "nothing" : FindGgufType(static_cast<uint32_t>(found->type))->name);
  }
  const GgufValue& ArrayOf(std::string_view key, std::string_view expected) const {
    const GgufValue* value = Find(key);
    if (value == nullptr || value->type != GgufType::kArray) FailKey(key, expected, value);
    return *value;
  }
};

}  // namespace gateskip
