// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/checked_math.h"
#include "io/atomic_write.h"
#include "io/gguf.h"

namespace gateskip {
namespace {

constexpr size_t kAlignment = 32;

template <typename T>
void Put(std::vector<std::byte>* out, T value) {
  out->resize(out->size() + sizeof(T));
  std::memcpy(out->data() + out->size() - sizeof(T), &value, sizeof(T));
}

void PutString(std::vector<std::byte>* out, std::string_view text) {
  Put<uint64_t>(out, text.size());
  const auto bytes = std::as_bytes(std::span<const char>(text));
  out->insert(out->end(), bytes.begin(), bytes.end());
}

uint32_t GgufNumber(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0;
    case DType::kF16:
      return 1;
    case DType::kQ4_0:
      return 2;
    case DType::kQ4_1:
      return 3;
    case DType::kQ5_0:
      return 6;
    case DType::kQ5_1:
      return 7;
    case DType::kQ8_0:
      return 8;
    case DType::kQ4_K:
      return 12;
    case DType::kQ5_K:
      return 13;
    case DType::kQ6_K:
      return 14;
    case DType::kBF16:
      return 30;
  }
  return 0;
}

uint64_t TensorBytes(DType dtype, const std::vector<int64_t>& shape) {
  uint64_t elements = 1;
  for (const int64_t dim : shape) elements *= static_cast<uint64_t>(dim);
  const std::optional<uint64_t> bytes = StorageBytes(dtype, elements);
  GS_CHECK(!shape.empty() && shape.back() % GetDTypeInfo(dtype).block_elements == 0 && bytes.has_value());
  return *bytes;
}

}  // namespace

struct GgufWriter::Impl {
  struct Tensor {
    std::string name;
    DType dtype;
    std::vector<int64_t> shape;
    uint64_t bytes;
    ByteSource data;
  };
  uint64_t num_values = 0;
  std::vector<std::byte> values;
  std::vector<Tensor> tensors;

  void Key(std::string_view key, GgufType type) {
    ++num_values;
    PutString(&values, key);
    Put(&values, static_cast<uint32_t>(type));
  }
  void ArrayKey(std::string_view key, GgufType element, size_t count) {
    Key(key, GgufType::kArray);
    Put(&values, static_cast<uint32_t>(element));
    Put<uint64_t>(&values, count);
  }
  std::vector<std::byte> Header() const;
  void WriteTo(const ByteSink& sink) const;
};

GgufWriter::GgufWriter() : impl_(std::make_unique<Impl>()) {}
GgufWriter::~GgufWriter() = default;

void GgufWriter::SetUint32(std::string_view key, uint32_t value) {
  impl_->Key(key, GgufType::kUint32);
  Put(&impl_->values, value);
}
void GgufWriter::SetFloat32(std::string_view key, float value) {
  impl_->Key(key, GgufType::kFloat32);
  Put(&impl_->values, value);
}
void GgufWriter::SetBool(std::string_view key, bool value) {
  impl_->Key(key, GgufType::kBool);
  Put<uint8_t>(&impl_->values, value ? 1 : 0);
}
void GgufWriter::SetString(std::string_view key, std::string_view value) {
  impl_->Key(key, GgufType::kString);
  PutString(&impl_->values, value);
}
void GgufWriter::SetStrings(std::string_view key, const std::vector<std::string>& values) {
  impl_->ArrayKey(key, GgufType::kString, values.size());
  for (const std::string& value : values) PutString(&impl_->values, value);
}
void GgufWriter::SetFloats(std::string_view key, const std::vector<float>& values) {
  impl_->ArrayKey(key, GgufType::kFloat32, values.size());
  for (const float value : values) Put(&impl_->values, value);
}
void GgufWriter::SetInt32s(std::string_view key, const std::vector<int32_t>& values) {
  impl_->ArrayKey(key, GgufType::kInt32, values.size());
  for (const int32_t value : values) Put(&impl_->values, value);
}

void GgufWriter::CopyValue(const GgufFile& source, std::string_view key) {
  ++impl_->num_values;
  PutString(&impl_->values, key);
  const std::span<const std::byte> raw = source.RawValue(key);
  impl_->values.insert(impl_->values.end(), raw.begin(), raw.end());
}

void GgufWriter::AddTensor(std::string_view name, DType dtype, const std::vector<int64_t>& shape,
                           std::span<const std::byte> data) {
  GS_CHECK(data.size() == TensorBytes(dtype, shape));
  AddTensor(name, dtype, shape,
            [copy = std::vector<std::byte>(data.begin(), data.end())](const ByteSink& sink) { sink(copy); });
}

void GgufWriter::AddTensor(std::string_view name, DType dtype, const std::vector<int64_t>& shape, ByteSource data) {
  impl_->tensors.push_back({std::string(name), dtype, shape, TensorBytes(dtype, shape), std::move(data)});
}

std::vector<std::byte> GgufWriter::Impl::Header() const {
  std::vector<std::byte> out;
  Put<uint32_t>(&out, 0x46554747);
  Put<uint32_t>(&out, 3);
  Put<uint64_t>(&out, tensors.size());
  Put<uint64_t>(&out, num_values);
  out.insert(out.end(), values.begin(), values.end());
  uint64_t offset = 0;
  for (const Tensor& tensor : tensors) {
    PutString(&out, tensor.name);
    Put(&out, static_cast<uint32_t>(tensor.shape.size()));
    for (size_t d = tensor.shape.size(); d-- > 0;) Put(&out, static_cast<uint64_t>(tensor.shape[d]));
    Put(&out, GgufNumber(tensor.dtype));
    Put(&out, offset);
    offset += *CheckedAlignUp(tensor.bytes, kAlignment);
  }
  return out;
}

void GgufWriter::Impl::WriteTo(const ByteSink& sink) const {
  uint64_t written = 0;
  const ByteSink counted = [&](std::span<const std::byte> bytes) {
    sink(bytes);
    written += bytes.size();
  };
  constexpr std::byte kPadding[kAlignment] = {};
  counted(Header());
  for (const Tensor& tensor : tensors) {
    counted(std::span(kPadding).first(*CheckedAlignUp(written, kAlignment) - written));
    const uint64_t begin = written;
    tensor.data(counted);
    GS_CHECK(written - begin == tensor.bytes);
  }
}

std::vector<std::byte> GgufWriter::Serialize() const {
  std::vector<std::byte> out;
  impl_->WriteTo([&out](std::span<const std::byte> bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); });
  return out;
}

void GgufWriter::WriteFile(const std::string& path, const std::function<void(const std::string&)>& check) const {
  const auto fill = [this](FileWriter& file) {
    impl_->WriteTo([&file](std::span<const std::byte> bytes) { file.Write(bytes); });
  };
  WriteFileAtomically(path, fill, check);
}

}  // namespace gateskip
