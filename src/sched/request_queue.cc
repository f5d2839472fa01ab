// SPDX-License-Identifier: Apache-2.0
#include "sched/request_queue.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/check.h"

namespace gateskip {

void RequestQueue::Push(std::shared_ptr<Job> job) {
  std::string key = job->request.fairness_key;
  keys_[std::move(key)].push_back(std::move(job));
  ++size_;
}

RequestQueue::Keys::const_iterator RequestQueue::Turn() const {
  const auto next = keys_.upper_bound(last_key_);
  return next == keys_.end() ? keys_.begin() : next;
}

std::shared_ptr<Job> RequestQueue::Front() const { return empty() ? nullptr : Turn()->second.front(); }

void RequestQueue::Pop() {
  GS_CHECK(!empty());
  last_key_ = Turn()->first;
  const auto key = keys_.find(last_key_);
  key->second.pop_front();
  if (key->second.empty()) keys_.erase(key);
  --size_;
}

std::shared_ptr<Job> RequestQueue::Remove(uint64_t id) {
  for (auto key = keys_.begin(); key != keys_.end(); ++key) {
    auto& jobs = key->second;
    const auto found = std::ranges::find_if(jobs, [&](const auto& job) { return job->id == id; });
    if (found == jobs.end()) continue;
    std::shared_ptr<Job> job = std::move(*found);
    jobs.erase(found);
    if (jobs.empty()) keys_.erase(key);
    --size_;
    return job;
  }
  return nullptr;
}

std::vector<std::shared_ptr<Job>> RequestQueue::RemoveExpired(Job::Clock::time_point now) {
  std::vector<std::shared_ptr<Job>> expired;
  for (auto key = keys_.begin(); key != keys_.end();) {
    auto& jobs = key->second;
    const auto kept = std::stable_partition(jobs.begin(), jobs.end(), [&](const auto& job) {
      return !job->request.deadline || *job->request.deadline > now;
    });
    std::move(kept, jobs.end(), std::back_inserter(expired));
    size_ -= static_cast<size_t>(jobs.end() - kept);
    jobs.erase(kept, jobs.end());
    key = jobs.empty() ? keys_.erase(key) : std::next(key);
  }
  return expired;
}

}  // namespace gateskip
