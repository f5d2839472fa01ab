// SPDX-License-Identifier: Apache-2.0
// What an adapter's gates learned: importances and skips of every branch on a text, by layer, by place in the window,
// by kind of token and by how surprising the token is; and what the calibrated budgets save on texts they were not
// calibrated on.
//
// Importance s = mean(g) as the gates give it under the plan at hand, so that what was skipped below is felt above. The
// compute share of a row is 1 - its net saving: gates, skip paths and K/V of skipped rows included.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "analysis/token_class.h"
#include "eval/token_windows.h"
#include "gate/branch.h"
#include "io/adapter.h"

namespace gateskip {

struct GateStatisticsOptions {
  std::string model_path;
  std::string adapter_path;             // empty: the one inside the model file
  std::vector<std::string> text_paths;  // documents as in training (text/documents.h)
  double budget = 0.25;                 // of all but the texts' drift
  WindowOptions windows = {.max_tokens = 4096};
  int threads = 0;
  int sample_tokens = 240;  // of the first window, shown one by one
};

struct BranchStatistics {
  bool gated = false;
  double importance = 0;        // mean over rows; 1 without a gate
  double deviation = 0;         // standard deviation over rows
  double first_importance = 0;  // mean over the rows at position 0, which holds BOS where the model wants one
  double skipped = 0;           // share of rows

  // Whether the gate tells tokens apart, or does nearly always the same.
  bool IsTokenWise() const;
};
inline constexpr double kNearlyNever = 0.05;  // skip shares from here to 1 - here are token-wise

// Rows of one sort. Means over its rows and, of importances and skips, over the gated branches of a kind; NaN where
// there is nothing to take a mean of (no rows, a kind without gates, the NLL of a window's first token).
struct RowGroup {
  std::string name;
  uint64_t rows = 0;
  std::array<double, 2> importance = {};  // [BranchKind]
  std::array<double, 2> skipped = {};     // [BranchKind] share of applications
  double saving = 0;                      // net
  double own_nll = 0;                     // nats; of the row's token given those before it
  double next_nll = 0;                    // of the token after it, which the row predicts
};

struct SurpriseBin {  // a tenth of the rows, in order of NLL
  double nll = 0;     // mean, nats
  double compute = 0;
};

struct SurpriseStatistics {
  double correlation = 0;  // Pearson's, of NLL and compute share over rows; NaN when either does not vary
  std::vector<SurpriseBin> bins;
};

struct TextDrift {
  std::string path;
  uint64_t tokens = 0;
  std::vector<double> net;  // [budgets]
};

struct SampleToken {
  std::string text;  // UTF-8; empty where the character is not complete
  double saving = 0;
  std::vector<bool> ran;  // [branches]
};

struct GateStatistics {
  std::string model, adapter;
  double requested = 0, nominal = 0, net = 0;
  uint64_t tokens = 0, windows = 0;
  int window = 0;  // tokens of the longest
  int always_run_positions = 0;
  double nll = 0;  // mean over scored tokens
  std::vector<BranchStatistics> branches;

  std::vector<RowGroup> classes;                                       // [TokenClass]
  std::vector<std::array<double, kNumTokenClasses>> skipped_by_class;  // [branches] share; NaN of no rows
  std::vector<RowGroup> positions;                                     // 0, 1, 2-3, 4-7, ...
  std::vector<std::array<double, 2>> skipped_along;                    // [bins][BranchKind], the window cut evenly
  SurpriseStatistics by_own_nll, by_next_nll;

  std::vector<double> budgets;  // the adapter's, above 0
  std::vector<TextDrift> texts;
  std::vector<SampleToken> sample;

  int num_layers() const { return static_cast<int>(branches.size() / 2); }
  // Pearson's correlation of a layer's number with its mean importance, over the gated branches of a kind: below 0
  // where deeper means less important. NaN of fewer than three.
  double DepthCorrelation(BranchKind kind) const;
};

using GateProgress = std::function<void(const std::string& stage, size_t done, size_t total)>;

// Throws Error: as LoadModel and ReadWindows; kInvalidArgument (no adapter, no text, a budget beyond the adapter's,
// windows that do not fit the model); whatever `progress` throws.
GateStatistics MeasureGates(const GateStatisticsOptions& options, const GateProgress& progress);

// Pearson's; NaN of fewer than two points or where either side does not vary. Equal lengths.
double Correlation(std::span<const double> x, std::span<const double> y);
// Equally many points in each of at most `count` bins, in order of x.
std::vector<SurpriseBin> BinByNll(std::span<const double> nll, std::span<const double> compute, size_t count);

}  // namespace gateskip
