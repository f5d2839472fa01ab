// SPDX-License-Identifier: Apache-2.0
// The GGUF reader. One cursor does all the bounds checking; nothing is believed before it has been compared with
// the bytes that are left.
#include "io/gguf.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <unordered_map>

#include "base/check.h"
#include "base/checked_math.h"
#include "base/sha256.h"
#include "io/mapped_file.h"

namespace gateskip {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = uint64_t{1} << 20;
constexpr uint64_t kMaxNameBytes = 1024;
constexpr uint32_t kMaxRank = 4;
// Smallest encodings: a key-value pair is a length, a key byte, a type and a value byte; a tensor entry a length, a
// name byte, a rank, one dimension, a type and an offset.
constexpr uint64_t kMinKeyValueBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

struct TypeName {
  GgufType type;
  std::string_view name;
  uint32_t bytes;  // 0 for strings and arrays
};
constexpr TypeName kTypes[] = {
    {GgufType::kUint8, "u8", 1},    {GgufType::kInt8, "i8", 1},    {GgufType::kUint16, "u16", 2},
    {GgufType::kInt16, "i16", 2},   {GgufType::kUint32, "u32", 4}, {GgufType::kInt32, "i32", 4},
    {GgufType::kFloat32, "f32", 4}, {GgufType::kBool, "bool", 1},  {GgufType::kString, "string", 0},
    {GgufType::kArray, "array", 0}, {GgufType::kUint64, "u64", 8}, {GgufType::kInt64, "i64", 8},
    {GgufType::kFloat64, "f64", 8},
};

const TypeName* FindType(uint32_t raw) {
  for (const TypeName& type : kTypes) {
    if (static_cast<uint32_t>(type.type) == raw) return &type;
  }
  return nullptr;
}

std::optional<DType> DTypeFromGguf(uint32_t raw) {
  switch (raw) {
    case 0:
      return DType::kF32;
    case 1:
      return DType::kF16;
    case 2:
      return DType::kQ4_0;
    case 3:
      return DType::kQ4_1;
    case 6:
      return DType::kQ5_0;
    case 7:
      return DType::kQ5_1;
    case 8:
      return DType::kQ8_0;
    case 12:
      return DType::kQ4_K;
    case 13:
      return DType::kQ5_K;
    case 14:
      return DType::kQ6_K;
    case 30:
      return DType::kBF16;
    default:
      return std::nullopt;
  }
}

class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& origin) : bytes_(bytes), origin_(origin) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }

  std::span<const std::byte> Take(uint64_t count, const char* subject) {
    if (count > remaining()) {
      Fail(ErrorCode::kCorruptData,
           "[{}] {}: expected {} bytes at offset {}, found {} left; the file is truncated or "
           "damaged",
           origin_, subject, count, position_, remaining());
    }
    const auto taken = bytes_.subspan(position_, count);
    position_ += count;
    return taken;
  }

  template <typename T>
  T Read(const char* subject) {
    T value;
    std::memcpy(&value, Take(sizeof(T), subject).data(), sizeof(T));
    return value;
  }

  std::string_view String(const char* subject) {
    const auto length = Read<uint64_t>(subject);
    const auto bytes = Take(length, subject);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& origin_;
  uint64_t position_ = 0;
};

struct Value {
  GgufType type = GgufType::kUint8;
  GgufType element = GgufType::kUint8;  // of an array
  uint64_t count = 1;
  std::span<const std::byte> bytes;  // of a scalar or an array of scalars
  std::string_view string;
  std::vector<std::string_view> strings;
};

template <typename T>
T Load(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

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
      return u(Load<uint8_t>(p));
    case GgufType::kUint16:
      return u(Load<uint16_t>(p));
    case GgufType::kUint32:
      return u(Load<uint32_t>(p));
    case GgufType::kUint64:
      return u(Load<uint64_t>(p));
    case GgufType::kInt8:
      return i(Load<int8_t>(p));
    case GgufType::kInt16:
      return i(Load<int16_t>(p));
    case GgufType::kInt32:
      return i(Load<int32_t>(p));
    case GgufType::kInt64:
      return i(Load<int64_t>(p));
    case GgufType::kFloat32:
      return f(static_cast<double>(Load<float>(p)));
    case GgufType::kFloat64:
      return f(Load<double>(p));
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

std::string_view NameOf(GgufType type) { return FindType(static_cast<uint32_t>(type))->name; }

}  // namespace

struct GgufFile::Impl {
  std::string origin;
  std::unique_ptr<MappedFile> mapped;
  std::span<const std::byte> bytes;
  uint64_t header_bytes = 0;
  std::vector<std::string_view> keys;
  std::unordered_map<std::string_view, Value> values;
  std::vector<TensorView> tensors;
  std::unordered_map<std::string_view, size_t> tensor_index;

  void ParseAll();
  uint64_t ParseHeader(Cursor* cursor, uint64_t* num_tensors);
  Value ParseValue(Cursor* cursor, std::string_view key);
  void ParseKeyValues(Cursor* cursor, uint64_t count);
  void ParseTensors(Cursor* cursor, uint64_t count);
  TensorView ParseTensor(Cursor* cursor, uint64_t* offset);
  void PlaceTensors(const std::vector<uint64_t>& offsets, uint64_t data_begin, uint64_t alignment);
  uint64_t Alignment() const;

  const Value* Find(std::string_view key) const {
    const auto found = values.find(key);
    return found == values.end() ? nullptr : &found->second;
  }
  [[noreturn]] void FailKey(std::string_view key, std::string_view expected, const Value* found) const {
    Fail(ErrorCode::kCorruptData, "[{}] key {}: expected {}, found {}; the file does not hold what this model needs",
         origin, key, expected, found == nullptr ? "nothing" : NameOf(found->type));
  }
  const Value& ArrayOf(std::string_view key, std::string_view expected) const {
    const Value* value = Find(key);
    if (value == nullptr || value->type != GgufType::kArray) FailKey(key, expected, value);
    return *value;
  }
};

uint64_t GgufFile::Impl::ParseHeader(Cursor* cursor, uint64_t* num_tensors) {
  const auto magic = cursor->Read<uint32_t>("magic");
  if (magic != kMagic) {
    Fail(ErrorCode::kCorruptData, "[{}] magic: expected GGUF, found {:#010x}; this is not a GGUF file", origin, magic);
  }
  const auto version = cursor->Read<uint32_t>("version");
  if (version != 2 && version != 3) {
    const bool swapped = __builtin_bswap32(version) == 2 || __builtin_bswap32(version) == 3;
    Fail(ErrorCode::kUnsupported, "[{}] version: expected GGUF 2 or 3, found {}; convert the file", origin,
         swapped ? std::string("a big-endian file") : std::to_string(version));
  }
  *num_tensors = cursor->Read<uint64_t>("tensor count");
  const auto num_values = cursor->Read<uint64_t>("key count");
  if (*num_tensors > cursor->remaining() / kMinTensorBytes || num_values > cursor->remaining() / kMinKeyValueBytes) {
    Fail(ErrorCode::kCorruptData,
         "[{}] counts: expected tensors and keys to fit the {} bytes left, found {} and {}; the "
         "file is truncated or damaged",
         origin, cursor->remaining(), *num_tensors, num_values);
  }
  return num_values;
}

Value GgufFile::Impl::ParseValue(Cursor* cursor, std::string_view key) {
  const auto type_of = [&](uint32_t raw) {
    const TypeName* type = FindType(raw);
    if (type == nullptr) {
      Fail(ErrorCode::kCorruptData, "[{}] key {}: expected a known value type, found {}; the file is damaged", origin,
           key, raw);
    }
    return type;
  };
  const TypeName* type = type_of(cursor->Read<uint32_t>("value type"));
  Value value;
  value.type = type->type;
  if (value.type == GgufType::kString) {
    value.string = cursor->String("string value");
    return value;
  }
  if (value.type != GgufType::kArray) {
    value.bytes = cursor->Take(type->bytes, "value");
    return value;
  }
  const TypeName* element = type_of(cursor->Read<uint32_t>("array type"));
  value.element = element->type;
  value.count = cursor->Read<uint64_t>("array length");
  if (value.element == GgufType::kArray) {
    Fail(ErrorCode::kUnsupported, "[{}] key {}: expected a flat array, found an array of arrays; the file is damaged",
         origin, key);
  }
  if (value.element != GgufType::kString) {
    const auto array_bytes = CheckedMul(value.count, element->bytes);
    value.bytes = cursor->Take(array_bytes.value_or(std::numeric_limits<uint64_t>::max()), "array");
    return value;
  }
  if (value.count > cursor->remaining() / 8) {  // every string has an 8-byte length
    Fail(ErrorCode::kCorruptData,
         "[{}] key {}: expected strings to fit the {} bytes left, found {} of them; the file is "
         "truncated or damaged",
         origin, key, cursor->remaining(), value.count);
  }
  value.strings.reserve(value.count);
  for (uint64_t i = 0; i < value.count; ++i) value.strings.push_back(cursor->String("array string"));
  return value;
}

void GgufFile::Impl::ParseKeyValues(Cursor* cursor, uint64_t count) {
  keys.reserve(count);
  values.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    const std::string_view key = cursor->String("key");
    if (key.empty() || key.size() > kMaxNameBytes) {
      Fail(ErrorCode::kCorruptData, "[{}] key {}: expected 1 to {} bytes, found {}; the file is damaged", origin, i,
           kMaxNameBytes, key.size());
    }
    if (!values.emplace(key, ParseValue(cursor, key)).second) {
      Fail(ErrorCode::kCorruptData, "[{}] key {}: expected it once, found it twice; the file is damaged", origin, key);
    }
    keys.push_back(key);
  }
}

TensorView GgufFile::Impl::ParseTensor(Cursor* cursor, uint64_t* offset) {
  TensorView tensor;
  const std::string_view name = cursor->String("tensor name");
  if (name.empty() || name.size() > kMaxNameBytes) {
    Fail(ErrorCode::kCorruptData, "[{}] tensor name: expected 1 to {} bytes, found {}; the file is damaged", origin,
         kMaxNameBytes, name.size());
  }
  tensor.name = name;
  const auto rank = cursor->Read<uint32_t>("tensor rank");
  if (rank < 1 || rank > kMaxRank) {
    Fail(ErrorCode::kCorruptData, "[{}] tensor {}: expected 1 to {} dimensions, found {}; the file is damaged", origin,
         name, kMaxRank, rank);
  }
  uint64_t elements = 1;
  for (uint32_t d = 0; d < rank; ++d) {
    const auto dim = cursor->Read<uint64_t>("tensor dimension");
    const auto product = CheckedMul(elements, dim);
    if (dim == 0 || !product || *product > static_cast<uint64_t>(INT64_MAX)) {
      Fail(ErrorCode::kCorruptData,
           "[{}] tensor {}: expected positive dimensions whose product fits, found {} at {}; the "
           "file is damaged",
           origin, name, dim, d);
    }
    elements = *product;
    tensor.shape.push_back(static_cast<int64_t>(dim));
  }
  std::ranges::reverse(tensor.shape);
  const auto raw_type = cursor->Read<uint32_t>("tensor type");
  const auto dtype = DTypeFromGguf(raw_type);
  if (!dtype) {
    Fail(ErrorCode::kUnsupported,
         "[{}] tensor {}: expected F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or "
         "Q6_K, found type {}; convert the file",
         origin, name, raw_type);
  }
  tensor.dtype = *dtype;
  *offset = cursor->Read<uint64_t>("tensor offset");
  const auto size = StorageBytes(tensor.dtype, elements);
  const auto block = GetDTypeInfo(tensor.dtype).block_elements;
  if (!size || tensor.shape.back() % block != 0) {
    Fail(ErrorCode::kCorruptData,
         "[{}] tensor {}: expected rows of whole {} blocks of {}, found {} elements; the file is "
         "damaged",
         origin, name, GetDTypeInfo(tensor.dtype).name, block, tensor.shape.back());
  }
  tensor.data = {static_cast<const std::byte*>(nullptr), *size};  // placed later
  return tensor;
}

uint64_t GgufFile::Impl::Alignment() const {
  const Value* value = Find("general.alignment");
  if (value == nullptr) return kDefaultAlignment;
  if (value->type != GgufType::kUint32) FailKey("general.alignment", "a u32", value);
  const auto alignment = Load<uint32_t>(value->bytes.data());
  if (!std::has_single_bit(alignment) || alignment > kMaxAlignment) {
    Fail(ErrorCode::kCorruptData,
         "[{}] general.alignment: expected a power of two up to {}, found {}; the file is damaged", origin,
         kMaxAlignment, alignment);
  }
  return alignment;
}

void GgufFile::Impl::PlaceTensors(const std::vector<uint64_t>& offsets, uint64_t data_begin, uint64_t alignment) {
  const uint64_t data_bytes = data_begin > bytes.size() ? 0 : bytes.size() - data_begin;
  std::vector<size_t> order(tensors.size());
  for (size_t i = 0; i < order.size(); ++i) {
    order[i] = i;
    const uint64_t size = tensors[i].data.size();
    const auto end = CheckedAdd(offsets[i], size);
    if (offsets[i] % alignment != 0 || !end || *end > data_bytes) {
      Fail(ErrorCode::kCorruptData,
           "[{}] tensor {}: expected {} bytes at an offset aligned to {} inside the {} bytes of "
           "data, found offset {}; the file is truncated or damaged",
           origin, tensors[i].name, size, alignment, data_bytes, offsets[i]);
    }
    tensors[i].data = bytes.subspan(data_begin + offsets[i], size);
  }
  std::ranges::sort(order, {}, [&](size_t i) { return offsets[i]; });
  for (size_t i = 1; i < order.size(); ++i) {
    const TensorView& before = tensors[order[i - 1]];
    if (offsets[order[i - 1]] + before.data.size() > offsets[order[i]]) {
      Fail(ErrorCode::kCorruptData,
           "[{}] tensor {}: expected its own bytes, found them overlapping {}; the file is damaged", origin,
           tensors[order[i]].name, before.name);
    }
  }
}

void GgufFile::Impl::ParseTensors(Cursor* cursor, uint64_t count) {
  tensors.reserve(count);
  std::vector<uint64_t> offsets(count);
  for (uint64_t i = 0; i < count; ++i) tensors.push_back(ParseTensor(cursor, &offsets[i]));
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!tensor_index.emplace(tensors[i].name, i).second) {
      Fail(ErrorCode::kCorruptData, "[{}] tensor {}: expected it once, found it twice; the file is damaged", origin,
           tensors[i].name);
    }
  }
  header_bytes = cursor->position();
  const uint64_t alignment = Alignment();
  const auto data_begin = CheckedAlignUp(cursor->position(), alignment);
  PlaceTensors(offsets, data_begin.value_or(bytes.size()), alignment);
}

void GgufFile::Impl::ParseAll() {
  Cursor cursor(bytes, origin);
  uint64_t num_tensors = 0;
  const uint64_t num_values = ParseHeader(&cursor, &num_tensors);
  ParseKeyValues(&cursor, num_values);
  ParseTensors(&cursor, num_tensors);
}

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
  const Value* value = impl_->Find(key);
  return value == nullptr ? std::nullopt : std::optional(value->type);
}

uint64_t GgufFile::GetUint(std::string_view key, std::optional<uint64_t> fallback) const {
  const Value* value = impl_->Find(key);
  if (value == nullptr && fallback) return *fallback;
  const auto number = value == nullptr ? std::nullopt : ToNumber(value->type, value->bytes.data());
  const auto result = number ? AsUint(*number) : std::nullopt;
  if (!result) impl_->FailKey(key, "an unsigned integer", value);
  return *result;
}

int64_t GgufFile::GetInt(std::string_view key, std::optional<int64_t> fallback) const {
  const Value* value = impl_->Find(key);
  if (value == nullptr && fallback) return *fallback;
  const auto number = value == nullptr ? std::nullopt : ToNumber(value->type, value->bytes.data());
  const auto result = number ? AsInt(*number) : std::nullopt;
  if (!result) impl_->FailKey(key, "an integer", value);
  return *result;
}

double GgufFile::GetFloat(std::string_view key, std::optional<double> fallback) const {
  const Value* value = impl_->Find(key);
  if (value == nullptr && fallback) return *fallback;
  const auto number = value == nullptr ? std::nullopt : ToNumber(value->type, value->bytes.data());
  if (!number || number->kind != Number::Kind::kFloat || !std::isfinite(number->f)) {
    impl_->FailKey(key, "a finite float", value);
  }
  return number->f;
}

bool GgufFile::GetBool(std::string_view key, std::optional<bool> fallback) const {
  const Value* value = impl_->Find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || value->type != GgufType::kBool) impl_->FailKey(key, "a bool", value);
  return Load<uint8_t>(value->bytes.data()) != 0;
}

std::string_view GgufFile::GetString(std::string_view key, std::optional<std::string_view> fallback) const {
  const Value* value = impl_->Find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || value->type != GgufType::kString) impl_->FailKey(key, "a string", value);
  return value->string;
}

std::vector<std::string_view> GgufFile::GetStrings(std::string_view key) const {
  const Value& value = impl_->ArrayOf(key, "an array of strings");
  if (value.element != GgufType::kString) impl_->FailKey(key, "an array of strings", &value);
  return value.strings;
}

std::vector<float> GgufFile::GetFloats(std::string_view key) const {
  const Value& value = impl_->ArrayOf(key, "an array of f32");
  if (value.element != GgufType::kFloat32) impl_->FailKey(key, "an array of f32", &value);
  std::vector<float> floats(value.count);
  if (!floats.empty()) std::memcpy(floats.data(), value.bytes.data(), value.bytes.size());
  return floats;
}

std::vector<int64_t> GgufFile::GetInts(std::string_view key) const {
  const Value& value = impl_->ArrayOf(key, "an array of integers");
  std::vector<int64_t> ints;
  const size_t element = FindType(static_cast<uint32_t>(value.element))->bytes;
  for (uint64_t i = 0; i < value.count; ++i) {
    const auto number = element == 0 ? std::nullopt : ToNumber(value.element, value.bytes.data() + i * element);
    const auto result = number ? AsInt(*number) : std::nullopt;
    if (!result) impl_->FailKey(key, "an array of integers", &value);
    ints.push_back(*result);
  }
  return ints;
}

std::string GgufFile::DescribeValue(std::string_view key, size_t max_chars) const {
  const Value* value = impl_->Find(key);
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
