// SPDX-License-Identifier: Apache-2.0
#include "sched/row_deal.h"

#include <algorithm>
#include <deque>
#include <map>

namespace gateskip {
namespace {

constexpr size_t kRowsPerTurn = 64;

}  // namespace

std::vector<size_t> RowDeal::Deal(std::span<const PromptLane> lanes, const RowDealLimits& limits) {
  std::vector<size_t> rows(lanes.size());
  std::map<std::string_view, std::deque<size_t>> keys;
  for (size_t i = 0; i < lanes.size(); ++i) {
    if (lanes[i].remaining > 0) keys[lanes[i].key].push_back(i);
  }
  size_t dealt = 0;
  size_t cost = 0;
  bool room = true;
  while (room && !keys.empty()) {
    auto turn = keys.upper_bound(last_key_);
    if (turn == keys.end()) turn = keys.begin();
    const size_t i = turn->second.front();
    const size_t before = dealt;
    while (dealt - before < kRowsPerTurn && rows[i] < lanes[i].remaining) {
      const size_t with_it = cost + RowCost(lanes[i].position + rows[i]);
      room = dealt < limits.max_rows && (limits.max_cost == 0 || dealt == 0 || with_it <= limits.max_cost);
      if (!room) break;
      cost = with_it;
      ++rows[i];
      ++dealt;
    }
    if (dealt > before) last_key_ = turn->first;
    if (rows[i] == lanes[i].remaining) turn->second.pop_front();
    if (turn->second.empty()) keys.erase(turn);
  }
  return rows;
}

}  // namespace gateskip
