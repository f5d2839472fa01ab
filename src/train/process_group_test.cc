// SPDX-License-Identifier: Apache-2.0
// Ranks as processes: what they compute together, and what is left of a run when one of them dies or stops. The number
// of random deaths is GATESKIP_RANK_DEATHS, a few by default.
#include "train/process_group.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "io/testing/expect_error.h"
#include "io/testing/temp_directory.h"
#include "train/random.h"
#include "train/testing/rank_processes.h"

namespace gateskip::train {
namespace {

using gateskip::testing::ReadBack;
using gateskip::testing::TempDirectory;
using ::testing::HasSubstr;
using testing::RankProcesses;
using Clock = std::chrono::steady_clock;

// Of `rank_worker loop` and `rank_worker start`.
constexpr double kTimeOut = 2;
constexpr double kJoinTimeOut = 3;

Clock::time_point In(double seconds) { return Clock::now() + Seconds(seconds); }

void ExpectStatus(const RankProcesses& ranks, int rank, std::optional<int> status, int expected) {
  ASSERT_TRUE(status.has_value()) << "rank " << rank << " still runs";
  EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == expected)
      << "rank " << rank << ": wait status " << *status << "\n"
      << ReadBack(ranks.ErrorPath(rank));
}

// Runs to a good end; the digest every rank printed.
std::string RunLaws(int size, const std::string& bucket_bytes) {
  TempDirectory folder;
  RankProcesses ranks(size, folder.path(), RANK_WORKER, {"laws", bucket_bytes});
  std::set<std::string> digests;
  for (int rank = 0; rank < size; ++rank) {
    ExpectStatus(ranks, rank, ranks.WaitUntil(rank, In(100)), 0);
    digests.insert(ReadBack(ranks.OutputPath(rank)));
  }
  EXPECT_EQ(digests.size(), 1U) << "all ranks have the same bits";
  return digests.empty() ? "" : *digests.begin();
}

TEST(ProcessGroup, ResultsAreTheSameOnAllRanksInEveryRunAndWithEveryBucketSize) {
  for (const int size : {2, 3}) {
    const std::string first = RunLaws(size, "16777216");
    EXPECT_EQ(first.size(), 65U);
    EXPECT_EQ(RunLaws(size, "4000"), first);
  }
  RunLaws(5, "100");
}

TEST(ProcessGroup, OneRankNeedsNobody) {
  ProcessGroup group(RankEnvironment(), {});
  at::Tensor t = at::ones({3});
  group.AllReduceSum({t});
  group.Broadcast({t}, 0);
  EXPECT_TRUE(at::equal(t, at::ones({3})));
  const std::vector<double> values = {1.5, 2.5};
  EXPECT_THAT(group.AllGather("values", values), ::testing::ElementsAre(values));
  EXPECT_TRUE(group.AgreeAll("it", true));
  EXPECT_FALSE(group.AgreeAll("it", false));
  group.Barrier("here");
  group.RequireSame("options", "any");
  group.Leave();
}

TEST(ProcessGroup, RanksWithOtherOptionsAreNamedByAll) {
  TempDirectory folder;
  RankProcesses ranks(3, folder.path(), RANK_WORKER, {"differ"});
  for (int rank = 0; rank < 3; ++rank) {
    ExpectStatus(ranks, rank, ranks.WaitUntil(rank, In(100)), ExitCode(ErrorCode::kMismatch));
    EXPECT_THAT(ReadBack(ranks.ErrorPath(rank)), HasSubstr("found rank 1 to differ"));
  }
}

bool AllReady(const RankProcesses& ranks) {
  for (int rank = 0; rank < ranks.size(); ++rank) {
    if (!ReadBack(ranks.OutputPath(rank)).starts_with("ready")) return false;
  }
  return true;
}

void WaitReady(const RankProcesses& ranks) {
  const auto until = In(60);
  while (!AllReady(ranks) && Clock::now() < until) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  ASSERT_TRUE(AllReady(ranks));
}

// `signal` comes to one rank: every other one ends by itself in time, with status kIo and that rank's name.
void ExpectSurvivorsEnd(RankProcesses& ranks, int victim, int signal, double seconds) {
  ranks.Signal(victim, signal);
  const auto until = In(seconds);
  for (int rank = 0; rank < ranks.size(); ++rank) {
    if (rank == victim) continue;
    ExpectStatus(ranks, rank, ranks.WaitUntil(rank, until), ExitCode(ErrorCode::kIo));
    EXPECT_THAT(ReadBack(ranks.ErrorPath(rank)), HasSubstr(fmt::format("rank {}", victim)));
  }
  if (signal == SIGSTOP) {
    EXPECT_FALSE(ranks.Poll(victim)) << "it was a stop that they noticed";
  }
}

int Deaths(int otherwise) {
  const char* text = std::getenv("GATESKIP_RANK_DEATHS");
  int number = otherwise;
  if (text != nullptr) std::from_chars(text, text + std::strlen(text), number);
  return number;
}

void RandomDeaths(int signal, uint64_t seed, int number) {
  for (int i = 0; i < number; ++i) {
    Random random(seed, Stream::kNoise, static_cast<uint64_t>(i));
    const int size = 2 + static_cast<int>(random.Below(2));
    const int victim = static_cast<int>(random.Below(static_cast<uint64_t>(size)));
    const auto moment = std::chrono::microseconds(random.Below(100'000));
    SCOPED_TRACE(fmt::format("{}: signal {} to rank {} of {} after {} us", i, signal, victim, size, moment.count()));
    TempDirectory folder;
    RankProcesses ranks(size, folder.path(), RANK_WORKER, {"loop"});
    WaitReady(ranks);
    std::this_thread::sleep_for(moment);
    ExpectSurvivorsEnd(ranks, victim, signal, kTimeOut + 5);
  }
}

TEST(ProcessGroup, ADeadRankEndsTheOthersNamingIt) { RandomDeaths(SIGKILL, 1, Deaths(4)); }

TEST(ProcessGroup, AStoppedRankEndsTheOthersNamingIt) { RandomDeaths(SIGSTOP, 2, Deaths(4) * 2 / 5 + 1); }

TEST(ProcessGroup, ARankThatDiesWhileTheyStartEndsTheOthersNamingIt) {
  for (const int victim : {0, 1}) {
    for (const int signal : {SIGKILL, SIGSTOP}) {
      SCOPED_TRACE(fmt::format("signal {} to rank {}", signal, victim));
      TempDirectory folder;
      RankProcesses ranks(2, folder.path(), RANK_WORKER, {"start"});
      std::this_thread::sleep_for(std::chrono::milliseconds(20 * victim));
      // Rank 0 counts the join time from its own start, after LibTorch was loaded.
      ExpectSurvivorsEnd(ranks, victim, signal, kJoinTimeOut + kTimeOut + 20);
    }
  }
}

TEST(ProcessGroup, APauseIsNoDeath) {
  TempDirectory folder;
  RankProcesses ranks(2, folder.path(), RANK_WORKER, {"loop"});
  WaitReady(ranks);
  for (int i = 0; i < 4; ++i) {
    ranks.Signal(i % 2, SIGSTOP);
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    ranks.Signal(i % 2, SIGCONT);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    EXPECT_FALSE(ranks.Poll(0) || ranks.Poll(1)) << ReadBack(ranks.ErrorPath(0)) << ReadBack(ranks.ErrorPath(1));
  }
}

TEST(ProcessGroup, RanksThatWereAllStoppedForLongDoNotBlameEachOther) {
  TempDirectory folder;
  RankProcesses ranks(3, folder.path(), RANK_WORKER, {"agree"});
  WaitReady(ranks);
  for (int rank = 0; rank < 3; ++rank) ranks.Signal(rank, SIGSTOP);
  std::this_thread::sleep_for(Seconds(1.5 * kTimeOut));
  for (int rank = 0; rank < 3; ++rank) ranks.Signal(rank, SIGCONT);
  std::this_thread::sleep_for(Seconds(1));
  for (int rank = 0; rank < 3; ++rank) EXPECT_FALSE(ranks.Poll(rank)) << ReadBack(ranks.ErrorPath(rank));
}

// Sockets that process `pid` listens on: local addresses as /proc/net/tcp has them ("0100007F:8235").
std::set<std::string> Listeners(pid_t pid) {
  std::set<std::string> inodes;
  std::error_code gone;
  for (const auto& entry : std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", pid), gone)) {
    const std::string link = std::filesystem::read_symlink(entry.path(), gone).string();
    if (link.starts_with("socket:[")) inodes.insert(link.substr(8, link.size() - 9));
  }
  std::set<std::string> addresses;
  for (const char* table : {"tcp", "tcp6"}) {
    std::ifstream lines(fmt::format("/proc/{}/net/{}", pid, table));
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string number, local, remote, state, skipped, inode;
      words >> number >> local >> remote >> state >> skipped >> skipped >> skipped >> skipped >> skipped >> inode;
      if (state == "0A" && inodes.contains(inode)) addresses.insert(local);
    }
  }
  return addresses;
}

TEST(ProcessGroup, NobodyListensBeyondThisHost) {
  TempDirectory folder;
  RankProcesses ranks(3, folder.path(), RANK_WORKER, {"loop"});
  std::set<std::string> seen;
  const auto look = [&] {
    for (int rank = 0; rank < 3; ++rank) seen.merge(Listeners(ranks.pid(rank)));
  };
  const auto until = In(60);
  while (!AllReady(ranks) && Clock::now() < until) look();
  ASSERT_TRUE(AllReady(ranks));
  look();
  EXPECT_FALSE(seen.empty()) << "rank 0's listener at least";
  for (const std::string& address : seen) EXPECT_TRUE(address.starts_with("0100007F:")) << address;
  for (int rank = 0; rank < 3; ++rank) EXPECT_THAT(Listeners(ranks.pid(rank)), ::testing::IsEmpty());
}

}  // namespace
}  // namespace gateskip::train
