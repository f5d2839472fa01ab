// SPDX-License-Identifier: Apache-2.0
// Stands in for the trainer in builds without LibTorch.
#include "base/check.h"
#include "train/train.h"
#include "train/training_forward.h"

namespace gateskip {

TrainOutcome Train(const TrainOptions& options, TrainObserver& observer) {
  (void)observer;
  Fail(ErrorCode::kUnsupported,
       "[train] {}: expected a build with the trainer, found one without LibTorch; build with -DGATESKIP_TRAIN=ON",
       options.model_path);
}

TrainingForward RunTrainingForward(const GgufFile&, const Adapter&, std::span<const int32_t>, std::span<const float>) {
  Fail(ErrorCode::kUnsupported,
       "[train] forward: expected a build with the trainer, found one without LibTorch; build with -DGATESKIP_TRAIN=ON");
}

}  // namespace gateskip
