// SPDX-License-Identifier: Apache-2.0
#include "analysis/html_parts.h"

#include <fmt/format.h>

#include <cmath>

#include "analysis/html_page.h"

namespace gateskip {
namespace {

std::string Row(std::string_view tag, const std::vector<std::string>& cells, const std::set<size_t>& text_columns) {
  std::string html = "<tr>";
  for (size_t i = 0; i < cells.size(); ++i) {
    html += fmt::format("<{0}{1}>{2}</{0}>", tag, text_columns.contains(i) ? " class=\"text\"" : "", cells[i]);
  }
  return html + "</tr>\n";
}

}  // namespace

std::string Number(double value, int decimals) {
  if (!std::isfinite(value)) return "–";
  return fmt::format("{}{:.{}f}", value < 0 ? "−" : "", std::abs(value), decimals);
}

std::string Signed(double value, int decimals) {
  return fmt::format("{}{}", value >= 0 ? "+" : "", Number(value, decimals));
}

std::string Percent(double share, int decimals) {
  return std::isfinite(share) ? Number(100 * share, decimals) + " %" : "–";
}

std::string BudgetText(double budget) { return fmt::format("{:.4g} %", 100 * budget); }

std::string Amount(int64_t n) {
  const double value = static_cast<double>(n);
  if (n < 10'000) return fmt::format("{}", n);
  if (n < 1'000'000) return fmt::format("{:.1f} k", value * 1e-3);
  if (n < 1'000'000'000) return fmt::format("{:.2f} M", value * 1e-6);
  return fmt::format("{:.2f} G", value * 1e-9);
}

std::string Table(const std::vector<std::string>& head, const std::vector<std::vector<std::string>>& rows,
                  const std::set<size_t>& text_columns) {
  std::string html = "<div class=\"table\"><table>\n<thead>" + Row("th", head, text_columns) + "</thead>\n<tbody>\n";
  for (const auto& row : rows) html += Row("td", row, text_columns);
  return html + "</tbody></table></div>\n";
}

std::string Details(const std::string& summary, const std::string& html) {
  return fmt::format("<details><summary>{}</summary>{}</details>\n", HtmlEscape(summary), html);
}

}  // namespace gateskip
