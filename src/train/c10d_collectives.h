// SPDX-License-Identifier: Apache-2.0
// c10d's process groups behind Collectives, and the RankChannel as the store they find each other by. For the files of
// one backend each only.
#pragma once

#include <fmt/format.h>

#include <torch/csrc/distributed/c10d/Store.hpp>
#include <torch/csrc/distributed/c10d/Types.hpp>
#include <torch/csrc/distributed/c10d/Work.hpp>

#include "base/check.h"
#include "train/collectives.h"

namespace gateskip::train {

// c10d's own stores would not do: TCPStore listens on all interfaces, knows no token and waits without end for a
// stopped server; FileStore is for one host.
class ChannelStore : public c10d::Store {
 public:
  explicit ChannelStore(RankChannel& channel) : channel_(channel) {
    setTimeout(std::chrono::milliseconds(static_cast<int64_t>(channel.times().time_out * 1000)));
  }

  void set(const std::string& key, const std::vector<uint8_t>& value) override {
    channel_.SetKey(key, std::string(value.begin(), value.end()));
  }
  std::vector<uint8_t> get(const std::string& key) override {
    const std::string value = channel_.WaitKey(key, std::chrono::duration<double>(getTimeout()).count());
    return {value.begin(), value.end()};
  }
  bool check(const std::vector<std::string>& keys) override {
    return std::all_of(keys.begin(), keys.end(), [&](const std::string& key) { return channel_.HasKey(key); });
  }
  void wait(const std::vector<std::string>& keys) override { wait(keys, getTimeout()); }
  void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& limit) override {
    for (const std::string& key : keys) channel_.WaitKey(key, std::chrono::duration<double>(limit).count());
  }
  int64_t getNumKeys() override { return static_cast<int64_t>(channel_.NumKeys()); }
  // Pure in newer versions of LibTorch, unknown to older ones.
  c10::intrusive_ptr<c10d::Store> clone() { return c10::make_intrusive<ChannelStore>(channel_); }
  // Keys are set once and stay: the backends ask for no more to find each other.
  int64_t add(const std::string& key, int64_t) override { Refuse("add to", key); }
  bool deleteKey(const std::string& key) override { Refuse("delete", key); }

 private:
  [[noreturn]] static void Refuse(const char* what, const std::string& key) {
    Fail(ErrorCode::kUnsupported,
         "[ranks] store: expected keys that are set once, found a call to {} '{}'; this version of LibTorch needs it: "
         "use another one",
         what, key);
  }

  RankChannel& channel_;
};

class C10dTransfer : public Transfer {
 public:
  explicit C10dTransfer(c10::intrusive_ptr<c10d::Work> work) : work_(std::move(work)) {}

  bool Done() override {
    if (!work_->isCompleted()) return false;
    if (work_->isSuccess()) return true;
    std::rethrow_exception(work_->exception());
  }

 private:
  c10::intrusive_ptr<c10d::Work> work_;
};

// `Group`: ProcessGroupGloo or ProcessGroupNCCL, whose common base differs between versions of LibTorch.
template <typename Group>
class C10dCollectives : public Collectives {
 public:
  C10dCollectives(c10::intrusive_ptr<Group> group, at::Device device) : group_(std::move(group)), device_(device) {}

  at::Device device() const override { return device_; }
  std::unique_ptr<Transfer> AllToAll(at::Tensor to, at::Tensor from) override {
    std::vector<int64_t> even;
    return std::make_unique<C10dTransfer>(group_->alltoall_base(to, from, even, even));
  }
  std::unique_ptr<Transfer> AllGather(const at::Tensor& to, const at::Tensor& from) override {
    std::vector<std::vector<at::Tensor>> outputs = {to.unbind(0)};
    std::vector<at::Tensor> inputs = {from};
    return std::make_unique<C10dTransfer>(group_->allgather(outputs, inputs));
  }
  std::unique_ptr<Transfer> Broadcast(const at::Tensor& tensor, int root) override {
    std::vector<at::Tensor> tensors = {tensor};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    return std::make_unique<C10dTransfer>(group_->broadcast(tensors, options));
  }

 private:
  c10::intrusive_ptr<Group> group_;
  at::Device device_;
};

}  // namespace gateskip::train
