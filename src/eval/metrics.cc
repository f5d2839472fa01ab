// SPDX-License-Identifier: Apache-2.0
#include "eval/metrics.h"

#include <re2/re2.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/check.h"

namespace gateskip {
namespace {

constexpr std::string_view kPunctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";  // Python's string.punctuation

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return lower;
}

std::string WithoutPunctuation(std::string_view text) {
  std::string kept;
  for (const char c : text) {
    if (kPunctuation.find(c) == std::string_view::npos) kept += c;
  }
  return kept;
}

std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  for (const char c : text) {
    if (c == ' ' || (c >= '\t' && c <= '\r')) {
      if (!word.empty()) words.push_back(std::move(word));
      word.clear();
    } else {
      word += c;
    }
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

std::string Strip(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\r\v\f";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(kSpace) - first + 1));
}

RE2::Options QuietOptions() {
  RE2::Options options;
  options.set_log_errors(false);
  return options;
}

void CheckPattern(const RE2& pattern) {
  if (pattern.ok()) return;
  Fail(ErrorCode::kInvalidArgument,
       "[task] regular expression: expected RE2's syntax, found '{}': {}; correct the task", pattern.pattern(),
       pattern.error());
}

// Python's re.findall(pattern, text)[select], stripped: of several groups the first that is not empty.
std::string RegexFilter(const FilterStep& step, std::string_view text) {
  const RE2 pattern(step.pattern, QuietOptions());
  CheckPattern(pattern);
  const int groups = pattern.NumberOfCapturingGroups();
  std::vector<re2::StringPiece> parts(static_cast<size_t>(groups) + 1);
  std::vector<std::string> matches;
  const re2::StringPiece whole(text.data(), text.size());
  size_t at = 0;
  while (at <= text.size() && pattern.Match(whole, at, text.size(), RE2::UNANCHORED, parts.data(), groups + 1)) {
    std::string match(parts[0]);
    if (groups >= 1) {
      match.clear();
      for (int g = 1; g <= groups && match.empty(); ++g) match = std::string(parts[static_cast<size_t>(g)]);
      if (match.empty() && groups > 1) match = step.fallback;
    }
    matches.push_back(std::move(match));
    const auto end = static_cast<size_t>(parts[0].data() - text.data()) + parts[0].size();
    at = parts[0].empty() ? end + 1 : end;
  }
  const auto n = static_cast<int>(matches.size());
  const int index = step.group_select < 0 ? n + step.group_select : step.group_select;
  return index >= 0 && index < n ? Strip(matches[static_cast<size_t>(index)]) : step.fallback;
}

std::map<std::string, int> Bag(const std::vector<std::string>& words) {
  std::map<std::string, int> bag;
  for (const std::string& word : words) ++bag[word];
  return bag;
}

double TokenF1(const std::string& prediction, const std::string& reference) {
  const std::vector<std::string> got = Words(prediction);
  const std::vector<std::string> gold = Words(reference);
  if (got.empty() || gold.empty()) return got == gold ? 1.0 : 0.0;
  const std::map<std::string, int> gold_bag = Bag(gold);
  int same = 0;
  for (const auto& [word, count] : Bag(got)) {
    const auto found = gold_bag.find(word);
    if (found != gold_bag.end()) same += std::min(count, found->second);
  }
  if (same == 0) return 0.0;
  const double precision = static_cast<double>(same) / static_cast<double>(got.size());
  const double recall = static_cast<double>(same) / static_cast<double>(gold.size());
  return 2 * precision * recall / (precision + recall);
}

// The references that count: those with something left, or "no answer".
std::vector<std::string> Golds(const std::vector<std::string>& references) {
  std::vector<std::string> golds;
  for (const std::string& reference : references) {
    std::string normal = NormalizeAnswer(reference);
    if (!normal.empty()) golds.push_back(std::move(normal));
  }
  if (golds.empty()) golds.emplace_back();
  return golds;
}

}  // namespace

std::vector<std::string> MetricNames(OutputType output) {
  switch (output) {
    case OutputType::kLoglikelihood:
      return {"perplexity", "acc"};
    case OutputType::kLoglikelihoodRolling:
      return {"word_perplexity", "byte_perplexity", "bits_per_byte"};
    case OutputType::kMultipleChoice:
      return {"acc", "acc_norm", "acc_bytes", "exact_match"};
    case OutputType::kGenerateUntil:
      return {"exact_match", "exact", "f1", "HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1"};
  }
  return {};
}

bool HigherIsBetter(std::string_view metric) {
  return metric != "bits_per_byte" && metric.find("perplexity") == std::string_view::npos;
}

size_t CountCharacters(std::string_view text) {
  return static_cast<size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string ApplyFilter(const FilterSpec& filter, std::string_view text) {
  std::string result(text);
  for (const FilterStep& step : filter.steps) {
    switch (step.kind) {
      case FilterKind::kRegex:
        result = RegexFilter(step, result);
        break;
      case FilterKind::kTakeFirst:  // there is one generation
        break;
      case FilterKind::kRemoveWhitespace:
        result.erase(0, std::min(result.find_first_not_of(" \t\n\r\v\f"), result.size()));
        break;
      case FilterKind::kLowercase:
        result = Lower(result);
        break;
    }
  }
  return result;
}

double ExactMatch(const MetricSpec& spec, std::string_view prediction, std::string_view reference) {
  std::string a(prediction);
  std::string b(reference);
  for (const std::string& text : spec.regexes_to_ignore) {
    const RE2 pattern(text, QuietOptions());
    CheckPattern(pattern);
    RE2::GlobalReplace(&a, pattern, "");
    RE2::GlobalReplace(&b, pattern, "");
  }
  if (spec.ignore_case) {
    a = Lower(a);
    b = Lower(b);
  }
  if (spec.ignore_punctuation) {
    a = WithoutPunctuation(a);
    b = WithoutPunctuation(b);
  }
  return a == b ? 1.0 : 0.0;
}

std::string NormalizeAnswer(std::string_view text) {
  std::string normal;
  for (const std::string& word : Words(WithoutPunctuation(Lower(text)))) {
    if (word == "a" || word == "an" || word == "the") continue;
    if (!normal.empty()) normal += ' ';
    normal += word;
  }
  return normal;
}

double SquadExact(std::string_view prediction, const std::vector<std::string>& references) {
  const std::string got = NormalizeAnswer(prediction);
  return std::ranges::any_of(Golds(references), [&](const std::string& gold) { return gold == got; }) ? 1.0 : 0.0;
}

double SquadF1(std::string_view prediction, const std::vector<std::string>& references) {
  const std::string got = NormalizeAnswer(prediction);
  double best = 0;
  for (const std::string& gold : Golds(references)) best = std::max(best, TokenF1(got, gold));
  return best;
}

MetricResult AggregateMetric(std::string_view metric, std::span<const MetricValue> values) {
  MetricResult result;
  result.metric = std::string(metric);
  result.higher_is_better = HigherIsBetter(metric);
  result.count = static_cast<int64_t>(values.size());
  if (values.empty()) return result;
  const auto n = static_cast<double>(values.size());
  double sum = 0;
  double weight = 0;
  for (const MetricValue& v : values) {
    sum += v.value;
    weight += v.weight;
  }
  if (metric == "word_perplexity" || metric == "byte_perplexity") {
    result.value = std::exp(-sum / weight);
    return result;
  }
  if (metric == "bits_per_byte") {
    result.value = -sum / weight / std::log(2.0);
    return result;
  }
  const double mean = sum / n;
  double squares = 0;
  for (const MetricValue& v : values) squares += (v.value - mean) * (v.value - mean);
  const bool is_perplexity = metric == "perplexity";
  result.value = is_perplexity ? std::exp(-mean) : mean;
  if (values.size() > 1) {
    const double error = std::sqrt(squares / (n - 1)) / std::sqrt(n);
    result.standard_error = is_perplexity ? result.value * error : error;
  }
  return result;
}

}  // namespace gateskip
