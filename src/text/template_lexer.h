// SPDX-License-Identifier: Apache-2.0
// Cuts a template into tokens, with jinja2's whitespace rules and the `-` and `+` marks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gateskip::jinja {

enum class TokenKind : uint8_t {
  kData,
  kOutputBegin,
  kOutputEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

// jinja2's settings for the space around tags.
enum class Spacing : uint8_t {
  kTrimmed,  // trim_blocks and lstrip_blocks, no newline at the end: as transformers renders chat templates
  kKept,     // none of them, keep_trailing_newline: as lm-evaluation-harness renders its tasks
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  uint32_t line = 1;
  uint32_t column = 1;
  std::string text;  // strings: unescaped
};

// Throws Error(kCorruptData) with line and column.
std::vector<Token> Tokenize(const std::string& source, Spacing spacing = Spacing::kTrimmed);

[[noreturn]] void FailSyntax(uint32_t line, uint32_t column, std::string_view expected, std::string_view found);

}  // namespace gateskip::jinja
