// SPDX-License-Identifier: Apache-2.0
#include "io/testing/gguf_bytes.h"

namespace gateskip::testing {

std::string GgufString(std::string_view text) { return Raw<uint64_t>(text.size()) + std::string(text); }

std::string GgufPair(std::string_view key, uint32_t type, std::string_view payload) {
  return GgufString(key) + Raw(type) + std::string(payload);
}

std::string GgufPair(std::string_view key, GgufType type, std::string_view payload) {
  return GgufPair(key, static_cast<uint32_t>(type), payload);
}

std::string GgufArrayPair(std::string_view key, uint32_t element, uint64_t count, std::string_view payload) {
  return GgufPair(key, GgufType::kArray, Raw(element) + Raw(count) + std::string(payload));
}

std::string GgufArrayPair(std::string_view key, GgufType element, uint64_t count, std::string_view payload) {
  return GgufArrayPair(key, static_cast<uint32_t>(element), count, payload);
}

std::string GgufTensorBytes::Build() const {
  std::string out = Raw(name_length.value_or(name.size())) + name;
  out += Raw(rank.value_or(static_cast<uint32_t>(dims.size())));
  for (const uint64_t dim : dims) out += Raw(dim);
  return out + Raw(type) + Raw(offset);
}

std::string GgufBytes::Build() const {
  std::string out = magic + Raw(version) + Raw(num_tensors.value_or(tensors.size()));
  out += Raw(num_values.value_or(values.size()));
  for (const std::string& value : values) out += value;
  for (const GgufTensorBytes& tensor : tensors) out += tensor.Build();
  if (!data.empty()) out.resize((out.size() + alignment - 1) / alignment * alignment);
  return out + data;
}

size_t GgufBytes::HeaderBytes() const {
  GgufBytes header = *this;
  header.data.clear();
  return header.Build().size();
}

GgufBytes GgufBytes::Valid() {
  GgufBytes file;
  file.values = {
      GgufPair("general.architecture", GgufType::kString, GgufString("toy")),
      GgufPair("t.u8", GgufType::kUint8, Raw<uint8_t>(200)),
      GgufPair("t.i8", GgufType::kInt8, Raw<int8_t>(-3)),
      GgufPair("t.u16", GgufType::kUint16, Raw<uint16_t>(60000)),
      GgufPair("t.i16", GgufType::kInt16, Raw<int16_t>(-300)),
      GgufPair("t.u32", GgufType::kUint32, Raw<uint32_t>(4000000000U)),
      GgufPair("t.i32", GgufType::kInt32, Raw<int32_t>(-70000)),
      GgufPair("t.f32", GgufType::kFloat32, Raw(1.5F)),
      GgufPair("t.bool", GgufType::kBool, Raw<uint8_t>(1)),
      GgufPair("t.u64", GgufType::kUint64, Raw(UINT64_MAX)),
      GgufPair("t.i64", GgufType::kInt64, Raw(INT64_MIN)),
      GgufPair("t.f64", GgufType::kFloat64, Raw(-2.25)),
      GgufArrayPair("t.strings", GgufType::kString, 3, GgufString("one") + GgufString("") + GgufString("three")),
      GgufArrayPair("t.floats", GgufType::kFloat32, 2, Raw(0.5F) + Raw(-1.0F)),
      GgufArrayPair("t.ints", GgufType::kInt16, 2, Raw<int16_t>(7) + Raw<int16_t>(-7)),
      GgufArrayPair("t.bools", GgufType::kBool, 2, Raw<uint8_t>(0) + Raw<uint8_t>(1)),
      GgufArrayPair("t.none", GgufType::kUint64, 0, ""),
  };
  file.tensors = {{"a", {4, 2}, 0, 0}, {"b", {32, 1}, 2, 32}, {"c", {3}, 1, 64}};
  std::string data;
  for (const float v : {0.0F, 1.0F, 2.0F, 3.0F, 4.0F, 5.0F, 6.0F, 7.0F}) data += Raw(v);
  data += Raw<uint16_t>(0x3C00) + std::string(16, '\x18');  // Q4_0: d = 1, low codes 8, high codes 1
  data.resize(64);
  data += Raw<uint16_t>(0x3C00) + Raw<uint16_t>(0xC000) + Raw<uint16_t>(0x0001);
  file.data = data;
  return file;
}

}  // namespace gateskip::testing
