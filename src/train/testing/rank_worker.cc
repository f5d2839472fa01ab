// SPDX-License-Identifier: Apache-2.0
// A rank for process_group_test: `rank_worker laws BUCKET_BYTES` checks what every call promises and prints a digest of
// all results; `rank_worker loop` sums and `rank_worker agree` votes until it is ended, as does `rank_worker start`,
// which does not wait for long for the others; `rank_worker differ` brings other options than the others.
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <cstring>
#include <thread>

#include "base/check.h"
#include "base/sha256.h"
#include "train/process_group.h"
#include "train/random.h"

namespace gateskip::train {
namespace {

// Short, so that the tests of dead ranks are.
constexpr RankTimes kShort{.time_out = 2, .work_time_out = 30, .join_time_out = 60, .grace = 5};
constexpr RankTimes kShortStart{.time_out = 2, .work_time_out = 30, .join_time_out = 3, .grace = 5};
constexpr RankTimes kLong{.time_out = 60, .work_time_out = 60, .join_time_out = 60, .grace = 5};

void Expect(bool condition, const std::string& what) {
  if (!condition)
    Fail(ErrorCode::kInternal, "[rank_worker] {}: expected it to hold, found that it does not; a bug", what);
}

// The gradient of `rank`: magnitudes from 2^-20 to 2^20, so that another order of additions shows in the bits.
at::Tensor Gradient(int rank, int round, int64_t index, at::IntArrayRef shape) {
  at::Tensor t = at::empty(shape, at::kFloat);
  Random random(static_cast<uint64_t>(round), Stream::kNoise, static_cast<uint64_t>(rank * 1000 + index));
  for (int64_t i = 0; i < t.numel(); ++i) {
    t.data_ptr<float>()[i] = static_cast<float>(random.Normal() * std::exp2(40 * random.Uniform() - 20));
  }
  return t;
}

const std::vector<std::vector<int64_t>> kShapes = {{7, 5}, {0}, {}, {1000}, {3, 1, 33}, {1}, {64, 65}};

std::vector<at::Tensor> Gradients(int rank, int round) {
  std::vector<at::Tensor> all;
  for (const auto& shape : kShapes) all.push_back(Gradient(rank, round, static_cast<int64_t>(all.size()), shape));
  all.push_back(Gradient(rank, round, 99, {6, 50}).t());  // not contiguous
  return all;
}

void Hash(Sha256& sha, const at::Tensor& tensor) {
  const at::Tensor t = tensor.contiguous();
  sha.Update(std::as_bytes(std::span(static_cast<const char*>(t.data_ptr()), t.nbytes())));
}

bool SameBits(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.contiguous();
  const at::Tensor y = b.contiguous();
  return x.sizes() == y.sizes() && x.scalar_type() == y.scalar_type() &&
         std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

void CheckSums(ProcessGroup& group, Sha256& sha) {
  for (int round = 0; round < 5; ++round) {
    std::vector<at::Tensor> sums = Gradients(group.rank(), round);
    group.AllReduceSum(sums);
    std::vector<at::Tensor> expected = Gradients(0, round);
    for (int rank = 1; rank < group.size(); ++rank) {
      const std::vector<at::Tensor> next = Gradients(rank, round);
      for (size_t i = 0; i < next.size(); ++i) expected[i] = expected[i] + next[i];
    }
    for (size_t i = 0; i < sums.size(); ++i) {
      Expect(SameBits(sums[i], expected[i]), fmt::format("sum {} of round {} in the order of the ranks", i, round));
      Hash(sha, sums[i]);
    }
  }
  group.AllReduceSum({});
}

void CheckBroadcasts(ProcessGroup& group, Sha256& sha) {
  for (int root = 0; root < group.size(); ++root) {
    const auto make = [&](int rank) {
      std::vector<at::Tensor> all = Gradients(rank, 7);
      all.push_back(at::full({3}, 100 + rank, at::kLong));
      all.push_back(at::full({2, 2}, 0.5 * rank, at::kBFloat16));
      all.push_back(at::full({}, rank == 0, at::kBool));
      return all;
    };
    const std::vector<at::Tensor> tensors = make(group.rank());
    group.Broadcast(tensors, root);
    const std::vector<at::Tensor> expected = make(root);
    for (size_t i = 0; i < tensors.size(); ++i) {
      Expect(SameBits(tensors[i], expected[i]), fmt::format("tensor {} from rank {}", i, root));
      Hash(sha, tensors[i]);
    }
  }
}

void CheckSmallValues(ProcessGroup& group) {
  // As many values as the rank has number, with bits that text would lose.
  const std::vector<double> mine(static_cast<size_t>(group.rank()), 0.1 * group.rank());
  const auto all = group.AllGather("values", mine);
  Expect(all.size() == static_cast<size_t>(group.size()), "values of every rank");
  for (int rank = 0; rank < group.size(); ++rank) {
    Expect(all[static_cast<size_t>(rank)] == std::vector<double>(static_cast<size_t>(rank), 0.1 * rank), "their bits");
  }
  Expect(group.AgreeAll("all", true), "all agree");
  Expect(!group.AgreeAll("none", false), "none agrees");
  for (int rank = 0; rank < group.size(); ++rank) {
    Expect(group.AgreeAll("one against", group.rank() != rank) == false, "one against is enough");
  }
  group.Barrier("a barrier");
  group.RequireSame("options", "the same");
}

void Laws(ProcessGroup& group) {
  Sha256 sha;
  CheckSums(group, sha);
  CheckBroadcasts(group, sha);
  CheckSmallValues(group);
  fmt::print("{}\n", sha.HexDigest());
}

void Loop(ProcessGroup& group) {
  fmt::print("ready\n");
  std::fflush(stdout);
  std::vector<at::Tensor> gradients = {at::ones({300'000}), at::ones({17})};
  while (group.AgreeAll("whether to go on", true)) {
    for (at::Tensor& gradient : gradients) gradient.fill_(1);
    group.AllReduceSum(gradients);
    Expect(gradients[1][0].item<float>() == static_cast<float>(group.size()), "the sum");
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // what is computed in between
  }
}

// Values only: c10d's own clock goes on while a process is stopped, the channel's does not.
void Agree(ProcessGroup& group) {
  fmt::print("ready\n");
  std::fflush(stdout);
  while (group.AgreeAll("whether to go on", true)) std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

int Main(const std::string& mode, const std::string& bucket) {
  ProcessGroupOptions options;
  options.times = mode == "start" ? kShortStart : mode == "loop" || mode == "agree" ? kShort : kLong;
  if (!bucket.empty()) std::from_chars(bucket.data(), bucket.data() + bucket.size(), options.bucket_bytes);
  const auto group = ProcessGroup::FromEnvironment(options);
  if (mode == "laws") {
    Laws(*group);
  } else if (mode == "loop") {
    Loop(*group);
  } else if (mode == "agree" || mode == "start") {
    Agree(*group);
  } else {
    group->RequireSame("options", group->rank() == 1 ? "others" : "the same");
  }
  group->Leave();
  return 0;
}

}  // namespace
}  // namespace gateskip::train

int main(int argc, char** argv) {
  at::set_num_threads(1);
  try {
    return gateskip::train::Main(argc > 1 ? argv[1] : "", argc > 2 ? argv[2] : "");
  } catch (const gateskip::Error& error) {
    fmt::print(stderr, "gateskip: error: {}\n", error.what());
    return gateskip::ExitCode(error.code());
  }
}
