// SPDX-License-Identifier: Apache-2.0
// Opening GGUF files, and the typed getters over what the parser (gguf_parse.cc) has validated.
#include "io/gguf.h"

#include <algorithm>
#include <cmath>

#include "base/sha256.h"
#include "io/gguf_impl.h"

namespace gateskip {
namespace {

// A number as the widest type of its kind.
struct Number {
  enum class Kind { kUnsigned, kSigned, kFloat } kind;
  uint64_t u = 0;
  int64_t i = 0;
  double f = 0;
};

std::optional<Number> ToNumber(GgufType type, const std::byte* p) {
  const auto u = [](uint64_t v) { return Number{Number::Kind::kUnsigned, v, 0, 0}; };
  const auto i = [](int64_t v) { return Number{Number::Kind::kSigned, 0, v, 0}; };
  const auto f = [](double v) { return Number{Number::Kind::kFloat, 0, 0, v}; };
  switch (type) {
    case GgufType::kUint8:
      return u(LoadGguf<uint8_t>(p));
    case GgufType::kUint16:
      return u(LoadGguf<uint16_t>(p));
    case GgufType::kUint32:
      return u(LoadGguf<uint32_t>(p));
    case GgufType::kUint64:
      return u(LoadGguf<uint64_t>(p));
    case GgufType::kInt8:
      return i(LoadGguf<int8_t>(p));
    case GgufType::kInt16:
      return i(LoadGguf<int16_t>(p));
    case GgufType::kInt32:
      return i(LoadGguf<int32_t>(p));
    case GgufType::kInt64:
      return i(LoadGguf<int64_t>(p));
    case GgufType::kFloat32:
      return f(static_cast<double>(LoadGguf<float>(p)));
    case GgufType::kFloat64:
      return f(LoadGguf<double>(p));
    default:
      return std::nullopt;
  }
}

std::optional<uint64_t> AsUint(const Number& n) {
  if (n.kind == Number::Kind::kUnsigned) return n.u;
  if (n.kind == Number::Kind::kSigned && n.i >= 0) return static_cast<uint64_t>(n.i);
  return std::nullopt;
}

std::optional<int64_t> AsInt(const Number& n) {
  if (n.kind == Number::Kind::kSigned) return n.i;
  if (n.kind == Number::Kind::kUnsigned && n.u <= static_cast<uint64_t>(INT64_MAX)) return static_cast<int64_t>(n.u);
  return std::nullopt;
}

std::string_view NameOf(GgufType type) { return FindGgufType(static_cast<uint32_t>(type))->name; }

}  // namespace

GgufFile::GgufFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GgufFile::~GgufFile() = default;

std::shared_ptr<const GgufFile> GgufFile::Open(const std::string& path) {
  auto impl = std::make_unique<Impl>();
  impl->origin = path;
  impl->mapped = std::make_unique<MappedFile>(path);
  impl->bytes = impl->mapped->bytes();
  impl->ParseAll();
  return std::shared_ptr<const GgufFile>(new GgufFile(std::move(impl)));
}

std::shared_ptr<const GgufFile> GgufFile::Parse(std::span<const std::byte> bytes, const std::string& origin) {
  auto impl = std::make_unique<Impl>();
  impl->origin = origin;
  impl->bytes = bytes;
  impl->ParseAll();
  return std::shared_ptr<const GgufFile>(new GgufFile(std::move(impl)));
}

const std::string& GgufFile::origin() const { return impl_->origin; }
std::span<const TensorView> GgufFile::tensors() const { return impl_->tensors; }

const TensorView* GgufFile::FindTensor(std::string_view name) const {
  const auto found = impl_->tensor_index.find(name);
  return found == impl_->tensor_index.end() ? nullptr : &impl_->tensors[found->second];
}

bool GgufFile::Has(std::string_view key) const { return impl_->Find(key) != nullptr; }
std::vector<std::string_view> GgufFile::Keys() const { return impl_->keys; }

std::optional<GgufType> GgufFile::TypeOf(std::string_view key) const {
  const GgufValue* value = impl_->Find(key);
  return value == nullptr ? std::nullopt : std::optional(value->type);
}

uint64_t GgufFile::GetUint(std::string_view key, std::optional<uint64_t> fallback) const {
  const GgufValue* value = impl_->Find(key);
  if (value == nullptr && fallback) return *fallback;
  const auto number = value == nullptr ? std::nullopt : ToNumber(value->type, value->bytes.data());
  const auto result = number ? AsUint(*number) : std::nullopt;
  if (!result) impl_->FailKey(key, "an unsigned integer", value);
  return *result;
}

int64_t GgufFile::GetInt(std::string_view key, std::optional<int64_t> fallback) const {
  const GgufValue* value = impl_->Find(key);
  if (value == nullptr && fallback) return *fallback;
  const auto number = value == nullptr ? std::nullopt : ToNumber(value->type, value->bytes.data());
  const auto result = number ? AsInt(*number) : std::nullopt;
  if (!result) impl_->FailKey(key, "an integer", value);
  return *result;
}

double GgufFile::GetFloat(std::string_view key, std::optional<double> fallback) const {
  const GgufValue* value = impl_->Find(key);
  if (value == nullptr && fallback) return *fallback;
  const auto number = value == nullptr ? std::nullopt : ToNumber(value->type, value->bytes.data());
  if (!number || number->kind != Number::Kind::kFloat || !std::isfinite(number->f)) {
    impl_->FailKey(key, "a finite float", value);
  }
  return number->f;
}

bool GgufFile::GetBool(std::string_view key, std::optional<bool> fallback) const {
  const GgufValue* value = impl_->Find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || value->type != GgufType::kBool) impl_->FailKey(key, "a bool", value);
  return LoadGguf<uint8_t>(value->bytes.data()) != 0;
}

std::string_view GgufFile::GetString(std::string_view key, std::optional<std::string_view> fallback) const {
  const GgufValue* value = impl_->Find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || value->type != GgufType::kString) impl_->FailKey(key, "a string", value);
  return value->string;
}

std::vector<std::string_view> GgufFile::GetStrings(std::string_view key) const {
  const GgufValue& value = impl_->ArrayOf(key, "an array of strings");
  if (value.element != GgufType::kString) impl_->FailKey(key, "an array of strings", &value);
  return value.strings;
}

std::vector<float> GgufFile::GetFloats(std::string_view key) const {
  const GgufValue& value = impl_->ArrayOf(key, "an array of f32");
  if (value.element != GgufType::kFloat32) impl_->FailKey(key, "an array of f32", &value);
  std::vector<float> floats(value.count);
  if (!floats.empty()) std::memcpy(floats.data(), value.bytes.data(), value.bytes.size());
  return floats;
}

std::vector<int64_t> GgufFile::GetInts(std::string_view key) const {
  const GgufValue& value = impl_->ArrayOf(key, "an array of integers");
  std::vector<int64_t> ints;
  const size_t element = FindGgufType(static_cast<uint32_t>(value.element))->bytes;
  for (uint64_t i = 0; i < value.count; ++i) {
    const auto number = element == 0 ? std::nullopt : ToNumber(value.element, value.bytes.data() + i * element);
    const auto result = number ? AsInt(*number) : std::nullopt;
    if (!result) impl_->FailKey(key, "an array of integers", &value);
    ints.push_back(*result);
  }
  return ints;
}

std::span<const std::byte> GgufFile::RawValue(std::string_view key) const {
  const GgufValue* value = impl_->Find(key);
  GS_CHECK(value != nullptr);
  return value->raw;
}

std::string GgufFile::DescribeValue(std::string_view key, size_t max_chars) const {
  const GgufValue* value = impl_->Find(key);
  if (value == nullptr) return {};
  std::string text;
  if (value->type == GgufType::kString) {
    text = value->string;
  } else if (value->type == GgufType::kArray) {
    text = fmt::format("{}[{}]", NameOf(value->element), value->count);
  } else if (value->type == GgufType::kBool) {
    text = GetBool(key) ? "true" : "false";
  } else {
    const Number number = *ToNumber(value->type, value->bytes.data());
    text = number.kind == Number::Kind::kUnsigned ? fmt::format("{}", number.u)
           : number.kind == Number::Kind::kSigned ? fmt::format("{}", number.i)
                                                  : fmt::format("{:g}", number.f);
  }
  if (text.size() > max_chars) text = text.substr(0, max_chars) + "...";
  return text;
}

void GgufFile::ReleasePages(const TensorView& tensor) const {
  if (impl_->mapped != nullptr) ReleaseMappedPages(tensor.data);
}

std::string GgufFile::Fingerprint() const {
  constexpr size_t kSample = 4096;
  Sha256 hash;
  hash.Update(impl_->bytes.first(impl_->header_bytes));
  for (const TensorView& tensor : impl_->tensors) {
    hash.Update(tensor.data.first(std::min(kSample, tensor.data.size())));
    hash.Update(tensor.data.last(std::min(kSample, tensor.data.size())));
  }
  return hash.HexDigest();
}

}  // namespace gateskip
