// SPDX-License-Identifier: Apache-2.0
#include "server/engine_loop.h"

#include <pthread.h>

#include <new>
#include <utility>

namespace gateskip::server {
namespace {

int64_t Now() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

}  // namespace

EngineLoop::EngineLoop(const LoadedModel& model, const SchedulerOptions& options, Post post)
    : model_(model),
      options_(options),
      post_(std::move(post)),
      scheduler_(std::make_unique<Scheduler>(model, options)),
      thread_([this] { Run(); }) {}

EngineLoop::~EngineLoop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  arrived_.notify_one();
  thread_.join();
}

uint64_t EngineLoop::Submit(SequenceRequest request, OnToken on_token, OnDone on_done) {
  if (on_token) {
    request.on_token = [this, on_token = std::move(on_token)](TokenEvent&& event) {
      post_([on_token, event = std::move(event)]() mutable { on_token(std::move(event)); });
    };
  }
  uint64_t id = 0;
  {
    const std::lock_guard lock(mutex_);
    id = next_id_++;
    inbox_.jobs.push_back({id, std::move(request), std::move(on_done)});
  }
  arrived_.notify_one();
  return id;
}

void EngineLoop::Cancel(uint64_t id) {
  {
    const std::lock_guard lock(mutex_);
    inbox_.cancelled.push_back(id);
  }
  arrived_.notify_one();
}

bool EngineLoop::Stalled(std::chrono::milliseconds limit) const {
  if (broken_.load(std::memory_order_acquire)) return true;
  if (!busy_.load(std::memory_order_acquire)) return false;
  return Now() - last_beat_.load(std::memory_order_acquire) > std::chrono::nanoseconds(limit).count();
}

SchedulerStats EngineLoop::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void EngineLoop::Beat(bool busy) {
  last_beat_.store(Now(), std::memory_order_release);
  busy_.store(busy, std::memory_order_release);
}

bool EngineLoop::Receive(bool idle, Inbox* inbox) {
  std::unique_lock lock(mutex_);
  stats_ = scheduler_ == nullptr ? SchedulerStats{} : scheduler_->stats();
  const auto called = [&] { return stopping_ || !inbox_.jobs.empty() || !inbox_.cancelled.empty(); };
  if (idle && !called()) {
    Beat(false);
    arrived_.wait(lock, called);
  }
  Beat(true);
  *inbox = std::exchange(inbox_, {});
  return !stopping_;
}

void EngineLoop::End(uint64_t id, EngineOutcome&& outcome) {
  const auto found = running_.find(id);
  if (found == running_.end()) return;
  OnDone on_done = std::move(found->second.on_done);
  running_.erase(found);
  post_([on_done = std::move(on_done), outcome = std::move(outcome)]() mutable { on_done(std::move(outcome)); });
}

void EngineLoop::Accept(Job job) {
  const uint64_t id = job.id;
  running_[id] = {.scheduler_id = 0, .on_done = std::move(job.on_done)};
  try {
    if (scheduler_ == nullptr) Renew();
    if (scheduler_ == nullptr) throw std::bad_alloc();
    running_[id].scheduler_id = scheduler_->Add(std::move(job.request), [this, id](SequenceResult&& result) {
      EngineOutcome outcome;
      if (result.error) {
        outcome.error = ToApiError(*result.error);
      } else {
        outcome.result = std::move(result);
      }
      End(id, std::move(outcome));
    });
  } catch (const std::exception& error) {
    End(id, {.result = std::nullopt, .error = ToApiError(error)});
  }
}

void EngineLoop::Drop(uint64_t id) {
  const auto found = running_.find(id);
  if (found != running_.end() && scheduler_ != nullptr) scheduler_->Cancel(found->second.scheduler_id);
}

void EngineLoop::FailAll(const ApiError& error) {
  while (!running_.empty()) End(running_.begin()->first, {.result = std::nullopt, .error = error});
}

void EngineLoop::Renew() noexcept {
  scheduler_.reset();
  try {
    scheduler_ = std::make_unique<Scheduler>(model_, options_);
  } catch (const std::exception&) {
    // No memory for a cache: asked for again with the next request.
  }
  broken_.store(scheduler_ == nullptr, std::memory_order_release);
}

void EngineLoop::Run() {
  pthread_setname_np(pthread_self(), "engine");  // for top -H
  bool idle = true;
  Inbox inbox;
  while (Receive(idle, &inbox)) {
    try {
      for (Job& job : inbox.jobs) Accept(std::move(job));
      for (const uint64_t id : inbox.cancelled) Drop(id);
      idle = scheduler_ == nullptr || !scheduler_->Step();
    } catch (const std::exception& error) {
      // What state the scheduler is in nobody knows: a new one, and an answer to everybody who waited.
      FailAll(ToApiError(error));
      Renew();
      idle = true;
    }
  }
}

}  // namespace gateskip::server
