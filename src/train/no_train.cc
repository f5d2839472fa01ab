// SPDX-License-Identifier: Apache-2.0
// Stands in for the trainer in builds without LibTorch.
#include "base/check.h"
#include "train/train.h"

namespace gateskip {

TrainOutcome Train(const TrainOptions& options, TrainObserver& observer) {
  (void)observer;
  Fail(ErrorCode::kUnsupported,
       "[train] {}: expected a build with the trainer, found one without LibTorch; build with -DGATESKIP_TRAIN=ON",
       options.model_path);
}

}  // namespace gateskip
