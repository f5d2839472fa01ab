// SPDX-License-Identifier: Apache-2.0
#include "sched/row_deal.h"

#include <algorithm>
#include <deque>
#include <map>

namespace gateskip {
namespace {

constexpr size_t kRowsPerTurn = 64;

// In units of 1 / kPositionsPerRow.
size_t Cost(size_t position) { return kPositionsPerRow + position; }

}  // namespace

std::vector<size_t> RowDeal::Deal(std::span<const PromptLane> lanes, const RowDealLimits& limits) {
  std::vector<size_t> rows(lanes.size());
  std::map<std::string_view, std::deque<size_t>> keys;
  for (size_t i = 0; i < lanes.size(); ++i) {
    if (lanes[i].remaining > 0) keys[lanes[i].key].push_back(i);
  }
  const size_t max_cost = limits.max_row_costs * kPositionsPerRow;
  size_t dealt = 0;
  size_t cost = 0;
  while (!keys.empty() && dealt < limits.max_rows) {
    auto turn = keys.upper_bound(last_key_);
    if (turn == keys.end()) turn = keys.begin();
    const size_t i = turn->second.front();
    const size_t before = dealt;
    while (dealt < limits.max_rows && dealt - before < kRowsPerTurn && rows[i] < lanes[i].remaining) {
      const size_t row_cost = Cost(lanes[i].position + rows[i]);
      if (max_cost > 0 && dealt > 0 && cost + row_cost > max_cost) return rows;
      cost += row_cost;
      ++rows[i];
      ++dealt;
    }
    last_key_ = turn->first;
    if (rows[i] == lanes[i].remaining) turn->second.pop_front();
    if (turn->second.empty()) keys.erase(turn);
  }
  return rows;
}

}  // namespace gateskip
