// SPDX-License-Identifier: Apache-2.0
// Requests that wait to be admitted: round robin over the fairness keys, first come, first served within one.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sched/job.h"

namespace gateskip {

class RequestQueue {
 public:
  void Push(std::shared_ptr<Job> job);
  // Whose turn it is; nullptr when empty. Stays the same until Pop or a removal.
  std::shared_ptr<Job> Front() const;
  void Pop();
  // nullptr when it is not here.
  std::shared_ptr<Job> Remove(uint64_t id);
  std::vector<std::shared_ptr<Job>> RemoveExpired(Job::Clock::time_point now);

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

 private:
  using Keys = std::map<std::string, std::deque<std::shared_ptr<Job>>>;
  Keys::const_iterator Turn() const;

  Keys keys_;  // none with an empty deque
  std::string last_key_;
  size_t size_ = 0;
};

}  // namespace gateskip
