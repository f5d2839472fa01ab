// SPDX-License-Identifier: Apache-2.0
// Rows of `gateskip bench` as Markdown, CSV and JSON.
#pragma once

#include <string>
#include <vector>

#include "bench_run.h"
#include "report.h"

namespace gateskip::cli {

// Two lines above a table: model, machine, method.
std::string BenchConditions(const ModelInfo& info, const BenchPlan& plan);
// Two tables, each narrower than 120 columns: the speed, and what it was bought with.
std::string BenchMarkdown(const std::vector<BenchRow>& rows, const BenchPlan& plan);

std::string BenchCsvHeader();
std::string BenchCsvRow(const BenchRow& row, const BenchPlan& plan);

Json BenchModelJson(const ModelInfo& info);
Json BenchRowJson(const BenchRow& row, const BenchPlan& plan);

}  // namespace gateskip::cli
