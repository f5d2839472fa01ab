// SPDX-License-Identifier: Apache-2.0
#include "train/step_guard.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace gateskip::train {

std::string StepGuard::Refuses(double loss, double gradient_norm) {
  std::string reason;
  if (!std::isfinite(loss) || !std::isfinite(gradient_norm)) {
    reason = "non-finite";
  } else if (spike_factor_ > 0 && recent_.size() == kWindow &&
             loss > spike_factor_ * *std::max_element(recent_.begin(), recent_.end())) {
    reason = "loss spike";
  }
  if (!reason.empty()) {
    ++total_;
    ++in_a_row_;
    return reason;
  }
  in_a_row_ = 0;
  recent_.push_back(loss);
  if (recent_.size() > kWindow) recent_.erase(recent_.begin());
  return reason;
}

std::vector<double> StepGuard::State() const {
  std::vector<double> state = {static_cast<double>(total_), static_cast<double>(in_a_row_)};
  state.insert(state.end(), recent_.begin(), recent_.end());
  return state;
}

void StepGuard::SetState(const std::vector<double>& state) {
  if (state.size() < 2 || state.size() > kWindow + 2) {
    Fail(ErrorCode::kCorruptData, "[checkpoint] guard: expected 2 to {} numbers, found {}; remove the checkpoint",
         kWindow + 2, state.size());
  }
  total_ = static_cast<int>(state[0]);
  in_a_row_ = static_cast<int>(state[1]);
  recent_.assign(state.begin() + 2, state.end());
}

}  // namespace gateskip::train
