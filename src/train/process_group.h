// SPDX-License-Identifier: Apache-2.0
// The ranks of a data-parallel run, as the trainer sees them. Every call is made by all ranks, in the same order; with
// one rank nothing is sent and no socket is opened.
//
// Every call throws Error(kIo) naming the rank at fault when a rank died, stopped or gave up, at the latest
// RankTimes::time_out after it; after work_time_out when one that is alive does not come
// (docs/training_distributed.md). After an error the group is of no use; the process has RankTimes::grace to end.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "train/collectives.h"
#include "train/rank_channel.h"
#include "train/rank_environment.h"

namespace gateskip::train {

struct ProcessGroupOptions {
  RankTimes times;
  bool cuda = false;  // NCCL on GPU LOCAL_RANK, where the build has it
  int64_t bucket_bytes =
      int64_t{16} << 20;  // how much of an AllReduceSum is under way at once; results do not depend on it
};

class ProcessGroup {
 public:
  // From torchrun's environment variables (RankEnvironment); waits for all ranks. Throws Error: kInvalidArgument,
  // kMismatch, kUnsupported, kIo.
  static std::unique_ptr<ProcessGroup> FromEnvironment(const ProcessGroupOptions& options);
  ProcessGroup(const RankEnvironment& environment, const ProcessGroupOptions& options);
  // Before Leave(): the other ranks are told that this one gave up.
  ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  // A line for the user about how the ranks are connected; empty if there is nothing to say.
  const std::string& warning() const { return warning_; }

  // Replaces every element by its sum over the ranks: ((r0 + r1) + r2) + ... in f32, on every rank the same bits. The
  // tensors are f32, of the same shapes on all ranks, on any device.
  void AllReduceSum(const std::vector<at::Tensor>& tensors);
  // Replaces the tensors by those of rank `root`, bit for bit; any type, the same shapes on all ranks.
  void Broadcast(const std::vector<at::Tensor>& tensors, int root);
  // The values of every rank, by rank; as many as each likes. `what` names the place in messages.
  std::vector<std::vector<double>> AllGather(const std::string& what, std::span<const double> values);
  // Whether all ranks say true: to stop, or to skip a step, together.
  bool AgreeAll(const std::string& what, bool mine);
  void Barrier(const std::string& what);
  // Throws Error(kMismatch) on every rank when `text` is not the same on all.
  void RequireSame(const std::string& what, const std::string& text);

  // Ends the run for all with this rank's reason.
  void GiveUp(const std::string& reason);
  // The end of the run; no call may follow. Without it the destructor counts as giving up.
  void Leave();

 private:
  void SumSlices(const std::string& what, const at::Tensor& slices, const at::Tensor& received);
  void Run(const std::string& what, const std::function<std::unique_ptr<Transfer>()>& start);
  [[noreturn]] void RethrowBetter(const std::exception& error);

  const int rank_;
  const int size_;
  const int64_t bucket_elements_;
  std::string warning_;
  bool left_ = false;
  std::unique_ptr<RankChannel> channel_;      // null with one rank, like the next
  std::unique_ptr<Collectives> collectives_;  // before the channel in dying
  at::Tensor sent_;                           // [size, slice], allocated once
  at::Tensor received_;
};

}  // namespace gateskip::train
