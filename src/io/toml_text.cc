// SPDX-License-Identifier: Apache-2.0
#include "io/toml_text.h"

#include <algorithm>

#include "base/check.h"

namespace gateskip {
namespace {

// Behind the string whose opening quote is at `pos`. A one-line string without an end reaches to the end of its line,
// where the parser gives up, too.
size_t EndOfString(std::string_view text, size_t pos) {
  const char quote = text[pos];
  const bool escapes = quote == '"';
  const std::string three(3, quote);
  const bool multi_line = text.substr(pos).starts_with(three);
  for (size_t i = pos + (multi_line ? 3 : 1); i < text.size(); ++i) {
    if (escapes && text[i] == '\\') {
      ++i;
    } else if (multi_line && text.substr(i).starts_with(three)) {
      i += 3;
      while (i < text.size() && text[i] == quote) ++i;  // up to two quotes may stand before the closing three
      return i;
    } else if (!multi_line && (text[i] == quote || text[i] == '\n')) {
      return i + 1;
    }
  }
  return text.size();
}

}  // namespace

void CheckTomlText(std::string_view text, const std::string& origin) {
  size_t pos = text.starts_with("\xEF\xBB\xBF") ? 3 : 0;
  while (pos < text.size()) {
    const char c = text[pos];
    if (c == '#') {
      pos = std::min(text.find('\n', pos), text.size());
    } else if (c == '"' || c == '\'') {
      pos = EndOfString(text, pos);
    } else if (static_cast<unsigned char>(c) >= 0x80) {
      Fail(ErrorCode::kInvalidArgument,
           "[{}:{}] syntax: expected ASCII outside strings and comments, found another character; put it in quotes",
           origin, std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(pos), '\n') + 1);
    } else {
      ++pos;
    }
  }
}

}  // namespace gateskip
