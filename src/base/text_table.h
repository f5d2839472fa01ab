// SPDX-License-Identifier: Apache-2.0
// A table in plain text or Markdown.
#pragma once

#include <string>
#include <vector>

namespace gateskip {

// Columns sized by their content, the first left-aligned, the others right-aligned; the first row is the head.
std::string FormatTable(const std::vector<std::vector<std::string>>& rows, bool markdown);

}  // namespace gateskip
