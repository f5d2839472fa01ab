// SPDX-License-Identifier: Apache-2.0
// The page around the charts: one file, no outside resources, light and dark, wide and narrow, readable without script.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace gateskip {

// For text and attribute values; control characters, which no HTML may hold, become U+FFFD.
std::string HtmlEscape(std::string_view text);

// Cells are HTML. Only the columns named hold text and are set from the left; the first one always is.
std::string HtmlTable(const std::vector<std::string>& head, const std::vector<std::vector<std::string>>& rows,
                      const std::set<size_t>& text_columns);

// A whole document. `title` is plain text, `body` HTML.
std::string HtmlPage(std::string_view title, std::string_view body);

}  // namespace gateskip
