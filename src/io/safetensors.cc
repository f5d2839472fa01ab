// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>

#include "base/check.h"
#include "base/checked_math.h"
#include "io/json.h"
#include "io/mapped_file.h"

namespace gateskip {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxTensors = 1'000'000;
constexpr size_t kMaxRank = 8;
constexpr size_t kMaxNameBytes = 1024;
constexpr int kMaxDepth = 8;
constexpr size_t kMaxItems = 12 * kMaxTensors;  // a rank-2 tensor is 11 keys and values, their brackets 3 more

struct ElementType {
  std::string_view name;
  uint64_t bits;
  std::optional<DType> dtype;
};
constexpr ElementType kElementTypes[] = {
    {"F32", 32, DType::kF32},
    {"F16", 16, DType::kF16},
    {"BF16", 16, DType::kBF16},
    {"F64", 64, {}},
    {"I64", 64, {}},
    {"I32", 32, {}},
    {"I16", 16, {}},
    {"I8", 8, {}},
    {"U64", 64, {}},
    {"U32", 32, {}},
    {"U16", 16, {}},
    {"U8", 8, {}},
    {"BOOL", 8, {}},
    {"F8_E4M3", 8, {}},
    {"F8_E4M3FNUZ", 8, {}},
    {"F8_E5M2", 8, {}},
    {"F8_E5M2FNUZ", 8, {}},
    {"F8_E8M0", 8, {}},
    {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},
    {"F4", 4, {}},
    {"C64", 64, {}},
};

uint64_t GetUint(const nlohmann::json& value, const std::string& origin, const std::string& subject) {
  if (!value.is_number_unsigned()) {
    Fail(ErrorCode::kCorruptData, "[{}] {}: expected a non-negative integer, found {}; the file is damaged", origin,
         subject, value.type_name());
  }
  return value.get<uint64_t>();
}

uint64_t DataBytes(DType dtype, std::span<const int64_t> shape) {
  uint64_t elements = 1;
  for (const int64_t dim : shape) elements *= static_cast<uint64_t>(dim);
  const std::optional<uint64_t> bytes = StorageBytes(dtype, elements);
  GS_CHECK(GetDTypeInfo(dtype).block_elements == 1 && bytes.has_value());
  return *bytes;
}

}  // namespace

struct SafetensorsFile::Impl {
  std::string origin;
  std::unique_ptr<MappedFile> mapped;
  std::span<const std::byte> header;
  std::map<std::string, TensorView> tensors;
  std::set<std::string> unsupported;
  std::map<std::string, std::string> metadata;

  void ParseAll(std::span<const std::byte> bytes);
  void ParseMetadata(const nlohmann::json& json);
  void ParseTensor(const std::string& name, const nlohmann::json& json, std::span<const std::byte> data,
                   std::vector<std::pair<uint64_t, uint64_t>>* ranges);
};

void SafetensorsFile::Impl::ParseMetadata(const nlohmann::json& json) {
  if (json.is_null()) return;
  if (!json.is_object()) {
    Fail(ErrorCode::kCorruptData, "[{}] __metadata__: expected an object, found {}; the file is damaged", origin,
         json.type_name());
  }
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) {
      Fail(ErrorCode::kCorruptData, "[{}] __metadata__ {}: expected a string, found {}; the file is damaged", origin,
           key, value.type_name());
    }
    metadata[key] = value.get<std::string>();
  }
}

void SafetensorsFile::Impl::ParseTensor(const std::string& name, const nlohmann::json& json,
                                        std::span<const std::byte> data,
                                        std::vector<std::pair<uint64_t, uint64_t>>* ranges) {
  const std::string subject = "tensor " + name.substr(0, 200);
  const auto fail = [&](const char* expected, const std::string& found) {
    Fail(ErrorCode::kCorruptData, "[{}] {}: expected {}, found {}; the file is damaged", origin, subject, expected,
         found);
  };
  if (name.size() > kMaxNameBytes) fail("a name of at most 1024 bytes", std::to_string(name.size()));
  // Further keys are ignored, as the reference does.
  if (!json.is_object() || !json.contains("dtype") || !json.contains("shape") || !json.contains("data_offsets")) {
    fail("an object of dtype, shape and data_offsets", "something else");
  }
  const std::string type_name = GetString(json, "dtype", origin + ": " + subject);
  const auto type = std::ranges::find(kElementTypes, type_name, &ElementType::name);
  if (type == std::end(kElementTypes)) fail("a known dtype", type_name.substr(0, 200));
  const nlohmann::json& shape = json["shape"];
  if (!shape.is_array() || shape.size() > kMaxRank) fail("a shape of at most 8 dimensions", shape.type_name());
  TensorView tensor;
  tensor.name = name;
  uint64_t elements = 1;
  for (const nlohmann::json& dim : shape) {
    const uint64_t d = GetUint(dim, origin, subject);
    const auto product = CheckedMul(elements, d);
    // Checked against the signed limit at every step: TensorView::num_elements multiplies in the same order.
    constexpr auto kMax = static_cast<uint64_t>(INT64_MAX);
    if (!product || *product > kMax || d > kMax) fail("a size that fits 63 bits", std::to_string(d));
    elements = *product;
    tensor.shape.push_back(static_cast<int64_t>(d));
  }
  const auto bits = CheckedMul(elements, type->bits);
  if (!bits || *bits % 8 != 0) fail("a size of whole bytes that fits 64 bits", fmt::format("{} elements", elements));
  const nlohmann::json& offsets = json["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2) fail("two data_offsets", offsets.type_name());
  const uint64_t begin = GetUint(offsets[0], origin, subject);
  const uint64_t end = GetUint(offsets[1], origin, subject);
  if (begin > end || end > data.size() || end - begin != *bits / 8) {
    fail("offsets of its size inside the data", fmt::format("[{}, {}] of {} bytes", begin, end, data.size()));
  }
  ranges->emplace_back(begin, end);
  if (!type->dtype) {
    unsupported.insert(name);
    return;
  }
  tensor.dtype = *type->dtype;
  tensor.data = data.subspan(begin, end - begin);
  tensors.emplace(name, std::move(tensor));
}

void SafetensorsFile::Impl::ParseAll(std::span<const std::byte> bytes) {
  const auto fail = [&](const char* subject, const char* expected, const std::string& found) {
    Fail(ErrorCode::kCorruptData, "[{}] {}: expected {}, found {}; the file is truncated or damaged", origin, subject,
         expected, found);
  };
  if (bytes.size() < 8) fail("header size", "8 bytes", std::to_string(bytes.size()));
  uint64_t length;
  std::memcpy(&length, bytes.data(), 8);
  if (length > kMaxHeaderBytes) {
    Fail(ErrorCode::kLimitExceeded, "[{}] header: expected at most {} bytes, found {}; this is not a safetensors file",
         origin, kMaxHeaderBytes, length);
  }
  if (length > bytes.size() - 8) fail("header", "it inside the file", fmt::format("{} bytes", length));
  header = bytes.subspan(8, length);
  const std::string_view text = {reinterpret_cast<const char*>(header.data()), header.size()};
  if (text.starts_with('\xEF')) fail("header", "JSON text", "a byte order mark");  // which the parser would skip
  const nlohmann::json json = ParseJson(text, origin, kMaxDepth, kMaxItems);
  if (!json.is_object()) fail("header", "a JSON object", json.type_name());
  if (json.size() > kMaxTensors) {
    Fail(ErrorCode::kLimitExceeded, "[{}] tensors: expected at most {}, found {}; split the file", origin, kMaxTensors,
         json.size());
  }
  const std::span<const std::byte> data = bytes.subspan(8 + length);
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") {
      ParseMetadata(value);
    } else {
      ParseTensor(name, value, data, &ranges);
    }
  }
  std::ranges::sort(ranges);
  uint64_t expected = 0;
  for (const auto& [begin, end] : ranges) {
    if (begin != expected)
      fail("tensors", "neither holes nor overlaps", fmt::format("one at {} after {}", begin, expected));
    expected = end;
  }
  if (expected != data.size()) fail("data", "no bytes after the last tensor", std::to_string(data.size() - expected));
}

SafetensorsFile::SafetensorsFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SafetensorsFile::~SafetensorsFile() = default;

std::shared_ptr<const SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  auto impl = std::make_unique<Impl>();
  impl->origin = path;
  impl->mapped = std::make_unique<MappedFile>(path);
  impl->ParseAll(impl->mapped->bytes());
  return std::shared_ptr<const SafetensorsFile>(new SafetensorsFile(std::move(impl)));
}

std::shared_ptr<const SafetensorsFile> SafetensorsFile::Parse(std::span<const std::byte> bytes,
                                                              const std::string& origin) {
  auto impl = std::make_unique<Impl>();
  impl->origin = origin;
  impl->ParseAll(bytes);
  return std::shared_ptr<const SafetensorsFile>(new SafetensorsFile(std::move(impl)));
}

bool SafetensorsFile::Has(const std::string& name) const {
  return impl_->tensors.contains(name) || impl_->unsupported.contains(name);
}

const TensorView* SafetensorsFile::FindTensor(const std::string& name) const {
  if (impl_->unsupported.contains(name)) {
    Fail(ErrorCode::kUnsupported, "[{}] tensor {}: expected F32, F16 or BF16, found another element type; convert it",
         impl_->origin, name);
  }
  const auto found = impl_->tensors.find(name);
  return found == impl_->tensors.end() ? nullptr : &found->second;
}

const std::map<std::string, TensorView>& SafetensorsFile::tensors() const { return impl_->tensors; }
const std::map<std::string, std::string>& SafetensorsFile::metadata() const { return impl_->metadata; }
std::span<const std::byte> SafetensorsFile::header() const { return impl_->header; }

std::vector<std::byte> SafetensorsHeader(std::span<const SafetensorsInfo> tensors,
                                         const std::map<std::string, std::string>& metadata) {
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const SafetensorsInfo& tensor : tensors) {
    GS_CHECK(!header.contains(tensor.name));
    const uint64_t end = offset + DataBytes(tensor.dtype, tensor.shape);
    header[tensor.name] = {
        {"dtype", GetDTypeInfo(tensor.dtype).name}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // data starts 8-byte aligned, as the reference writes it
  const uint64_t length = text.size();
  std::vector<std::byte> out(8 + text.size());
  std::memcpy(out.data(), &length, 8);
  std::memcpy(out.data() + 8, text.data(), text.size());
  return out;
}

std::vector<std::byte> SerializeSafetensors(const std::vector<SafetensorsEntry>& entries,
                                            const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsInfo> infos;
  size_t data_bytes = 0;
  for (const SafetensorsEntry& entry : entries) {
    GS_CHECK(DataBytes(entry.dtype, entry.shape) == entry.data.size());
    infos.push_back({entry.name, entry.dtype, entry.shape});
    data_bytes += entry.data.size();
  }
  std::vector<std::byte> out = SafetensorsHeader(infos, metadata);
  out.reserve(out.size() + data_bytes);
  for (const SafetensorsEntry& entry : entries) out.insert(out.end(), entry.data.begin(), entry.data.end());
  return out;
}

}  // namespace gateskip
