// SPDX-License-Identifier: Apache-2.0
// A fixed team of threads for data-parallel kernels. The caller is thread 0.
//
// Results never depend on the number of threads: kernels split outputs, never a reduction.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "base/function_ref.h"

namespace gateskip {

// CPUs this process may run on, ascending; never empty.
std::vector<int> UsableCpus();

class ThreadPool {
 public:
  // num_threads >= 1, counting the caller. Thread t stays on cpus[t % size], the caller from its first Run on; without
  // any, the system places them. Throws Error(kInvalidArgument) outside [1, 256], and for a CPU that is named twice or
  // that this process may not use.
  explicit ThreadPool(int num_threads, std::vector<int> cpus = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  // Runs task(thread_index) once on every thread and returns when all are done. An exception thrown by any of
  // them is rethrown here. Calls from inside a task run serially on the calling thread.
  void Run(FunctionRef<void(int)> task);

  // Splits [0, count) into one contiguous range per thread, multiples of `grain` except the last, and runs
  // task(begin, end, thread_index) for the non-empty ones. Serial when count <= grain.
  void ParallelFor(size_t count, size_t grain, FunctionRef<void(size_t, size_t, int)> task);

 private:
  struct Team;
  void PinCaller();

  int num_threads_;
  std::vector<int> cpus_;
  std::unique_ptr<Team> team_;
};

}  // namespace gateskip
