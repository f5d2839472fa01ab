// SPDX-License-Identifier: Apache-2.0
// Metrics and their aggregation, as lm-evaluation-harness 0.4 defines them (its api/metrics.py, api/task.py and
// filters/), and SQuAD 2.0's exact and F1 (the official evaluation script, arXiv 1806.03822).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "eval/task_spec.h"

namespace gateskip {

// Of one instance. Perplexities of rolling tasks weigh by words or bytes; everything else by 1.
struct MetricValue {
  std::string metric;
  double value = 0;
  double weight = 1;
};

struct MetricResult {
  std::string metric;
  double value = 0;
  std::optional<double> standard_error;
  int64_t count = 0;
  bool higher_is_better = true;
  std::optional<double> chance;  // what guessing scores, if that is known
};

// The metrics an output type has.
std::vector<std::string> MetricNames(OutputType output);
bool HigherIsBetter(std::string_view metric);

// Python's len(str): code points.
size_t CountCharacters(std::string_view text);

// A generation after a filter.
std::string ApplyFilter(const FilterSpec& filter, std::string_view text);

// exact_match of one prediction and reference, after what is to be ignored is gone: 0 or 1.
double ExactMatch(const MetricSpec& spec, std::string_view prediction, std::string_view reference);

// SQuAD: lower case, without punctuation and articles, single spaces.
std::string NormalizeAnswer(std::string_view text);
// The best over the references; no reference stands for "no answer".
double SquadExact(std::string_view prediction, const std::vector<std::string>& references);
double SquadF1(std::string_view prediction, const std::vector<std::string>& references);

// Values of one metric over instances, none or more: their mean with the standard error s / sqrt(n), s the sample's;
// perplexity exp(-mean); word_perplexity and byte_perplexity exp(-sum / sum of weights); bits_per_byte. The standard
// error of perplexity is by the delta method where the harness draws a bootstrap; the weighted ones have none.
MetricResult AggregateMetric(std::string_view metric, std::span<const MetricValue> values);

}  // namespace gateskip
