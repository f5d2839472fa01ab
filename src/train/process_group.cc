// SPDX-License-Identifier: Apache-2.0
#include "train/process_group.h"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <thread>

#include "base/check.h"
#include "base/sha256.h"

namespace gateskip::train {
namespace {

// A list of tensors as one long row of elements.
class LongRow {
 public:
  explicit LongRow(const std::vector<at::Tensor>& tensors) {
    for (const at::Tensor& t : tensors) {
      GS_CHECK(t.scalar_type() == at::kFloat);
      rows_.push_back(t.contiguous().view(-1));  // the tensor itself, if it is contiguous
      ends_.push_back(size() + t.numel());
    }
  }

  int64_t size() const { return ends_.empty() ? 0 : ends_.back(); }
  void Read(int64_t begin, const at::Tensor& into) const {
    ForEachPiece(begin, into, [](const at::Tensor& mine, const at::Tensor& other) { other.copy_(mine); });
  }
  void Write(int64_t begin, const at::Tensor& from) const {
    ForEachPiece(begin, from, [](const at::Tensor& mine, const at::Tensor& other) { mine.copy_(other); });
  }
  void WriteBack(const std::vector<at::Tensor>& tensors) const {
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (!tensors[i].is_contiguous()) tensors[i].copy_(rows_[i].view(tensors[i].sizes()));
    }
  }

 private:
  template <typename Action>
  void ForEachPiece(int64_t begin, const at::Tensor& other, const Action& action) const {
    const int64_t end = begin + other.numel();
    auto i = static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), begin) - ends_.begin());
    for (int64_t at = begin; at < end; ++i) {
      const int64_t start = ends_[i] - rows_[i].numel();
      const int64_t stop = std::min(end, ends_[i]);
      action(rows_[i].slice(0, at - start, stop - start), other.slice(0, at - begin, stop - begin));
      at = stop;
    }
  }

  std::vector<at::Tensor> rows_;
  std::vector<int64_t> ends_;
};

constexpr double kBeatsForTheReason = 3;
constexpr double kSlack = 2;  // s; c10d's own time-out comes first

}  // namespace

std::unique_ptr<ProcessGroup> ProcessGroup::FromEnvironment(const ProcessGroupOptions& options) {
  return std::make_unique<ProcessGroup>(RankEnvironment::Read(), options);
}

ProcessGroup::ProcessGroup(const RankEnvironment& environment, const ProcessGroupOptions& options)
    : rank_(environment.rank),
      size_(environment.size),
      bucket_elements_(std::max<int64_t>(options.bucket_bytes / static_cast<int64_t>(sizeof(float)), 1)) {
  if (size_ == 1) return;
  channel_ = std::make_unique<RankChannel>(environment, options.times);
  if (environment.token.empty() && !IsLoopback(channel_->local_address())) {
    warning_ = fmt::format("warning: {} is not set: whoever reaches {} can join or disturb this run", kTokenVariable,
                           environment.address);
  }
  const RankChannel::Watch watch(*channel_, "connecting the ranks", options.times.time_out);
  try {
    if (options.cuda) collectives_ = ConnectNccl(*channel_, environment.local_rank);
    if (collectives_ == nullptr) collectives_ = ConnectGloo(*channel_);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    RethrowBetter(error);
  }
}

ProcessGroup::~ProcessGroup() {
  if (channel_ == nullptr) return;
  if (!left_) channel_->GiveUp("it ended before the others");
  // c10d waits for transfers under way; a stopped rank lets it wait for its own time-out.
  const RankChannel::Watch watch(*channel_, "closing the connections", 0);
  collectives_.reset();
}

void ProcessGroup::AllReduceSum(const std::vector<at::Tensor>& tensors) {
  if (size_ == 1) return;
  const at::NoGradGuard no_grad;
  const LongRow row(tensors);
  const std::string what = fmt::format("a sum over {} tensors with {} elements", tensors.size(), row.size());
  channel_->Exchange(what, {});
  const int64_t largest = (std::min(bucket_elements_, row.size()) + size_ - 1) / size_;
  if (!sent_.defined() || sent_.size(1) < largest) {
    sent_ = at::empty({size_, largest}, at::TensorOptions(at::kFloat).device(collectives_->device()));
    received_ = at::empty_like(sent_);
  }
  for (int64_t begin = 0; begin < row.size(); begin += bucket_elements_) {
    const int64_t count = std::min(bucket_elements_, row.size() - begin);
    const int64_t slice = (count + size_ - 1) / size_;
    const at::Tensor sent = sent_.view(-1).slice(0, 0, size_ * slice);
    const at::Tensor received = received_.view(-1).slice(0, 0, size_ * slice);
    row.Read(begin, sent.slice(0, 0, count));
    sent.slice(0, count, size_ * slice).zero_();
    SumSlices(what, sent.view({size_, slice}), received.view({size_, slice}));
    row.Write(begin, sent.slice(0, 0, count));
  }
  row.WriteBack(tensors);
}

// Rank r adds up slice r of all ranks, in the order of the ranks, and hands the sum to all. As many bytes as a ring,
// and unlike in a ring the order of the additions is the same for every element.
void ProcessGroup::SumSlices(const std::string& what, const at::Tensor& slices, const at::Tensor& received) {
  Run(what, [&] { return collectives_->AllToAll(received, slices); });
  at::Tensor sum = received[0];
  for (int rank = 1; rank < size_; ++rank) sum.add_(received[rank]);
  Run(what, [&] { return collectives_->AllGather(slices, sum); });
}

void ProcessGroup::Broadcast(const std::vector<at::Tensor>& tensors, int root) {
  if (size_ == 1) return;
  const at::NoGradGuard no_grad;
  const std::string what = fmt::format("a broadcast of {} tensors from rank {}", tensors.size(), root);
  channel_->Exchange(what, {});
  for (const at::Tensor& tensor : tensors) {
    if (tensor.numel() == 0) continue;
    const at::Tensor moved = tensor.to(collectives_->device()).contiguous();
    const at::Tensor bytes = moved.view(-1).view(at::kByte);
    Run(what, [&] { return collectives_->Broadcast(bytes, root); });
    if (!moved.is_same(tensor)) tensor.copy_(moved);
  }
}

std::vector<std::vector<double>> ProcessGroup::AllGather(const std::string& what, std::span<const double> values) {
  if (size_ == 1) return {{values.begin(), values.end()}};
  std::vector<std::vector<double>> all;
  const auto bytes = std::as_bytes(values);
  for (const std::string& text :
       channel_->Exchange(what, {reinterpret_cast<const char*>(bytes.data()), bytes.size()})) {
    std::vector<double>& of_rank = all.emplace_back(text.size() / sizeof(double));
    std::memcpy(of_rank.data(), text.data(), of_rank.size() * sizeof(double));
  }
  return all;
}

bool ProcessGroup::AgreeAll(const std::string& what, bool mine) {
  if (size_ == 1) return mine;
  const auto votes = channel_->Exchange(what, mine ? "y" : "n");
  return std::all_of(votes.begin(), votes.end(), [](const std::string& vote) { return vote == "y"; });
}

void ProcessGroup::Barrier(const std::string& what) {
  if (size_ > 1) channel_->Exchange(what, {});
}

void ProcessGroup::RequireSame(const std::string& what, const std::string& text) {
  if (size_ == 1) return;
  const auto digests = channel_->Exchange(what, Sha256Hex(std::as_bytes(std::span(text))));
  std::vector<int> others;
  for (int rank = 1; rank < size_; ++rank) {
    if (digests[static_cast<size_t>(rank)] != digests[0]) others.push_back(rank);
  }
  if (others.empty()) return;
  Fail(ErrorCode::kMismatch,
       "[ranks] {}: expected the same on all ranks, found rank {} to differ from rank 0; start all ranks with the same "
       "options and files",
       what, fmt::join(others, ", "));
}

void ProcessGroup::GiveUp(const std::string& reason) {
  if (channel_ != nullptr) channel_->GiveUp(reason);
}

void ProcessGroup::Leave() {
  if (channel_ != nullptr) channel_->Leave();
  left_ = true;
}

// All ranks are here (Exchange came before): from now on time passes for the transfer alone.
void ProcessGroup::Run(const std::string& what, const std::function<std::unique_ptr<Transfer>()>& start) {
  using namespace std::chrono_literals;
  const double time_out = channel_->times().time_out;
  const RankChannel::Watch watch(*channel_, what, time_out);
  const RankClock::time_point begin = RankClock::now();
  try {
    const std::unique_ptr<Transfer> transfer = start();
    for (auto pause = 1us; !transfer->Done(); pause = std::min(2 * pause, 500us)) {
      channel_->ThrowIfFailed();
      if (RankClock::now() > begin + Seconds(time_out + kSlack)) {
        Fail(ErrorCode::kIo,
             "[ranks] {}: expected it to end within {} s, found it still under way on rank {} of {}; {}", what,
             time_out, rank_, size_, "go on with --resume");
      }
      std::this_thread::sleep_for(pause);
    }
  } catch (const std::exception& error) {
    RethrowBetter(error);
  }
}

// c10d sees a broken connection, and often before the hub has said whose: the name is worth a short wait.
void ProcessGroup::RethrowBetter(const std::exception& error) {
  channel_->ThrowIfFailsWithin(kBeatsForTheReason * BeatSeconds(channel_->times().time_out));
  const std::string text = error.what();
  const std::string line = text.substr(0, text.find('\n'));  // the rest is a stack trace
  channel_->GiveUp(line);
  Fail(ErrorCode::kIo, "[ranks] rank {} of {}: expected a transfer between the ranks, found: {}; go on with --resume",
       rank_, size_, line);
}

}  // namespace gateskip::train
