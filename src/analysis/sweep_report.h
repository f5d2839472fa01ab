// SPDX-License-Identifier: Apache-2.0
// The results of a sweep as one HTML page, and as tables for a text.
#pragma once

#include <string>

#include "analysis/sweep_results.h"

namespace gateskip {

// The same results give the same bytes. A picture per task (score against net saving, bytes and operations per token,
// measured speed), the mean retention over tasks, and every number in tables.
std::string RenderSweepPage(const SweepResults& results);

// Markdown. A table per task in the manner of the papers: an arm a row, a requested saving a column, in a cell
// "score ± standard error @ net saving"; before them the mean retention, where more than one task counts.
std::string RenderSweepMarkdown(const SweepResults& results);

}  // namespace gateskip
