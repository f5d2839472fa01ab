// SPDX-License-Identifier: Apache-2.0
// The GGUF parser. One cursor does all the bounds checking; nothing is believed before it has been compared with the
// bytes that are left.
#include <algorithm>
#include <bit>
#include <limits>

#include "base/check.h"
#include "base/checked_math.h"
#include "io/gguf_impl.h"

namespace gateskip {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMinAlignment = 8;
constexpr uint64_t kMaxAlignment = uint64_t{1} << 20;
constexpr uint64_t kMaxNameBytes = 1024;
constexpr uint32_t kMaxRank = 4;
// Smallest encodings: a key-value pair is a length, a key byte, a type and a value byte; a tensor entry a length, a
// name byte, a rank, one dimension, a type and an offset.
constexpr uint64_t kMinKeyValueBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;
// Entries reserved for at once: a count that fits the file is still only a claim, and in a file of gigabytes it would
// reserve gigabytes. Beyond it the tables grow with what has been read.
constexpr uint64_t kMaxReserve = uint64_t{1} << 16;

constexpr GgufTypeInfo kTypes[] = {
    {GgufType::kUint8, "u8", 1},    {GgufType::kInt8, "i8", 1},    {GgufType::kUint16, "u16", 2},
    {GgufType::kInt16, "i16", 2},   {GgufType::kUint32, "u32", 4}, {GgufType::kInt32, "i32", 4},
    {GgufType::kFloat32, "f32", 4}, {GgufType::kBool, "bool", 1},  {GgufType::kString, "string", 0},
    {GgufType::kArray, "array", 0}, {GgufType::kUint64, "u64", 8}, {GgufType::kInt64, "i64", 8},
    {GgufType::kFloat64, "f64", 8},
};

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

// Keys are ASCII by the format's text. Holding tensor names to it too keeps control characters and broken UTF-8 out
// of terminals, JSON reports and logs; no writer is known to use others.
bool IsPlainName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         std::ranges::all_of(name, [](char c) { return c >= 0x20 && c < 0x7F; });
}

}  // namespace

class GgufCursor {
 public:
  GgufCursor(std::span<const std::byte> bytes, const std::string& origin) : bytes_(bytes), origin_(origin) {}

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

const GgufTypeInfo* FindGgufType(uint32_t raw) {
  for (const GgufTypeInfo& type : kTypes) {
    if (static_cast<uint32_t>(type.type) == raw) return &type;
  }
  return nullptr;
}

uint64_t GgufFile::Impl::ParseHeader(GgufCursor* cursor, uint64_t* num_tensors) {
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

GgufValue GgufFile::Impl::ParseValue(GgufCursor* cursor, std::string_view key) {
  GgufValue value;
  const auto type_of = [&](uint32_t raw) {
    const GgufTypeInfo* type = FindGgufType(raw);
    if (type == nullptr) {
      Fail(ErrorCode::kCorruptData, "[{}] key {}: expected a known value type, found {}; the file is damaged", origin,
           key, raw);
    }
    return type;
  };
  const auto check_bools = [&](GgufType found) {
    const auto is_bool = [](std::byte b) { return b <= std::byte{1}; };
    if (found == GgufType::kBool && !std::ranges::all_of(value.bytes, is_bool)) {
      Fail(ErrorCode::kCorruptData, "[{}] key {}: expected 0 or 1 as a bool, found another byte; the file is damaged",
           origin, key);
    }
  };
  const GgufTypeInfo* type = type_of(cursor->Read<uint32_t>("value type"));
  value.type = type->type;
  if (value.type == GgufType::kString) {
    value.string = cursor->String("string value");
    return value;
  }
  if (value.type != GgufType::kArray) {
    value.bytes = cursor->Take(type->bytes, "value");
    check_bools(value.type);
    return value;
  }
  const GgufTypeInfo* element = type_of(cursor->Read<uint32_t>("array type"));
  value.element = element->type;
  value.count = cursor->Read<uint64_t>("array length");
  if (value.element == GgufType::kArray) {
    Fail(ErrorCode::kUnsupported, "[{}] key {}: expected a flat array, found an array of arrays; the file is damaged",
         origin, key);
  }
  if (value.element != GgufType::kString) {
    const auto array_bytes = CheckedMul(value.count, element->bytes);
    value.bytes = cursor->Take(array_bytes.value_or(std::numeric_limits<uint64_t>::max()), "array");
    check_bools(value.element);
    return value;
  }
  if (value.count > cursor->remaining() / 8) {  // every string has an 8-byte length
    Fail(ErrorCode::kCorruptData,
         "[{}] key {}: expected strings to fit the {} bytes left, found {} of them; the file is "
         "truncated or damaged",
         origin, key, cursor->remaining(), value.count);
  }
  value.strings.reserve(std::min(value.count, kMaxReserve));
  for (uint64_t i = 0; i < value.count; ++i) value.strings.push_back(cursor->String("array string"));
  return value;
}

void GgufFile::Impl::ParseKeyValues(GgufCursor* cursor, uint64_t count) {
  keys.reserve(std::min(count, kMaxReserve));
  for (uint64_t i = 0; i < count; ++i) {
    const std::string_view key = cursor->String("key");
    if (!IsPlainName(key)) {
      Fail(ErrorCode::kCorruptData,
           "[{}] key {}: expected 1 to {} printable ASCII characters, found {} bytes; the file is damaged", origin, i,
           kMaxNameBytes, key.size());
    }
    const uint64_t begin = cursor->position();
    GgufValue value = ParseValue(cursor, key);
    value.raw = bytes.subspan(begin, cursor->position() - begin);
    if (!values.emplace(key, std::move(value)).second) {
      Fail(ErrorCode::kCorruptData, "[{}] key {}: expected it once, found it twice; the file is damaged", origin, key);
    }
    keys.push_back(key);
  }
}

TensorView GgufFile::Impl::ParseTensor(GgufCursor* cursor, uint64_t* offset) {
  TensorView tensor;
  const std::string_view name = cursor->String("tensor name");
  if (!IsPlainName(name)) {
    Fail(ErrorCode::kCorruptData,
         "[{}] tensor {}: expected a name of 1 to {} printable ASCII characters, found {} bytes; the file is damaged",
         origin, tensors.size(), kMaxNameBytes, name.size());
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
  const GgufValue* value = Find("general.alignment");
  if (value == nullptr) return kDefaultAlignment;
  if (value->type != GgufType::kUint32) FailKey("general.alignment", "a u32", value);
  const auto alignment = LoadGguf<uint32_t>(value->bytes.data());
  if (!std::has_single_bit(alignment) || alignment < kMinAlignment || alignment > kMaxAlignment) {
    Fail(ErrorCode::kCorruptData,
         "[{}] general.alignment: expected a power of two from {} to {}, found {}; the file is damaged", origin,
         kMinAlignment, kMaxAlignment, alignment);
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
  // Back to back but for padding, as every writer does it: no byte belongs to two tensors, and none hides between.
  uint64_t end = 0;  // of the tensors so far; <= data_bytes, so that adding the padding cannot wrap
  for (const size_t i : order) {
    if (offsets[i] < end) {
      Fail(ErrorCode::kCorruptData,
           "[{}] tensor {}: expected its own bytes, found them overlapping others; the file is damaged", origin,
           tensors[i].name);
    }
    if (offsets[i] != CheckedAlignUp(end, alignment)) {
      Fail(ErrorCode::kCorruptData,
           "[{}] tensor {}: expected no hole before its data, found offset {} after the end at {}; the file is damaged",
           origin, tensors[i].name, offsets[i], end);
    }
    end = offsets[i] + tensors[i].data.size();
  }
}

void GgufFile::Impl::ParseTensors(GgufCursor* cursor, uint64_t count) {
  tensors.reserve(std::min(count, kMaxReserve));
  std::vector<uint64_t> offsets;
  for (uint64_t i = 0; i < count; ++i) {
    offsets.push_back(0);
    tensors.push_back(ParseTensor(cursor, &offsets.back()));
  }
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
  GgufCursor cursor(bytes, origin);
  uint64_t num_tensors = 0;
  const uint64_t num_values = ParseHeader(&cursor, &num_tensors);
  ParseKeyValues(&cursor, num_values);
  ParseTensors(&cursor, num_tensors);
}

}  // namespace gateskip
