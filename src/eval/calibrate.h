// SPDX-License-Identifier: Apache-2.0
// `gateskip calibrate`: thresholds for a grid of budgets, found with the native runtime on a text, stored in the
// adapter together with a self-test.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "text/document_encoder.h"

namespace gateskip {

struct CalibrateOptions {
  std::string model_path;
  std::string adapter_path;             // read, and replaced at the end
  std::vector<std::string> text_paths;  // documents as in training (text/documents.h)
  int64_t max_tokens = 16384;  // used for calibration, windows of up to `window` tokens, evenly from every file
  int window = 512;
  // What a window holds: a piece of the files' documents laid end to end, or the beginning of one document. The second
  // is how short records are used: each starts at position 0 and sees itself alone.
  bool document_windows = false;
  PairFormat pair_format = PairFormat::kMixed;
  std::vector<double> budgets = {0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6};
  int threads = 0;
};

struct CalibratedBudget {
  double requested;
  float threshold;
  double nominal;
  double net;
};

using CalibrateProgress = std::function<void(const std::string& stage, size_t done, size_t total)>;

// Throws Error; the adapter on disk is then unchanged. Budgets that the gates cannot reach (too few gated
// branches) end the grid early; the result holds those that were reached.
std::vector<CalibratedBudget> Calibrate(const CalibrateOptions& options, const CalibrateProgress& progress);

}  // namespace gateskip
