// SPDX-License-Identifier: Apache-2.0
#include "gate/threshold_search.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "gate/branch.h"

namespace gateskip {

void RecordedRows::Append(std::span<const float> importance, std::span<const uint8_t> decided, size_t rows) {
  GS_CHECK(rows > 0 && importance.size() % rows == 0 && decided.size() == importance.size());
  for (size_t i = 0; i < importance.size(); ++i) {
    entries.push_back({importance[i], static_cast<int16_t>(i / rows), decided[i] != 0});
  }
  num_rows += rows;
}

float FindGlobalThreshold(const CostModel& cost, KvRule rule, const RecordedRows& rows, double budget) {
  GS_CHECK(rows.num_rows > 0 && rows.entries.size() == rows.num_rows * static_cast<size_t>(cost.num_branches()));
  const double target = budget * cost.dense_per_row() * static_cast<double>(rows.num_rows);
  // Everything runs: what gates and deltas cost.
  double saved = 0;
  std::vector<RecordedRows::Entry> decided;
  for (const RecordedRows::Entry& entry : rows.entries) {
    const BranchCost& branch = cost.branch(entry.branch);
    saved -= branch.kept_extra + (entry.decided ? branch.decision : branch.undecided_extra);
    if (entry.decided) decided.push_back(entry);
  }
  std::sort(decided.begin(), decided.end(), [](const auto& a, const auto& b) { return a.importance < b.importance; });
  float threshold = 0.0F;
  for (const RecordedRows::Entry& entry : decided) {
    if (saved >= target && entry.importance > threshold) break;  // equal importances go together
    const BranchCost& branch = cost.branch(entry.branch);
    saved += branch.dense + branch.kept_extra - branch.skip_path - (rule == KvRule::kCompute ? branch.kv : 0.0);
    threshold = entry.importance;
  }
  return threshold;
}

}  // namespace gateskip
