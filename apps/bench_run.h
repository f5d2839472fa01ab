// SPDX-License-Identifier: Apache-2.0
// The measurement behind `gateskip bench`: the ungated model and every budget take turns within one run, so that
// speed-ups compare times taken side by side on a machine that may be busy.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "gateskip/engine.h"
#include "report.h"

namespace gateskip::cli {

struct BenchCase {
  std::string label;  // "ungated", "25 %"
  bool ungated = false;
  BudgetOptions budget;
};

struct BenchRow {
  BenchCase config;
  int threads = 0;
  Spread prefill;  // tokens per second
  Spread decode;
  double prefill_speedup = 1;  // median over the repetitions of the ratio to `ungated` in the same repetition
  double decode_speedup = 1;
  SavingReport prefill_saving;
  SavingReport decode_saving;
  double decode_gigabytes = 0;  // of weights read per second while decoding
  double bandwidth_share = 0;   // of the measured read bandwidth
  double ideal_speedup = 1;     // 1 / (1 - s f): net saving s, share f of a token's bytes in branches
  uint32_t logits_hash = 0;
};

struct BenchPlan {
  std::vector<int32_t> ids;  // the prompt
  int decode_tokens = 0;
  int repetitions = 1;
  double read_bandwidth = 0;  // bytes per second
};

// cases[0] must be the ungated one. One warm-up pass, then `repetitions` interleaved ones.
std::vector<BenchRow> RunBench(Engine& engine, const std::vector<BenchCase>& cases, const BenchPlan& plan,
                               const std::function<void(size_t done, size_t total)>& progress);

// "ungated", then each budget of the list.
std::vector<BenchCase> MakeCases(const std::vector<BudgetOptions>& budgets);

// `count` token ids of `text`, repeated as often as it takes, BOS in front if the model wants it.
std::vector<int32_t> BenchPrompt(const Engine& engine, const std::string& text, int count);
// Ordinary prose: gates decide by what they read, so random tokens would measure another saving.
extern const char* const kBenchText;

}  // namespace gateskip::cli
