// SPDX-License-Identifier: Apache-2.0
#include "train/exit_layer.h"

#include <algorithm>

namespace gateskip::train {

ExitLayers::ExitLayers(const CostModel& cost, KvRule rule) : saving_(static_cast<size_t>(cost.num_branches() / 2 + 1)) {
  for (int layers = 0; layers < static_cast<int>(saving_.size()); ++layers) {
    saving_[static_cast<size_t>(layers)] = cost.NetSaving(Mask(layers), rule);
  }
}

int ExitLayers::Draw(double budget, double uniform) const {
  if (budget >= saving_.front()) return 0;
  // The first entry below the budget; the one before it is not.
  const auto above = static_cast<int>(
      std::partition_point(saving_.begin(), saving_.end(), [&](double saving) { return saving >= budget; }) -
      saving_.begin());
  if (above == static_cast<int>(saving_.size())) return above - 1;
  const double share_of_less = (budget - SavingOf(above)) / (SavingOf(above - 1) - SavingOf(above));
  return uniform < share_of_less ? above - 1 : above;
}

std::vector<uint8_t> ExitLayers::Mask(int layers) const {
  std::vector<uint8_t> mask(2 * (saving_.size() - 1), 0);
  std::fill_n(mask.begin(), 2 * layers, uint8_t{1});
  return mask;
}

}  // namespace gateskip::train
