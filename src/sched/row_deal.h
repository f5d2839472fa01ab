// SPDX-License-Identifier: Apache-2.0
// How many rows of which prompt go into the next step. Round robin over the fairness keys, a turn of a few rows each;
// within a key the first come has all of its turn. Counts, no clocks: the same requests get the same steps.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gateskip {

// A prompt (or continuation) that has rows to run, in the order of arrival.
struct PromptLane {
  std::string_view key;
  size_t position = 0;   // of its next row
  size_t remaining = 0;  // rows
};

struct RowDealLimits {
  size_t max_rows = 0;       // in all
  size_t max_row_costs = 0;  // in all, in rows at the beginning of a prompt, though one row always fits; 0: any
};

// A row at this position costs as much as two at position 0, since it attends to as many more.
inline constexpr size_t kPositionsPerRow = 2048;

class RowDeal {
 public:
  // Rows for each lane. Goes on with the key after the one that was served last.
  std::vector<size_t> Deal(std::span<const PromptLane> lanes, const RowDealLimits& limits);

 private:
  std::string last_key_;
};

}  // namespace gateskip
