// SPDX-License-Identifier: Apache-2.0
// The page around the charts: one file, no outside resources, light and dark, wide and narrow, readable without script.
#pragma once

#include <string>
#include <string_view>

namespace gateskip {

// For text and attribute values; control characters, which no HTML may hold, become U+FFFD.
std::string HtmlEscape(std::string_view text);

// A whole document. `title` is plain text, `body` HTML.
std::string HtmlPage(std::string_view title, std::string_view body);

}  // namespace gateskip
