// SPDX-License-Identifier: Apache-2.0
// UTF-8 decoding that never fails, and the few Unicode properties the splitters ask for (data: utf8proc).
// No normalisation, no case folding beyond ASCII.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace gateskip {

struct Utf8Char {
  uint32_t code;    // kInvalidCodePoint for a byte that is not part of a well-formed character
  uint32_t length;  // bytes, >= 1; 1 for an invalid byte
};
inline constexpr uint32_t kInvalidCodePoint = 0xFFFFFFFFu;

// The character that starts at text[offset]; offset < text.size(). Strict: overlong forms, surrogates and code
// points over U+10FFFF are invalid bytes.
Utf8Char DecodeUtf8(std::string_view text, size_t offset);

void AppendUtf8(uint32_t code, std::string* out);

// Offset of the first byte that is not part of a well-formed character; npos when there is none.
size_t FindInvalidUtf8(std::string_view text);

// The start of `text` for a message: whole characters, at most max_bytes, U+FFFD for invalid bytes.
std::string ReadableText(std::string_view text, size_t max_bytes);

// Bytes of text[offset..] that could still become a character if more bytes followed: the length of a truncated
// but so far well-formed character that reaches the end of text, 0 otherwise.
size_t TruncatedUtf8(std::string_view text, size_t offset);

// What the splitters' patterns tell apart. A code point is in exactly one class.
enum class CharClass : uint8_t {
  kLetter,       // \p{L}
  kNumber,       // \p{N}
  kSpace,        // \s, the White_Space property
  kPunctuation,  // \p{P}
  kOther,        // everything else: marks, symbols, controls, unassigned, invalid bytes
};
CharClass ClassOf(uint32_t code);

}  // namespace gateskip
