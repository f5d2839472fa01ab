// SPDX-License-Identifier: Apache-2.0
#include "server/metrics.h"

#include <prometheus/text_serializer.h>

#include <utility>
#include <vector>

namespace gateskip::server {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

const prometheus::Histogram::BucketBoundaries kSeconds = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                                          1,     2.5,  5,     10,   30,  60,   120};

// A family of the scheduler's numbers, as they are now.
class Snapshot {
 public:
  Snapshot(MetricType type, const char* name, const char* help) : family_{name, help, type, {}} {}

  Snapshot&& Add(std::vector<ClientMetric::Label> labels, double value) && {
    ClientMetric metric;
    metric.label = std::move(labels);
    (family_.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
    family_.metric.push_back(std::move(metric));
    return std::move(*this);
  }
  MetricFamily Take() && { return std::move(family_); }

 private:
  MetricFamily family_;
};

std::vector<MetricFamily> SchedulerFamilies(const SchedulerStats& stats) {
  const auto number = [](auto value) { return static_cast<double>(value); };
  std::vector<MetricFamily> families;
  const auto counter = [](const char* name, const char* help) { return Snapshot(MetricType::Counter, name, help); };
  const auto gauge = [](const char* name, const char* help) { return Snapshot(MetricType::Gauge, name, help); };
  families.push_back(counter("gateskip_branches_run_total", "Branches of rows that were executed")
                         .Add({{"branch", "attention"}}, number(stats.attention_run))
                         .Add({{"branch", "mlp"}}, number(stats.mlp_run))
                         .Take());
  families.push_back(counter("gateskip_branches_skipped_total", "Branches of rows that were not executed")
                         .Add({{"branch", "attention"}}, number(stats.attention_skipped))
                         .Add({{"branch", "mlp"}}, number(stats.mlp_skipped))
                         .Take());
  families.push_back(
      counter("gateskip_steps_total", "Forward passes of the engine").Add({}, number(stats.steps)).Take());
  families.push_back(counter("gateskip_prompts_total", "Prompts begun")
                         .Add({{"prefix", "cached"}}, number(stats.prompts_cached))
                         .Add({{"prefix", "none"}}, number(stats.prompts - stats.prompts_cached))
                         .Take());
  families.push_back(counter("gateskip_sequences_ended_total", "Requests the engine is done with")
                         .Add({{"how", "finished"}}, number(stats.finished))
                         .Add({{"how", "cancelled"}}, number(stats.cancelled))
                         .Add({{"how", "expired"}}, number(stats.expired))
                         .Take());
  families.push_back(gauge("gateskip_step_rows", "Rows of the engine's last forward pass")
                         .Add({{"phase", "prefill"}}, number(stats.prompt_rows))
                         .Add({{"phase", "decode"}}, number(stats.decode_rows))
                         .Take());
  families.push_back(gauge("gateskip_engine_requests", "Requests in the engine")
                         .Add({{"state", "waiting"}}, number(stats.waiting))
                         .Add({{"state", "running"}}, number(stats.running))
                         .Take());
  families.push_back(gauge("gateskip_kv_pages", "Pages of the KV cache")
                         .Add({{"state", "total"}}, number(stats.pages_total))
                         .Add({{"state", "in_use"}}, number(stats.pages_in_use))
                         .Add({{"state", "prefix_cache"}}, number(stats.cached_pages))
                         .Add({{"state", "prefix_cache_idle"}}, number(stats.idle_cached_pages))
                         .Take());
  return families;
}

}  // namespace

prometheus::Counter& Metrics::NewCounter(const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry_).Add({});
}

prometheus::Gauge& Metrics::NewGauge(const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry_).Add({});
}

prometheus::Histogram& Metrics::NewHistogram(const char* name, const char* help) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry_).Add({}, kSeconds);
}

Metrics::Metrics()
    : prompt_tokens(NewCounter("gateskip_prompt_tokens_total", "Tokens of prompts, those from the cache included")),
      generated_tokens(NewCounter("gateskip_tokens_predicted_total", "Tokens generated")),
      cached_tokens(NewCounter("gateskip_cached_tokens_total", "Tokens of prompts found in the prefix cache")),
      prompt_seconds(NewCounter("gateskip_prompt_seconds_total", "Time of prompts, queue left out")),
      decode_seconds(NewCounter("gateskip_tokens_predicted_seconds_total", "Time of generations")),
      dense_rows(NewCounter("gateskip_layer_cost_dense_total",
                            "Layer cost of all rows as the ungated model would have had it, in rows")),
      executed_rows(NewCounter("gateskip_layer_cost_executed_total",
                               "Layer cost of all rows as it was, gates included, in rows of the ungated model")),
      disconnects(NewCounter("gateskip_disconnects_total", "Requests whose client went away")),
      slow_readers_cut(NewCounter("gateskip_slow_readers_cut_total", "Streams cut because nobody read them")),
      adapted_requests(NewCounter("gateskip_adapted_requests_total", "Requests whose budget the queue chose")),
      drafted_tokens(NewCounter("gateskip_drafted_tokens_total", "Tokens drafted and verified")),
      accepted_tokens(NewCounter("gateskip_accepted_tokens_total", "Drafted tokens that were accepted")),
      requests_processing(NewGauge("gateskip_requests_processing", "Requests that are not answered yet")),
      sequences_in_flight(NewGauge("gateskip_sequences_in_flight", "Sequences that run or wait")),
      queued_tokens(NewGauge("gateskip_queued_tokens", "Tokens of prompts that have not been answered with a token")),
      connections(NewGauge("gateskip_connections", "Open connections")),
      default_budget(NewGauge("gateskip_default_budget", "Budget of a request that would come now without its own")),
      first_token_seconds(NewHistogram("gateskip_first_token_seconds", "From the request to its first token")),
      request_seconds(NewHistogram("gateskip_request_seconds", "From the request to the end of its answer")),
      queue_seconds(NewHistogram("gateskip_queue_seconds", "From the request to its place in a forward pass")),
      responses_(prometheus::BuildCounter()
                     .Name("gateskip_http_responses_total")
                     .Help("Answers by route and status")
                     .Register(registry_)),
      refusals_(prometheus::BuildCounter()
                    .Name("gateskip_refused_total")
                    .Help("Requests refused before they ran")
                    .Register(registry_)) {}

void Metrics::CountResponse(const std::string& route, int status) {
  responses_.Add({{"route", route}, {"status", std::to_string(status)}}).Increment();
}

std::string Metrics::Text(const SchedulerStats& stats) {
  std::vector<MetricFamily> families = registry_.Collect();
  for (MetricFamily& family : SchedulerFamilies(stats)) families.push_back(std::move(family));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace gateskip::server
