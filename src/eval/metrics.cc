// SPDX-License-Identifier: Apache-2.0
#include "eval/metrics.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "eval/python_random.h"

namespace gateskip {
namespace {

using Values = std::span<const MetricValue>;

constexpr int kBootstrapResamples = 1000;

const std::vector<MetricKind>& Kinds() {
  using enum OutputType;
  static const std::vector<MetricKind> kinds = {
      {"acc", {kLoglikelihood, kMultipleChoice}, "mean", true},
      {"acc_norm", {kMultipleChoice}, "mean", true},
      {"acc_bytes", {kMultipleChoice}, "mean", true},
      {"perplexity", {kLoglikelihood}, "perplexity", false},
      {"word_perplexity", {kLoglikelihoodRolling}, "weighted_perplexity", false},
      {"byte_perplexity", {kLoglikelihoodRolling}, "weighted_perplexity", false},
      {"bits_per_byte", {kLoglikelihoodRolling}, "bits_per_byte", false},
      {"exact_match", {kGenerateUntil, kMultipleChoice}, "mean", true},
      {"exact", {kGenerateUntil}, "mean", true},
      {"f1", {kGenerateUntil}, "mean", true},
      {"HasAns_exact", {kGenerateUntil}, "mean", true},
      {"HasAns_f1", {kGenerateUntil}, "mean", true},
      {"NoAns_exact", {kGenerateUntil}, "mean", true},
      {"NoAns_f1", {kGenerateUntil}, "mean", true},
      {"best_exact", {kGenerateUntil}, "best_threshold", true},
      {"best_f1", {kGenerateUntil}, "best_threshold", true},
  };
  return kinds;
}

double Sum(Values values) {
  double sum = 0;
  for (const MetricValue& v : values) sum += v.value;
  return sum;
}
double Mean(Values values) { return Sum(values) / static_cast<double>(values.size()); }
double WeightedMean(Values values) {
  double weights = 0;
  for (const MetricValue& v : values) weights += v.weight;
  return Sum(values) / weights;
}

double BestThreshold(Values values) {
  std::vector<const MetricValue*> by_weight;
  double sum = 0;
  for (const MetricValue& v : values) {
    by_weight.push_back(&v);
    sum += v.otherwise;
  }
  std::stable_sort(by_weight.begin(), by_weight.end(),
                   [](const auto* a, const auto* b) { return a->weight < b->weight; });
  double best = sum;
  for (const MetricValue* v : by_weight) {
    sum += v->value - v->otherwise;
    best = std::max(best, sum);
  }
  return best / static_cast<double>(values.size());
}

double SampleDeviation(std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  double mean = 0;
  for (const double value : values) mean += value;
  mean /= n;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / (n - 1));
}

}  // namespace

const MetricKind* FindMetric(std::string_view name) {
  const auto found = std::find_if(Kinds().begin(), Kinds().end(), [&](const auto& kind) { return kind.name == name; });
  return found == Kinds().end() ? nullptr : &*found;
}

std::vector<std::string> MetricNames() {
  std::vector<std::string> names;
  for (const MetricKind& kind : Kinds()) names.emplace_back(kind.name);
  return names;
}

std::vector<std::string> AggregationNames() {
  return {"mean", "perplexity", "weighted_perplexity", "bits_per_byte", "best_threshold"};
}

size_t ArgMax(std::span<const double> values) {
  return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

double AggregateValues(std::string_view aggregation, Values values) {
  GS_CHECK(!values.empty());
  if (aggregation == "mean") return Mean(values);
  if (aggregation == "perplexity") return std::exp(-Mean(values));
  if (aggregation == "weighted_perplexity") return std::exp(-WeightedMean(values));
  if (aggregation == "best_threshold") return BestThreshold(values);
  GS_CHECK(aggregation == "bits_per_byte");
  return -WeightedMean(values) / std::log(2.0);
}

std::optional<double> StandardError(std::string_view aggregation, Values values) {
  const size_t n = values.size();
  if (n < 2) return std::nullopt;
  std::vector<double> numbers;
  if (aggregation == "mean") {
    for (const MetricValue& v : values) numbers.push_back(v.value);
    return SampleDeviation(numbers) / std::sqrt(static_cast<double>(n));
  }
  if (aggregation != "perplexity") return std::nullopt;
  PythonRandom random(0);
  for (int round = 0; round < kBootstrapResamples; ++round) {
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += values[random.Choice(n)].value;
    numbers.push_back(std::exp(-sum / static_cast<double>(n)));
  }
  return SampleDeviation(numbers);
}

PartResult MicroAverage(std::span<const PartResult> parts) {
  GS_CHECK(!parts.empty());
  PartResult all;
  double variance = 0;
  bool known = true;
  for (const PartResult& part : parts) {
    const auto n = static_cast<double>(part.count);
    all.value += part.value * n;
    all.count += part.count;
    if (part.standard_error) variance += (n - 1) * *part.standard_error * *part.standard_error * n;
    known = known && part.standard_error.has_value();
  }
  const auto n = static_cast<double>(all.count);
  all.value /= n;
  if (known) all.standard_error = std::sqrt(variance / (n - static_cast<double>(parts.size())) / n);
  return all;
}

PartResult MacroAverage(std::span<const PartResult> parts) {
  GS_CHECK(!parts.empty());
  PartResult all;
  double variance = 0;
  bool known = true;
  for (const PartResult& part : parts) {
    all.value += part.value;
    all.count += part.count;
    if (part.standard_error) variance += *part.standard_error * *part.standard_error;
    known = known && part.standard_error.has_value();
  }
  const auto k = static_cast<double>(parts.size());
  all.value /= k;
  if (known) all.standard_error = std::sqrt(variance) / k;
  return all;
}

}  // namespace gateskip
