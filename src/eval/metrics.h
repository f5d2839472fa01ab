// SPDX-License-Identifier: Apache-2.0
// The metrics of lm-evaluation-harness 0.4.13 (lm_eval/api/metrics.py, evaluator_utils.py, group.py): what one instance
// contributes, how contributions become one number, and its standard error.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "eval/task_spec.h"

namespace gateskip {

// What one instance adds to one metric.
struct MetricValue {
  std::string metric = {};
  double value = 0;      // a score; a log-likelihood in nats for perplexities
  double weight = 1;     // words or bytes for the weighted perplexities; best_threshold: the probability of no answer
  double otherwise = 0;  // best_threshold: the score of giving no answer
};

struct MetricResult {
  std::string metric;
  double value = 0;
  std::optional<double> standard_error = std::nullopt;
  int64_t count = 0;  // instances
  bool higher_is_better = true;
  std::optional<double> chance = std::nullopt;  // the expected score of guessing
};

// What the harness knows of a metric by name. nullptr when unknown.
struct MetricKind {
  std::string_view name;
  std::vector<OutputType> output_types;
  std::string_view aggregation;
  bool higher_is_better;
};
const MetricKind* FindMetric(std::string_view name);
std::vector<std::string> MetricNames();
std::vector<std::string> AggregationNames();

// Index of the largest, the first of equals, as numpy.argmax.
size_t ArgMax(std::span<const double> values);

// values: of one metric, at least one. `aggregation` is one of AggregationNames():
//   mean                 sum v / n
//   perplexity           exp(-mean)
//   weighted_perplexity  exp(-sum v / sum w)
//   bits_per_byte        -sum v / sum w / ln 2
//   best_threshold       (sum of v with w <= t + sum of the others' otherwise) / n, for the best t: find_best_thresh of
//                        SQuAD 2.0's evaluation script, which takes values of the same w one by one, in their order
double AggregateValues(std::string_view aggregation, std::span<const MetricValue> values);
// mean: sample standard deviation / sqrt(n). perplexity: the standard deviation over 1000 bootstrap resamples, drawn as
// the harness draws its first 1000 (random.Random(0)). nullopt for the others, as in the harness, and for one value.
std::optional<double> StandardError(std::string_view aggregation, std::span<const MetricValue> values);

// Of the parts of a task, each a (mean, standard error, count): the harness's aggregate_metric_list with and without
// weight_by_size. Standard errors: pooled variance, and sqrt(sum se^2) / k; nullopt when a part has none.
struct PartResult {
  double value = 0;
  std::optional<double> standard_error = std::nullopt;
  int64_t count = 0;
};
PartResult MicroAverage(std::span<const PartResult> parts);
PartResult MacroAverage(std::span<const PartResult> parts);

}  // namespace gateskip
