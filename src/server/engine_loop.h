// SPDX-License-Identifier: Apache-2.0
// The engine thread: it owns the Scheduler, takes requests from an inbox, and hands tokens and results back through
// `post`, which runs them on the thread of the HTTP side. A step that throws ends the requests it had, not the loop.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>

#include "sched/request.h"
#include "sched/scheduler.h"
#include "server/api_error.h"

namespace gateskip::server {

// How a request ended: with a result, or with why there is none.
struct EngineOutcome {
  std::optional<SequenceResult> result;
  ApiError error;
};

class EngineLoop {
 public:
  using Post = std::function<void(std::function<void()>)>;
  using OnToken = std::function<void(TokenEvent&&)>;
  using OnDone = std::function<void(EngineOutcome&&)>;

  // `model` outlives it. `post` may be called from any thread, also while the loop is being destroyed.
  EngineLoop(const LoadedModel& model, const SchedulerOptions& options, Post post);
  // Ends after the step at hand; requests that have not ended are forgotten.
  ~EngineLoop();
  EngineLoop(const EngineLoop&) = delete;
  EngineLoop& operator=(const EngineLoop&) = delete;

  // Any thread. `on_token` (may be empty) and then `on_done`, once, come through `post`.
  uint64_t Submit(SequenceRequest request, OnToken on_token, OnDone on_done);
  // Any thread. The request ends with FinishReason::kCancelled, unless it has ended already.
  void Cancel(uint64_t id);

  // Whether a step has been running for longer than `limit`, or there is no scheduler to run one.
  bool Stalled(std::chrono::milliseconds limit) const;
  SchedulerStats stats() const;

 private:
  struct Job {
    uint64_t id;
    SequenceRequest request;
    OnDone on_done;
  };
  struct Running {
    uint64_t scheduler_id;
    OnDone on_done;
  };
  struct Inbox {
    std::deque<Job> jobs;
    std::deque<uint64_t> cancelled;
  };

  void Run();
  // A new scheduler in place of one that threw, if there is memory for one.
  void Renew() noexcept;
  // Waits while there is nothing to do. False to end.
  bool Receive(bool idle, Inbox* inbox);
  void Accept(Job job);
  void Drop(uint64_t id);
  void End(uint64_t id, EngineOutcome&& outcome);
  void FailAll(const ApiError& error);
  void Beat(bool busy);

  const LoadedModel& model_;
  const SchedulerOptions options_;
  const Post post_;

  mutable std::mutex mutex_;  // of the four below
  std::condition_variable arrived_;
  Inbox inbox_;
  SchedulerStats stats_;
  uint64_t next_id_ = 1;
  bool stopping_ = false;

  std::atomic<bool> busy_{false};
  std::atomic<bool> broken_{false};    // no scheduler
  std::atomic<int64_t> last_beat_{0};  // steady_clock, ns

  // Of the engine thread alone.
  std::unique_ptr<Scheduler> scheduler_;
  std::unordered_map<uint64_t, Running> running_;

  std::thread thread_;
};

}  // namespace gateskip::server
