// SPDX-License-Identifier: Apache-2.0
// In the place of gloo_collectives.cc where Gloo's headers are missing.
#include "base/check.h"
#include "train/collectives.h"

namespace gateskip::train {

std::unique_ptr<Collectives> ConnectGloo(RankChannel& channel) {
  Fail(ErrorCode::kUnsupported,
       "[ranks] WORLD_SIZE: expected 1 in this build, found {}; for more, build where Gloo's headers are (libgloo-dev) "
       "and LibTorch has c10d",
       channel.size());
}

}  // namespace gateskip::train
