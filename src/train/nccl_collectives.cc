// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "train/c10d_collectives.h"

namespace gateskip::train {

std::unique_ptr<Collectives> ConnectNccl(RankChannel& channel, int device_index) {
  using Nccl = c10d::ProcessGroupNCCL;
  const auto options = Nccl::Options::create();
  options->timeout = std::chrono::milliseconds(static_cast<int64_t>(channel.times().time_out * 1000));
  auto group =
      c10::make_intrusive<Nccl>(c10::make_intrusive<ChannelStore>(channel), channel.rank(), channel.size(), options);
  return std::make_unique<C10dCollectives<Nccl>>(std::move(group),
                                                 at::Device(at::kCUDA, static_cast<at::DeviceIndex>(device_index)));
}

}  // namespace gateskip::train
