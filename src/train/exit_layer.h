// SPDX-License-Identifier: Apache-2.0
// Early exit in training: after how many layers does a sequence stop, so that its net saving is the budget's? The layer
// is drawn anew for each sequence, as the random exits of LayerSkip (arXiv 2404.16710) and DeeBERT (arXiv 2004.12993)
// have it in one shared model; what is drawn from is the two layers next to the budget. No LibTorch here.
#pragma once

#include <cstdint>
#include <vector>

#include "gate/cost_model.h"

namespace gateskip::train {

class ExitLayers {
 public:
  ExitLayers(const CostModel& cost, KvRule rule);

  // Net saving of a row that runs the first `layers` layers only, in [0, num_layers].
  double SavingOf(int layers) const { return saving_[static_cast<size_t>(layers)]; }
  // How many layers run, for `uniform` in [0, 1): the saving's mean over it is `budget`. A budget no exit reaches
  // (K/V of the layers above is still computed) gives 0 layers.
  int Draw(double budget, double uniform) const;
  // The most layers that still save `budget`.
  int At(double budget) const { return Draw(budget, 0.0); }
  // [branches] 1 runs.
  std::vector<uint8_t> Mask(int layers) const;

 private:
  std::vector<double> saving_;  // [num_layers + 1], falling
};

}  // namespace gateskip::train
