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
  size_t max_rows = 0;  // in all
  size_t max_cost = 0;  // in all, of RowCost, though one row always fits; 0: any
};

// What a row costs: it attends to all before it, which takes the time of one more row for so many positions (measured
// on SmolLM2-135M). In units of a row at position 0 over kRowCostUnit.
inline constexpr size_t kRowCostUnit = 1024;
constexpr size_t RowCost(size_t position) { return kRowCostUnit + position; }

class RowDeal {
 public:
  // Rows for each lane. Goes on with the key after the one that was served last.
  std::vector<size_t> Deal(std::span<const PromptLane> lanes, const RowDealLimits& limits);

 private:
  std::string last_key_;
};

}  // namespace gateskip
