// SPDX-License-Identifier: Apache-2.0
// What /metrics tells, in Prometheus' text format. Counters are added to as things happen; what the scheduler counts is
// read when somebody asks. No text of a prompt, no key and no address is ever a label.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <string>

#include "sched/scheduler.h"

namespace gateskip::server {

class Metrics {
  prometheus::Registry registry_;  // first: what follows is made in it

 public:
  Metrics();

  void CountResponse(const std::string& route, int status);
  void CountRefusal(const std::string& reason) { refusals_.Add({{"reason", reason}}).Increment(); }

  prometheus::Counter &prompt_tokens, &generated_tokens, &cached_tokens;
  prometheus::Counter &prompt_seconds, &decode_seconds;
  // Layer cost of the rows that ran: as the ungated model would have had it, and as it was.
  prometheus::Counter &dense_rows, &executed_rows;
  prometheus::Counter &disconnects, &slow_readers_cut, &adapted_requests, &drafted_tokens, &accepted_tokens;
  prometheus::Gauge &requests_processing, &sequences_in_flight, &queued_tokens, &connections, &default_budget;
  prometheus::Histogram &first_token_seconds, &request_seconds, &queue_seconds;

  // Everything, with the scheduler's own numbers.
  std::string Text(const SchedulerStats& stats);

 private:
  prometheus::Counter& NewCounter(const char* name, const char* help);
  prometheus::Gauge& NewGauge(const char* name, const char* help);
  prometheus::Histogram& NewHistogram(const char* name, const char* help);

  prometheus::Family<prometheus::Counter>&responses_, &refusals_;
};

}  // namespace gateskip::server
