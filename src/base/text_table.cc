// SPDX-License-Identifier: Apache-2.0
#include "base/text_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace gateskip {
namespace {

// Columns of a terminal: UTF-8 continuation bytes take none. Enough for the tables here, which hold no CJK.
size_t DisplayWidth(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace

std::string FormatTable(const std::vector<std::vector<std::string>>& rows, bool markdown) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], DisplayWidth(row[c]));
  }
  std::string text;
  for (size_t r = 0; r < rows.size(); ++r) {
    if (markdown) text += "| ";
    for (size_t c = 0; c < rows[r].size(); ++c) {
      const std::string padding(widths[c] - DisplayWidth(rows[r][c]), ' ');
      text += c == 0 ? rows[r][c] + padding : padding + rows[r][c];
      if (c + 1 < rows[r].size()) text += markdown ? " | " : "  ";
    }
    text += markdown ? " |\n" : "\n";
    if (r == 0) {
      if (markdown) text += "|";
      for (size_t c = 0; c < widths.size(); ++c) {
        const std::string dashes(widths[c], '-');
        if (markdown) {
          text += c == 0 ? fmt::format(" {} |", dashes) : fmt::format(" {}: |", dashes.substr(1));
        } else {
          text += dashes + (c + 1 < widths.size() ? "  " : "");
        }
      }
      text += "\n";
    }
  }
  return text;
}

}  // namespace gateskip
