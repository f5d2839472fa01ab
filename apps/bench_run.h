// SPDX-License-Identifier: Apache-2.0
// The measurement behind `gateskip bench`: the ungated model and every budget, at every depth and number of sequences,
// take turns within one run, so that ratios compare times taken side by side on a machine that may be busy.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "gateskip/engine.h"
#include "machine_peaks.h"
#include "report.h"

namespace gateskip::cli {

struct BenchCase {
  enum class Kind {
    kUngated,
    kGates,  // with the adapter: every gate evaluated, nothing skipped. What deciding costs
    kBudget,
  };
  Kind kind = Kind::kUngated;
  std::string label;  // "ungated", "gates", "25 %"
  int depth = 0;      // tokens in the cache before the prompt
  int sequences = 1;  // that decode together
  BudgetOptions budget = {};
};

// Rates are tokens per second of all sequences together.
struct BenchRow {
  BenchCase config;
  int threads = 0;
  Spread prefill;
  Spread decode;
  Spread both;                 // prompt, then generated tokens, as one
  double prefill_speedup = 1;  // median over the repetitions of the ratio to `ungated` in the same repetition
  double decode_speedup = 1;
  SavingReport prefill_saving;
  SavingReport decode_saving;
  double prefill_operations = 0;  // multiplications and additions of matrix products a second
  double dot_share = 0;           // of the measured dot-product peak
  double decode_bytes = 0;        // of weights read a second while decoding
  double bandwidth_share = 0;     // of the measured read bandwidth
  double ideal_speedup = 1;  // of decoding one sequence, 1 / (1 - s f): net saving s, share f of a token's bytes in
                             // branches; 0 for several, which read a branch if any of them runs it
  uint32_t logits_hash = 0;

  double share_of_ideal() const { return ideal_speedup > 0 ? decode_speedup / ideal_speedup : 0; }
};

struct BenchPlan {
  int prompt_tokens = 0;
  int decode_tokens = 0;
  int repetitions = 1;
  MachinePeaks peaks;
};

// Every depth with every number of sequences: "ungated" first, then "gates" if asked for, then each budget.
std::vector<BenchCase> MakeCases(const std::vector<int>& depths, const std::vector<int>& sequences, bool gates,
                                 const std::vector<BudgetOptions>& budgets);

// One warm-up pass over the cases, then plan.repetitions measured ones.
std::vector<BenchRow> RunBench(Engine& engine, const std::vector<BenchCase>& cases, const BenchPlan& plan,
                               const std::function<void(size_t done, size_t total)>& progress);

}  // namespace gateskip::cli
