// SPDX-License-Identifier: Apache-2.0
// Calibration, the pure part: from recorded importances to one global, cost-weighted threshold.
//
// One threshold for all branches lets the gates allocate the budget among them; per-branch quantiles of gates
// trained that way are far worse (docs/training.md).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gate/cost_model.h"

namespace gateskip {

struct RecordedRows {
  std::vector<float> importance;  // [branches][rows] flattened per step: see Append
  std::vector<uint8_t> decided;   // same shape: 1 where the gate has a say
  int num_branches = 0;
  size_t num_rows = 0;

  // Adds one step's [branches][rows] block.
  void Append(std::span<const float> step_importance, std::span<const uint8_t> step_decided, size_t rows);

 private:
  friend float FindGlobalThreshold(const CostModel&, KvRule, const RecordedRows&, double);
  std::vector<int32_t> branch_;  // of each entry
};

// The smallest threshold at which skipping every decided entry with importance <= threshold saves at least
// `budget` net. If even skipping all of them does not, the largest recorded importance.
float FindGlobalThreshold(const CostModel& cost, KvRule rule, const RecordedRows& rows, double budget);

}  // namespace gateskip
