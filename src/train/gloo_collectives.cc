// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "train/c10d_collectives.h"

namespace gateskip::train {

std::unique_ptr<Collectives> ConnectGloo(RankChannel& channel) {
  using Gloo = c10d::ProcessGroupGloo;
  // Without this Gloo waits for 30 minutes.
  const std::chrono::milliseconds time_out(static_cast<int64_t>(channel.times().time_out * 1000));
  const auto options = Gloo::Options::create(time_out);
  options->devices.push_back(Gloo::createDeviceForHostname(channel.local_address()));
  options->threads = 1;
  auto group =
      c10::make_intrusive<Gloo>(c10::make_intrusive<ChannelStore>(channel), channel.rank(), channel.size(), options);
  return std::make_unique<C10dCollectives<Gloo>>(std::move(group), at::Device(at::kCPU));
}

}  // namespace gateskip::train
