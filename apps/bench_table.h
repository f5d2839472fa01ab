// SPDX-License-Identifier: Apache-2.0
// `gateskip bench --table`, the quick start's view: quality and a sample answer beside the speed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench_run.h"

namespace gateskip::cli {

struct BenchTable {
  std::string text = {};        // whose perplexity is shown; empty: none
  int64_t max_text_tokens = 0;  // of it; 0: all
  std::string question = "Why is the sky blue?";
  bool json = false;
};

// Scores the text and answers the question under every row's budget, and prints it all.
void PrintBenchTable(Engine& engine, const BenchTable& table, const BenchPlan& plan, const std::vector<BenchRow>& rows);

}  // namespace gateskip::cli
