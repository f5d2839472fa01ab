// SPDX-License-Identifier: Apache-2.0
// Which optimizer steps are better left out: those without a finite loss or gradient, and those whose loss has jumped.
// No LibTorch here.
#pragma once

#include <string>
#include <vector>

namespace gateskip::train {

class StepGuard {
 public:
  static constexpr size_t kWindow = 50;

  // spike_factor 0: jumps are let through.
  explicit StepGuard(double spike_factor) : spike_factor_(spike_factor) {}

  // Why this step must not be taken: "non-finite", "loss spike", or "" when it may. A loss is a jump when it is above
  // spike_factor times the largest of the last kWindow good ones, once there are so many: losses differ by budget from
  // step to step, the largest much less.
  std::string Refuses(double loss, double gradient_norm);

  int total() const { return total_; }
  int in_a_row() const { return in_a_row_; }

  // For checkpoints: [total, in a row, recent losses...].
  std::vector<double> State() const;
  void SetState(const std::vector<double>& state);

 private:
  double spike_factor_;
  int total_ = 0;
  int in_a_row_ = 0;
  std::vector<double> recent_;  // good losses, oldest first
};

}  // namespace gateskip::train
