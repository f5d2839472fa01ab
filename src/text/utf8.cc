// SPDX-License-Identifier: Apache-2.0
// UTF-8 decoding after table 3-7 of the Unicode standard; categories from utf8proc, ASCII from a small table.
#include "text/utf8.h"

#include <utf8proc.h>

#include <array>

namespace gateskip {
namespace {

struct Lead {
  uint8_t length;      // 0: never a lead byte
  uint8_t second_min;  // bounds of the second byte, which rule out overlong forms and surrogates
  uint8_t second_max;
};

Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

uint8_t ByteAt(std::string_view text, size_t i) { return static_cast<uint8_t>(text[i]); }

bool IsSpace(uint32_t code) {
  return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 || code == 0x1680 ||
         (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
         code == 0x3000;
}

CharClass SlowClassOf(uint32_t code) {
  if (code > 0x10FFFF) return CharClass::kOther;
  if (IsSpace(code)) return CharClass::kSpace;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return CharClass::kLetter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return CharClass::kNumber;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return CharClass::kPunctuation;
    default:
      return CharClass::kOther;
  }
}

}  // namespace

Utf8Char DecodeUtf8(std::string_view text, size_t offset) {
  const uint8_t first = ByteAt(text, offset);
  if (first < 0x80) return {first, 1};
  const Lead lead = LeadOf(first);
  if (lead.length == 0 || offset + lead.length > text.size()) return {kInvalidCodePoint, 1};
  const uint8_t second = ByteAt(text, offset + 1);
  if (second < lead.second_min || second > lead.second_max) return {kInvalidCodePoint, 1};
  uint32_t code = first & (0x7Fu >> lead.length);
  code = (code << 6) | (second & 0x3Fu);
  for (size_t i = 2; i < lead.length; ++i) {
    const uint8_t byte = ByteAt(text, offset + i);
    if ((byte & 0xC0) != 0x80) return {kInvalidCodePoint, 1};
    code = (code << 6) | (byte & 0x3Fu);
  }
  return {code, lead.length};
}

void AppendUtf8(uint32_t code, std::string* out) {
  const auto put = [out](uint32_t byte) { out->push_back(static_cast<char>(static_cast<uint8_t>(byte))); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | (code >> 6));
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3F));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

size_t FindInvalidUtf8(std::string_view text) {
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Char c = DecodeUtf8(text, pos);
    if (c.code == kInvalidCodePoint) return pos;
    pos += c.length;
  }
  return std::string_view::npos;
}

std::string ReadableText(std::string_view text, size_t max_bytes) {
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Char c = DecodeUtf8(text, pos);
    const std::string_view piece = c.code == kInvalidCodePoint ? "\uFFFD" : text.substr(pos, c.length);
    if (out.size() + piece.size() > max_bytes) break;
    out += piece;
    pos += c.length;
  }
  return out;
}

size_t TruncatedUtf8(std::string_view text, size_t offset) {
  const Lead lead = LeadOf(ByteAt(text, offset));
  const size_t available = text.size() - offset;
  if (lead.length < 2 || available >= lead.length) return 0;
  if (available >= 2) {
    const uint8_t second = ByteAt(text, offset + 1);
    if (second < lead.second_min || second > lead.second_max) return 0;
  }
  if (available == 3 && (ByteAt(text, offset + 2) & 0xC0) != 0x80) return 0;
  return available;
}

CharClass ClassOf(uint32_t code) {
  static const std::array<CharClass, 128> kAscii = [] {
    std::array<CharClass, 128> table{};
    for (uint32_t c = 0; c < 128; ++c) table[c] = SlowClassOf(c);
    return table;
  }();
  return code < 128 ? kAscii[code] : SlowClassOf(code);
}

}  // namespace gateskip
