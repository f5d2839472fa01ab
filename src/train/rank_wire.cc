// SPDX-License-Identifier: Apache-2.0
#include "train/rank_wire.h"

#include "base/check.h"

namespace gateskip::train {
namespace {

void AppendLittleEndian(std::string& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i) & 0xFF));
}

uint64_t LittleEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

}  // namespace

void AppendMessage(std::string& out, MessageType type, std::string_view body) {
  AppendLittleEndian(out, body.size(), 4);
  out.push_back(static_cast<char>(type));
  out.append(body);
}

std::optional<Message> TakeMessage(std::string& in, size_t limit) {
  if (in.size() < kHeaderBytes) return std::nullopt;
  const uint64_t length = LittleEndian(std::string_view(in).substr(0, 4));
  const auto type = static_cast<uint8_t>(in[4]);
  if (length > limit || type < static_cast<uint8_t>(MessageType::kHello) ||
      type > static_cast<uint8_t>(MessageType::kFailed)) {
    Fail(ErrorCode::kCorruptData,
         "[ranks] message: expected a known type and at most {} bytes, found type {} and {} bytes; only ranks of this "
         "run may use this port",
         limit, type, length);
  }
  if (in.size() < kHeaderBytes + length) return std::nullopt;
  Message message{static_cast<MessageType>(type), in.substr(kHeaderBytes, length)};
  in.erase(0, kHeaderBytes + length);
  return message;
}

BodyWriter& BodyWriter::Number(uint64_t value) {
  AppendLittleEndian(body_, value, 8);
  return *this;
}

BodyWriter& BodyWriter::Text(std::string_view value) {
  AppendLittleEndian(body_, value.size(), 4);
  body_.append(value);
  return *this;
}

std::string_view BodyReader::Take(size_t count) {
  if (count > rest_.size()) {
    Fail(ErrorCode::kCorruptData,
         "[ranks] message: expected {} more bytes, found {}; only ranks of this run may use this port", count,
         rest_.size());
  }
  const std::string_view taken = rest_.substr(0, count);
  rest_.remove_prefix(count);
  return taken;
}

uint64_t BodyReader::Number() { return LittleEndian(Take(8)); }
std::string BodyReader::Text() { return std::string(Take(LittleEndian(Take(4)))); }

}  // namespace gateskip::train
