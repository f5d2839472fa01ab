// SPDX-License-Identifier: Apache-2.0
// Workers spin for a short while after each task, so that the barriers of a decode step cost about a microsecond,
// then sleep. With more threads than cores spinning would steal the time the others need: they yield for as long
// instead, which costs a barrier less than waking them.
#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"

namespace gateskip {
namespace {

constexpr int kMaxThreads = 256;
// About 40 us, of pauses or of calls that yield: longer than the serial parts between two parallel regions.
constexpr int kSpins = 4000;
constexpr int kYields = 100;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

thread_local bool inside_task = false;
thread_local const ThreadPool* pinned_by = nullptr;

// Of the calling thread. A CPU that went away meanwhile is not worth failing for.
void SetAffinity(std::span<const int> cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) CPU_SET(static_cast<size_t>(cpu), &set);
  sched_setaffinity(0, sizeof(set), &set);
}

std::vector<int> ReadAffinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(static_cast<size_t>(cpu), &set)) cpus.push_back(cpu);
    }
  }
  if (cpus.empty()) cpus.push_back(0);
  return cpus;
}

void CheckCpus(std::span<const int> cpus) {
  const std::vector<int> usable = UsableCpus();
  for (size_t i = 0; i < cpus.size(); ++i) {
    if (!std::ranges::binary_search(usable, cpus[i])) {
      Fail(ErrorCode::kInvalidArgument,
           "[threads] affinity: expected CPUs this process may use ({}), found {}; name others", fmt::join(usable, ","),
           cpus[i]);
    }
    if (std::ranges::count(cpus, cpus[i]) > 1) {
      Fail(ErrorCode::kInvalidArgument, "[threads] affinity: expected every CPU once, found {} again; drop it",
           cpus[i]);
    }
  }
}

}  // namespace

std::vector<int> UsableCpus() {
  static const std::vector<int> cpus = ReadAffinity();  // before any thread is pinned
  return cpus;
}

struct ThreadPool::Team {
  Team(int num_threads, std::span<const int> cpus)
      : crowded(static_cast<size_t>(num_threads) > (cpus.empty() ? UsableCpus().size() : cpus.size())) {
    for (int t = 1; t < num_threads; ++t) {
      const int cpu = cpus.empty() ? -1 : cpus[static_cast<size_t>(t) % cpus.size()];
      workers.emplace_back([this, t, cpu] {
        if (cpu >= 0) SetAffinity({&cpu, 1});
        Work(t);
      });
    }
  }

  ~Team() {
    {
      const std::lock_guard lock(mutex);
      stopping.store(true, std::memory_order_relaxed);
      generation.fetch_add(1);
    }
    wake.notify_all();
    for (std::thread& worker : workers) worker.join();
  }

  void Work(int thread) {
    inside_task = true;
    uint64_t seen = 0;
    while (true) {
      seen = WaitForTask(seen);
      if (stopping.load(std::memory_order_relaxed)) return;
      RunTask(thread);
      pending.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  uint64_t WaitForTask(uint64_t seen) {
    for (int i = 0; i < (crowded ? kYields : kSpins); ++i) {
      const uint64_t now = generation.load(std::memory_order_acquire);
      if (now != seen) return now;
      crowded ? std::this_thread::yield() : Pause();
    }
    // Whoever is second of this thread, which counts itself and then looks for a task, and Run, which posts a task and
    // then looks for sleepers, sees the other: both orders are sequentially consistent.
    std::unique_lock lock(mutex);
    sleepers.fetch_add(1);
    wake.wait(lock, [&] { return generation.load() != seen; });
    sleepers.fetch_sub(1);
    return generation.load(std::memory_order_acquire);
  }

  void RunTask(int thread) {
    try {
      (*task)(thread);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
  }

  void Run(const FunctionRef<void(int)>& next) {
    task.emplace(next);
    pending.store(static_cast<int>(workers.size()), std::memory_order_relaxed);
    generation.fetch_add(1);
    if (sleepers.load() > 0) {
      { const std::lock_guard lock(mutex); }  // nobody is between counting itself and falling asleep
      wake.notify_all();
    }
    inside_task = true;
    RunTask(0);
    inside_task = false;
    for (int i = 0; pending.load(std::memory_order_acquire) > 0; ++i) {
      if (!crowded && i < kSpins) {
        Pause();
      } else {
        std::this_thread::yield();
      }
    }
    if (error) std::rethrow_exception(std::exchange(error, nullptr));
  }

  const bool crowded;  // more threads than CPUs
  std::vector<std::thread> workers;
  // One cache line from the caller to the workers, one back: each costs a region some 0.3 us.
  alignas(64) std::atomic<uint64_t> generation{0};
  std::optional<FunctionRef<void(int)>> task;  // written before the generation, read after it
  alignas(64) std::atomic<int> pending{0};
  alignas(64) std::atomic<bool> stopping{false};
  std::atomic<int> sleepers{0};
  std::mutex mutex;
  std::condition_variable wake;
  std::exception_ptr error;  // guarded by mutex until the team is done
};

ThreadPool::ThreadPool(int num_threads, std::vector<int> cpus) : num_threads_(num_threads), cpus_(std::move(cpus)) {
  if (num_threads < 1 || num_threads > kMaxThreads) {
    Fail(ErrorCode::kInvalidArgument, "[threads] count: expected 1 to {}, found {}; pass -t", kMaxThreads, num_threads);
  }
  CheckCpus(cpus_);
  if (num_threads > 1) team_ = std::make_unique<Team>(num_threads, cpus_);
}

ThreadPool::~ThreadPool() {
  if (pinned_by != this) return;
  SetAffinity(UsableCpus());
  pinned_by = nullptr;
}

void ThreadPool::PinCaller() {
  SetAffinity({cpus_.data(), 1});
  pinned_by = this;
}

void ThreadPool::Run(FunctionRef<void(int)> task) {
  if (inside_task) {
    for (int t = 0; t < num_threads_; ++t) task(t);
    return;
  }
  if (!cpus_.empty() && pinned_by != this) PinCaller();
  if (team_ == nullptr) return task(0);
  team_->Run(task);
}

void ThreadPool::ParallelFor(size_t count, size_t grain, FunctionRef<void(size_t, size_t, int)> task) {
  if (count == 0) return;
  if (count <= grain || team_ == nullptr || inside_task) {
    task(0, count, 0);
    return;
  }
  const auto threads = static_cast<size_t>(num_threads_);
  const size_t chunks = (count + grain - 1) / grain;
  Run([&](int thread) {
    const auto t = static_cast<size_t>(thread);
    const size_t begin = chunks * t / threads * grain;
    const size_t end = std::min(count, chunks * (t + 1) / threads * grain);
    if (begin < end) task(begin, end, thread);
  });
}

}  // namespace gateskip
