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

// Gate evaluations over many steps, one entry per branch and row.
struct RecordedRows {
  struct Entry {
    float importance;
    int16_t branch;
    bool decided;  // the gate has a say: gated, and beyond the always-run positions
  };
  std::vector<Entry> entries;
  size_t num_rows = 0;

  // Adds one step's [branches][rows] blocks.
  void Append(std::span<const float> importance, std::span<const uint8_t> decided, size_t rows);
};

// The smallest threshold at which skipping every decided entry with importance <= threshold saves at least
// `budget` net. If even skipping all of them does not, the largest recorded importance.
float FindGlobalThreshold(const CostModel& cost, KvRule rule, const RecordedRows& rows, double budget);

}  // namespace gateskip
