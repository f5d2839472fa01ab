// SPDX-License-Identifier: Apache-2.0
// Opens the trainer's shared module beside the program, or under ../lib/gateskip, and runs it.
#pragma once

#include "train/train.h"

namespace gateskip::cli {

// As Train(). Throws Error(kUnsupported) when the module is absent (a build without LibTorch), cannot be loaded, or
// belongs to another version.
TrainOutcome RunTrainModule(const TrainOptions& options, TrainObserver& observer);

}  // namespace gateskip::cli
