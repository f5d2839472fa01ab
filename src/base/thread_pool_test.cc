// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "gateskip/error.h"

namespace gateskip {
namespace {

TEST(ThreadPoolAffinityTest, ThreadsStayOnTheirCpusAndTheCallerIsFreeAfterwards) {
  const std::vector<int> cpus = UsableCpus();
  for (const int threads : {1, 2, 5}) {
    {
      ThreadPool pool(threads, {cpus.back()});
      for (int round = 0; round < 20; ++round) {
        pool.Run([&](int) { EXPECT_EQ(sched_getcpu(), cpus.back()); });
      }
    }
    cpu_set_t set;
    ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
    EXPECT_EQ(static_cast<size_t>(CPU_COUNT(&set)), cpus.size());
  }
  ThreadPool pool(3, cpus);
  pool.Run([&](int t) { EXPECT_EQ(sched_getcpu(), cpus[static_cast<size_t>(t) % cpus.size()]); });
}

TEST(ThreadPoolAffinityTest, BadListsAreRefused) {
  const int cpu = UsableCpus().front();
  for (const std::vector<int>& cpus : {std::vector<int>{-1}, {1 << 20}, {cpu, cpu}, {cpu, UsableCpus().back() + 1}}) {
    EXPECT_THROW(ThreadPool(2, cpus), Error);
  }
}

class ThreadPoolTest : public ::testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, EveryThreadRunsOnce) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 200; ++round) {
    std::vector<std::atomic<int>> runs(static_cast<size_t>(GetParam()));
    pool.Run([&](int t) { runs[static_cast<size_t>(t)]++; });
    for (const auto& count : runs) EXPECT_EQ(count, 1);
  }
}

TEST_P(ThreadPoolTest, RangesCoverEverythingOnce) {
  ThreadPool pool(GetParam());
  for (size_t count : {0u, 1u, 2u, 7u, 16u, 100u, 1001u}) {
    for (size_t grain : {1u, 4u, 64u}) {
      std::vector<std::atomic<int>> seen(count);
      pool.ParallelFor(count, grain, [&](size_t begin, size_t end, int) {
        EXPECT_EQ(begin % grain, 0u);
        for (size_t i = begin; i < end; ++i) seen[i]++;
      });
      for (const auto& times : seen) EXPECT_EQ(times, 1);
    }
  }
}

TEST_P(ThreadPoolTest, ErrorsReachTheCallerAndThePoolLivesOn) {
  ThreadPool pool(GetParam());
  const int thrower = GetParam() - 1;
  EXPECT_THROW(pool.Run([&](int t) {
    if (t == thrower) throw std::runtime_error("x");
  }),
               std::runtime_error);
  std::atomic<int> runs{0};
  pool.Run([&](int) { runs++; });
  EXPECT_EQ(runs, GetParam());
}

TEST_P(ThreadPoolTest, WakesAfterSleep) {
  ThreadPool pool(GetParam());
  std::atomic<int> runs{0};
  for (int i = 0; i < 3; ++i) {
    pool.Run([&](int) { runs++; });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_EQ(runs, 3 * GetParam());
}

TEST_P(ThreadPoolTest, NestedCallsRunSerially) {
  ThreadPool pool(GetParam());
  std::atomic<int> runs{0};
  pool.Run([&](int) {
    pool.ParallelFor(10, 1, [&](size_t begin, size_t end, int) { runs += static_cast<int>(end - begin); });
  });
  EXPECT_EQ(runs, 10 * GetParam());
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, ::testing::Values(1, 2, 3, 8));

TEST(ThreadPool, RefusesImpossibleCounts) {
  EXPECT_THROW(ThreadPool(0), Error);
  EXPECT_THROW(ThreadPool(-1), Error);
  EXPECT_THROW(ThreadPool(257), Error);
}

}  // namespace
}  // namespace gateskip
