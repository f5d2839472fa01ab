// SPDX-License-Identifier: Apache-2.0
// AdamW (arXiv 1711.05101) with one learning rate per parameter group, global-norm clipping and schedules. Results do
// not depend on the number of threads.
#pragma once

#include <vector>

#include "train/gated_model.h"
#include "train/train.h"

namespace gateskip::train {

// Share of the peak rates at `step` (0-based): linear warm-up, then down to `final_learning_rate` along a cosine or a
// line, or constant.
double LearningRateAt(const TrainOptions& options, int step);

class AdamW {
 public:
  AdamW(std::vector<Parameter>& parameters, const TrainOptions& options);

  // L2 norm of all gradients, f64, in a fixed order.
  double GradientNorm() const;
  // One update at share `rate` of the peak rates, gradients scaled by `gradient_scale`; clears the gradients.
  void Step(double rate, double gradient_scale);
  void ClearGradients();

  std::vector<Tensor>& first_moments() { return m_; }
  std::vector<Tensor>& second_moments() { return v_; }
  int64_t updates() const { return updates_; }
  void set_updates(int64_t updates) { updates_ = updates; }

 private:
  double PeakRate(ParameterGroup group) const;

  std::vector<Parameter>& parameters_;
  TrainOptions options_;
  std::vector<Tensor> m_, v_;
  int64_t updates_ = 0;
};

}  // namespace gateskip::train
