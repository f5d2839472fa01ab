// SPDX-License-Identifier: Apache-2.0
#include "gate/threshold_search.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "gate/branch.h"

namespace gateskip {

void RecordedRows::Append(std::span<const float> step_importance, std::span<const uint8_t> step_decided, size_t rows) {
  GS_CHECK(num_branches > 0 && step_importance.size() == static_cast<size_t>(num_branches) * rows &&
           step_decided.size() == step_importance.size());
  importance.insert(importance.end(), step_importance.begin(), step_importance.end());
  decided.insert(decided.end(), step_decided.begin(), step_decided.end());
  for (int b = 0; b < num_branches; ++b) branch_.insert(branch_.end(), rows, b);
  num_rows += rows;
}

float FindGlobalThreshold(const CostModel& cost, KvRule rule, const RecordedRows& rows, double budget) {
  GS_CHECK(rows.num_rows > 0 && rows.num_branches == cost.num_branches());
  const double dense = cost.dense_per_row() * static_cast<double>(rows.num_rows);
  // Everything runs: what gates and deltas cost.
  double saved = 0;
  std::vector<size_t> order;
  for (size_t i = 0; i < rows.importance.size(); ++i) {
    const BranchCost& branch = cost.branch(rows.branch_[i]);
    saved -= branch.kept_extra;
    if (rows.decided[i] == 0) continue;
    saved -= branch.decision;
    order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return rows.importance[a] < rows.importance[b]; });
  float threshold = 0.0F;
  for (const size_t i : order) {
    if (saved >= budget * dense && rows.importance[i] > threshold) break;  // equal importances go together
    const BranchCost& branch = cost.branch(rows.branch_[i]);
    saved += branch.dense + branch.kept_extra - branch.skip_path - (rule == KvRule::kCompute ? branch.kv : 0.0);
    threshold = rows.importance[i];
  }
  return threshold;
}

}  // namespace gateskip
