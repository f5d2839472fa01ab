// SPDX-License-Identifier: Apache-2.0
// Numbers as the pages write them, and the pieces their bodies are made of.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace gateskip {

// "−1.50"; "–" for what is not finite.
std::string Number(double value, int decimals);
// With its sign in any case: "+0.25".
std::string Signed(double value, int decimals);
// Of a share: "12.5 %".
std::string Percent(double share, int decimals);
// "12.5 %", with no more digits than it has.
std::string BudgetText(double budget);
// "512", "20.5 k", "2.50 M".
std::string Amount(int64_t n);

// Cells are HTML. Only the columns named hold text and are set from the left; the first one always is.
std::string Table(const std::vector<std::string>& head, const std::vector<std::vector<std::string>>& rows,
                  const std::set<size_t>& text_columns);
// What opens at a click. The summary is plain text.
std::string Details(const std::string& summary, const std::string& html);

}  // namespace gateskip
