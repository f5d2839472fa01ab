// SPDX-License-Identifier: Apache-2.0
// The results of a sweep for people: a page with the trade-off of every arm, and tables in Markdown.
#pragma once

#include <string>

#include "analysis/sweep_results.h"

namespace gateskip {

// A self-contained HTML page. The same results give the same bytes.
std::string RenderSweepReport(const SweepResults& results);

// Per task a table in the manner of the paper: a row per arm, a column per requested budget, "value ± error @ net".
std::string RenderSweepMarkdown(const SweepResults& results);

}  // namespace gateskip
