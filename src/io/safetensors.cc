// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <optional>

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

class HeaderParser {
 public:
  HeaderParser(const std::string& origin, uint64_t data_bytes) : origin_(origin), data_bytes_(data_bytes) {}
  SafetensorsLayout Parse(std::span<const std::byte> header);

 private:
  void ParseMetadata(const nlohmann::json& json);
  void ParseTensor(const std::string& name, const nlohmann::json& json);
  void CheckRanges();
  [[noreturn]] void FailFile(const char* subject, const char* expected, const std::string& found) const {
    Fail(ErrorCode::kCorruptData, "[{}] {}: expected {}, found {}; the file is truncated or damaged", origin_, subject,
         expected, found);
  }

  const std::string& origin_;
  const uint64_t data_bytes_;
  SafetensorsLayout layout_;
  std::vector<std::pair<uint64_t, uint64_t>> ranges_;
};

void HeaderParser::ParseMetadata(const nlohmann::json& json) {
  if (json.is_null()) return;
  if (!json.is_object()) {
    Fail(ErrorCode::kCorruptData, "[{}] __metadata__: expected an object, found {}; the file is damaged", origin_,
         json.type_name());
  }
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) {
      Fail(ErrorCode::kCorruptData, "[{}] __metadata__ {}: expected a string, found {}; the file is damaged", origin_,
           key, value.type_name());
    }
    layout_.metadata[key] = value.get<std::string>();
  }
}

void HeaderParser::ParseTensor(const std::string& name, const nlohmann::json& json) {
  const std::string subject = "tensor " + name.substr(0, 200);
  const auto fail = [&](const char* expected, const std::string& found) {
    Fail(ErrorCode::kCorruptData, "[{}] {}: expected {}, found {}; the file is damaged", origin_, subject, expected,
         found);
  };
  if (name.size() > kMaxNameBytes) fail("a name of at most 1024 bytes", std::to_string(name.size()));
  // Further keys are ignored, as the reference does.
  if (!json.is_object() || !json.contains("dtype") || !json.contains("shape") || !json.contains("data_offsets")) {
    fail("an object of dtype, shape and data_offsets", "something else");
  }
  const std::string type_name = GetString(json, "dtype", origin_ + ": " + subject);
  const auto type = std::ranges::find(kElementTypes, type_name, &ElementType::name);
  if (type == std::end(kElementTypes)) fail("a known dtype", type_name.substr(0, 200));
  const nlohmann::json& shape = json["shape"];
  if (!shape.is_array() || shape.size() > kMaxRank) fail("a shape of at most 8 dimensions", shape.type_name());
  SafetensorsSlice tensor;
  uint64_t elements = 1;
  for (const nlohmann::json& dim : shape) {
    const uint64_t d = GetUint(dim, origin_, subject);
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
  const uint64_t begin = GetUint(offsets[0], origin_, subject);
  const uint64_t end = GetUint(offsets[1], origin_, subject);
  if (begin > end || end > data_bytes_ || end - begin != *bits / 8) {
    fail("offsets of its size inside the data", fmt::format("[{}, {}] of {} bytes", begin, end, data_bytes_));
  }
  ranges_.emplace_back(begin, end);
  if (!type->dtype) {
    layout_.unsupported.insert(name);
    return;
  }
  tensor.dtype = *type->dtype;
  tensor.begin = begin;
  tensor.end = end;
  layout_.tensors.emplace(name, std::move(tensor));
}

void HeaderParser::CheckRanges() {
  std::ranges::sort(ranges_);
  uint64_t expected = 0;
  for (const auto& [begin, end] : ranges_) {
    if (begin != expected) {
      FailFile("tensors", "neither holes nor overlaps", fmt::format("one at {} after {}", begin, expected));
    }
    expected = end;
  }
  if (expected != data_bytes_) {
    FailFile("data", "no bytes after the last tensor", std::to_string(data_bytes_ - expected));
  }
}

SafetensorsLayout HeaderParser::Parse(std::span<const std::byte> header) {
  const std::string_view text = {reinterpret_cast<const char*>(header.data()), header.size()};
  if (text.starts_with('\xEF')) FailFile("header", "JSON text", "a byte order mark");  // which the parser would skip
  const nlohmann::json json = ParseJson(text, origin_, kMaxDepth, kMaxItems);
  if (!json.is_object()) FailFile("header", "a JSON object", json.type_name());
  if (json.size() > kMaxTensors) {
    Fail(ErrorCode::kLimitExceeded, "[{}] tensors: expected at most {}, found {}; split the file", origin_, kMaxTensors,
         json.size());
  }
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") {
      ParseMetadata(value);
    } else {
      ParseTensor(name, value);
    }
  }
  CheckRanges();
  return std::move(layout_);
}

}  // namespace

uint64_t SafetensorsDataOffset(std::span<const std::byte, 8> start, uint64_t file_bytes, const std::string& origin) {
  uint64_t length;
  std::memcpy(&length, start.data(), 8);
  if (length > kMaxHeaderBytes) {
    Fail(ErrorCode::kLimitExceeded, "[{}] header: expected at most {} bytes, found {}; this is not a safetensors file",
         origin, kMaxHeaderBytes, length);
  }
  if (file_bytes < 8 || length > file_bytes - 8) {
    Fail(ErrorCode::kCorruptData,
         "[{}] header: expected it inside the file, found {} bytes; the file is truncated or damaged", origin, length);
  }
  return 8 + length;
}

SafetensorsLayout ParseSafetensorsHeader(std::span<const std::byte> header, uint64_t data_bytes,
                                         const std::string& origin) {
  return HeaderParser(origin, data_bytes).Parse(header);
}

struct SafetensorsFile::Impl {
  std::string origin;
  std::unique_ptr<MappedFile> mapped;
  std::span<const std::byte> header;
  SafetensorsLayout layout;
  std::map<std::string, TensorView> tensors;

  void Parse(std::span<const std::byte> bytes);
};

void SafetensorsFile::Impl::Parse(std::span<const std::byte> bytes) {
  if (bytes.size() < 8) {
    Fail(ErrorCode::kCorruptData, "[{}] header size: expected 8 bytes, found {}; the file is truncated or damaged",
         origin, bytes.size());
  }
  const uint64_t data_offset = SafetensorsDataOffset(bytes.first<8>(), bytes.size(), origin);
  header = bytes.subspan(8, data_offset - 8);
  const std::span<const std::byte> data = bytes.subspan(data_offset);
  layout = ParseSafetensorsHeader(header, data.size(), origin);
  for (const auto& [name, slice] : layout.tensors) {
    TensorView view;
    view.name = name;
    view.dtype = slice.dtype;
    view.shape = slice.shape;
    view.data = data.subspan(slice.begin, slice.end - slice.begin);
    tensors.emplace(name, std::move(view));
  }
}

SafetensorsFile::SafetensorsFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SafetensorsFile::~SafetensorsFile() = default;

std::shared_ptr<const SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  auto impl = std::make_unique<Impl>();
  impl->origin = path;
  impl->mapped = std::make_unique<MappedFile>(path);
  impl->Parse(impl->mapped->bytes());
  return std::shared_ptr<const SafetensorsFile>(new SafetensorsFile(std::move(impl)));
}

std::shared_ptr<const SafetensorsFile> SafetensorsFile::Parse(std::span<const std::byte> bytes,
                                                              const std::string& origin) {
  auto impl = std::make_unique<Impl>();
  impl->origin = origin;
  impl->Parse(bytes);
  return std::shared_ptr<const SafetensorsFile>(new SafetensorsFile(std::move(impl)));
}

bool SafetensorsFile::Has(const std::string& name) const {
  return impl_->tensors.contains(name) || impl_->layout.unsupported.contains(name);
}

const TensorView* SafetensorsFile::FindTensor(const std::string& name) const {
  if (impl_->layout.unsupported.contains(name)) {
    Fail(ErrorCode::kUnsupported, "[{}] tensor {}: expected F32, F16 or BF16, found another element type; convert it",
         impl_->origin, name);
  }
  const auto found = impl_->tensors.find(name);
  return found == impl_->tensors.end() ? nullptr : &found->second;
}

const std::map<std::string, TensorView>& SafetensorsFile::tensors() const { return impl_->tensors; }
const std::map<std::string, std::string>& SafetensorsFile::metadata() const { return impl_->layout.metadata; }
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
