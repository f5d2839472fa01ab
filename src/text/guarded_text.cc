// SPDX-License-Identifier: Apache-2.0
#include "text/guarded_text.h"

#include <algorithm>

#include "text/utf8.h"

namespace gateskip {
namespace {

constexpr uint32_t kUpper = 0xFDD0, kLower = 0xFDE0;

// The half of a byte at text[offset], from 0; 16 or more for any other character.
uint32_t HalfAt(std::string_view text, size_t offset, uint32_t first) {
  return offset < text.size() ? DecodeUtf8(text, offset).code - first : 16;
}

}  // namespace

bool IsStandIn(uint32_t code) { return code - kUpper < 32; }

void AppendStandIns(std::string_view bytes, std::string* out) {
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    AppendUtf8(kUpper + (byte >> 4), out);
    AppendUtf8(kLower + (byte & 15), out);
  }
}

std::string ReplaceStandIns(std::string_view text) {
  constexpr size_t kHalfBytes = 3;  // of each of the two in UTF-8
  constexpr char kFirstByte = '\xEF';
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const size_t found = std::min(text.find(kFirstByte, pos), text.size());
    bytes += text.substr(pos, found - pos);
    pos = found;
    if (pos == text.size()) break;
    const uint32_t upper = HalfAt(text, pos, kUpper);
    const uint32_t lower = HalfAt(text, pos + kHalfBytes, kLower);
    if (upper < 16 && lower < 16) {
      bytes += static_cast<char>(upper << 4 | lower);
      pos += 2 * kHalfBytes;
    } else {
      bytes += text[pos++];
    }
  }
  return bytes;
}

}  // namespace gateskip
