// SPDX-License-Identifier: Apache-2.0
// The door of the trainer's shared module. The command line opens it only for `gateskip train`: LibTorch's libraries
// take 0.35 s to load, which no other command should wait for.
#include "gateskip/engine.h"
#include "train/train.h"

extern "C" {

__attribute__((visibility("default"))) const char* GateskipTrainVersion() { return GATESKIP_VERSION; }

// Throws Error across the boundary: module and program are built together.
__attribute__((visibility("default"))) void GateskipTrain(const gateskip::TrainOptions* options,
                                                          gateskip::TrainObserver* observer,
                                                          gateskip::TrainOutcome* outcome) {
  *outcome = gateskip::Train(*options, *observer);
}
}
