// SPDX-License-Identifier: Apache-2.0
// Moving tensors between ranks, through c10d. What is moved is on the device() of the collectives and contiguous; the
// calls start a transfer, all ranks in the same order.
#pragma once

#include <ATen/ATen.h>

#include <memory>

#include "train/rank_channel.h"

namespace gateskip::train {

class Transfer {
 public:
  virtual ~Transfer() = default;
  // Throws what the backend throws (std::exception) when it failed.
  virtual bool Done() = 0;
};

class Collectives {
 public:
  virtual ~Collectives() = default;
  virtual at::Device device() const = 0;
  // to[r] of rank q = from[q] of rank r; both [size, n].
  virtual std::unique_ptr<Transfer> AllToAll(at::Tensor to, at::Tensor from) = 0;
  // to[r] = from of rank r; `to` is [size, n], `from` [n].
  virtual std::unique_ptr<Transfer> AllGather(const at::Tensor& to, const at::Tensor& from) = 0;
  // `tensor` of rank `root` to all; of any type that c10d knows (bytes).
  virtual std::unique_ptr<Transfer> Broadcast(const at::Tensor& tensor, int root) = 0;
};

// Gloo, for the CPU. Waits for the other ranks. Throws Error(kUnsupported) in a build without Gloo's headers, else
// what the backend throws.
std::unique_ptr<Collectives> ConnectGloo(RankChannel& channel);
// NCCL, for GPU `device_index` of this host. nullptr in a build without NCCL: tensors then travel through the CPU.
std::unique_ptr<Collectives> ConnectNccl(RankChannel& channel, int device_index);

}  // namespace gateskip::train
