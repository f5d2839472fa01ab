// SPDX-License-Identifier: Apache-2.0
#include "eval/task.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/sha256.h"
#include "eval/answer_filter.h"
#include "eval/data_reader.h"
#include "eval/doc_renderer.h"
#include "eval/process_docs.h"
#include "eval/text_match.h"
#include "text/utf8.h"

namespace gateskip {
namespace {

using nlohmann::json;

// An instance with what its score needs.
struct Loaded {
  EvalInstance instance;
  Doc doc;
  std::vector<size_t> right;            // multiple_choice
  std::vector<std::string> choices;     // multiple_choice
  std::vector<std::string> targets;     // the right answers as texts
  std::vector<std::string> references;  // SQuAD
  double words = 0;                     // rolling
  double bytes = 0;
};

constexpr const char* kNoAnswer = " unanswerable";  // its likelihood is the harness's probability of no answer

// Whether the answer counts only where "no answer" is unlikely enough.
bool TakesThreshold(const MetricSpec& metric) { return metric.metric.starts_with("best_"); }

bool IsSquad(const MetricSpec& metric) {
  return metric.metric == "exact" || metric.metric == "f1" || metric.metric.starts_with("HasAns_") ||
         metric.metric.starts_with("NoAns_") || TakesThreshold(metric);
}

// SQuAD's numbers are percents; a question with answers has no NoAns score, and the other way round. With a threshold
// any text at all is a wrong answer to a question without answers.
std::optional<MetricValue> SquadValue(const MetricSpec& metric, const std::string& answer,
                                      const std::vector<std::string>& references, const EvalResponse& response) {
  const bool has_answer = !references.empty();
  if (metric.metric.starts_with(has_answer ? "NoAns_" : "HasAns_")) return std::nullopt;
  const SquadScore score = ScoreSquad(answer, references);
  MetricValue value = {.value = 100 * (metric.metric.ends_with("exact") ? score.exact : score.f1)};
  if (!TakesThreshold(metric)) return value;
  if (!has_answer) {
    value.value = answer.empty() ? 100 : 0;
    value.otherwise = 100;
  }
  value.weight = std::exp(response.log_likelihoods[0]);
  return value;
}

std::string MetricName(const MetricSpec& metric, const FilterSpec& filter) {
  return filter.name == "none" ? metric.metric : metric.metric + "," + filter.name;
}

}  // namespace

struct Task::Impl {
  TaskSpec spec;
  int num_fewshot = 0;
  std::vector<Loaded> loaded;
  std::vector<AnswerFilter> filters;
  std::vector<ExactMatchOptions> exact_match;            // per metric
  std::map<std::string, std::pair<double, int>> chance;  // of a subset, "" of all: sum over instances, and how many
  Sha256 digest;                                         // of what was read
  std::string data_sha256;

  void LoadFile(const DocRenderer& renderer, const DataFile& file, const TaskOptions& options);
  void Add(const DocRenderer& renderer, const Doc& doc, const std::string& examples);
  // Nothing where the metric says nothing of this instance.
  std::optional<MetricValue> Value(const Loaded& one, const EvalResponse& response, const MetricSpec& metric,
                                   const ExactMatchOptions& exact_match_options, const std::string& answer) const;
  std::optional<double> Chance(const std::string& metric, const std::string& subset) const;
  MetricResult Result(const MetricSpec& metric, const std::string& name, std::span<const MetricValue> values) const;
};

void Task::Impl::Add(const DocRenderer& renderer, const Doc& doc, const std::string& examples) {
  const DocVariables variables(doc);
  const RenderedDoc rendered = renderer.Render(variables);
  Loaded one;
  one.instance.document = doc.index;
  one.instance.subset = doc.subset;
  const std::string before = renderer.Description(variables) + examples;
  const std::string target =
      rendered.target.is_array() ? std::string() : renderer.Targets(rendered, doc.origin).front();
  switch (spec.output_type) {
    case OutputType::kLoglikelihood:
      one.instance.requests = {{before + rendered.text, target}};
      one.targets = {target};
      break;
    case OutputType::kLoglikelihoodRolling: {
      one.instance.requests = {{"", target}};
      const std::string counted = renderer.Counted(variables);
      one.words = static_cast<double>(CountWords(counted));
      one.bytes = static_cast<double>(counted.size());
      break;
    }
    case OutputType::kMultipleChoice: {
      one.right = renderer.RightChoices(rendered, doc.origin);
      one.choices = rendered.choices;
      for (const size_t i : one.right) one.targets.push_back(rendered.choices[i]);
      for (const std::string& choice : rendered.choices) {
        if (rendered.right_text) {  // the choices are the texts, and what follows is the same
          one.instance.requests.push_back({before + choice, spec.target_delimiter + target});
        } else {
          one.instance.requests.push_back({before + rendered.text, spec.target_delimiter + choice});
        }
      }
      const double guess = static_cast<double>(one.right.size()) / static_cast<double>(one.choices.size());
      for (const std::string& subset : {std::string(), doc.subset}) {
        auto& [sum, count] = chance[subset];
        sum += guess;
        ++count;
        if (doc.subset.empty()) break;
      }
      break;
    }
    case OutputType::kGenerateUntil:
      one.instance.requests = {{before + rendered.text, ""}};
      if (std::any_of(spec.metrics.begin(), spec.metrics.end(), TakesThreshold)) {
        one.instance.requests.push_back({before + rendered.text, kNoAnswer});
      }
      one.targets = renderer.Targets(rendered, doc.origin);
      break;
  }
  if (std::any_of(spec.metrics.begin(), spec.metrics.end(), IsSquad)) one.references = renderer.References(variables);
  for (const EvalRequest& request : one.instance.requests) {
    if (!request.continuation.empty() || spec.output_type == OutputType::kGenerateUntil) continue;
    Fail(ErrorCode::kInvalidArgument,
         "[{}] doc_to_target: expected a text to score, found an empty one; change the task or the data", doc.origin);
  }
  one.doc = doc;
  loaded.push_back(std::move(one));
}

void Task::Impl::LoadFile(const DocRenderer& renderer, const DataFile& file, const TaskOptions& options) {
  const std::vector<Doc> docs = ProcessRecords(spec.process_docs, ReadDocs(spec.data, file, &digest));
  std::optional<FewshotSource> fewshot;
  if (num_fewshot > 0) {
    const bool own_file = spec.data.fewshot_files.empty() && options.fewshot_path.empty();
    std::vector<Doc> candidates = docs;
    if (!own_file) {
      const DataFile from = FindFewshotFile(spec.data, options.data_path, file, options.fewshot_path);
      candidates = ProcessRecords(spec.process_docs, ReadDocs(spec.data, from, &digest));
    }
    fewshot.emplace(renderer, std::move(candidates), spec.fewshot_sampler, own_file || spec.fewshot_excludes_document,
                    num_fewshot, options.seed);
  }
  for (const Doc& doc : docs) {
    if (options.limit > 0 && doc.index >= options.limit) break;
    Add(renderer, doc, fewshot ? fewshot->Examples(doc) : std::string());
  }
}

std::unique_ptr<Task> Task::Load(const TaskSpec& spec, const TaskOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->spec = spec;
  impl->num_fewshot = options.num_fewshot.value_or(spec.num_fewshot);
  const bool rolling = spec.output_type == OutputType::kLoglikelihoodRolling;
  if (options.limit < 0 || impl->num_fewshot < 0 || (rolling && impl->num_fewshot > 0)) {
    Fail(ErrorCode::kInvalidArgument, "[{}] limit and num_fewshot: expected {}, found {} and {}; correct them",
         spec.name, rolling ? "0 or more, and 0 for a rolling task" : "0 or more", options.limit, impl->num_fewshot);
  }
  for (const FilterSpec& filter : spec.filters) impl->filters.emplace_back(filter, spec.origin);
  for (const MetricSpec& metric : spec.metrics) {
    ExactMatchOptions match = {{}, metric.ignore_case, metric.ignore_punctuation, metric.ignore_numbers};
    for (const std::string& pattern : metric.regexes_to_ignore) {
      match.regexes_to_ignore.push_back(CompilePattern(pattern, spec.origin, "regexes_to_ignore"));
    }
    impl->exact_match.push_back(std::move(match));
  }
  const DocRenderer renderer(spec);
  for (const DataFile& file : FindDataFiles(spec.data, options.data_path)) impl->LoadFile(renderer, file, options);
  impl->data_sha256 = impl->digest.HexDigest();
  // So that a task with a smaller limit is the beginning of the same with a larger one.
  std::stable_sort(impl->loaded.begin(), impl->loaded.end(),
                   [](const Loaded& a, const Loaded& b) { return a.instance.document < b.instance.document; });
  return std::unique_ptr<Task>(new Task(std::move(impl)));
}

Task::Task(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Task::~Task() = default;
const TaskSpec& Task::spec() const { return impl_->spec; }
int Task::num_fewshot() const { return impl_->num_fewshot; }
size_t Task::size() const { return impl_->loaded.size(); }
const EvalInstance& Task::instance(size_t i) const {
  GS_CHECK(i < size());
  return impl_->loaded[i].instance;
}

std::optional<MetricValue> Task::Impl::Value(const Loaded& one, const EvalResponse& response, const MetricSpec& metric,
                                             const ExactMatchOptions& exact_match_options,
                                             const std::string& answer) const {
  const auto hit = [](bool is_right) { return MetricValue{.value = is_right ? 1.0 : 0.0}; };
  const auto right = [&](size_t i) { return std::find(one.right.begin(), one.right.end(), i) != one.right.end(); };
  const auto likeliest = [&](auto length) {
    std::vector<double> scores = response.log_likelihoods;
    for (size_t i = 0; i < scores.size(); ++i) scores[i] /= static_cast<double>(length(one.choices[i]));
    return hit(right(ArgMax(scores)));
  };
  switch (spec.output_type) {
    case OutputType::kLoglikelihood:
      if (metric.metric == "perplexity") return MetricValue{.value = response.log_likelihoods[0]};
      return hit(response.is_greedy[0] != 0);
    case OutputType::kLoglikelihoodRolling:
      return MetricValue{.value = response.log_likelihoods[0],
                         .weight = metric.metric == "word_perplexity" ? one.words : one.bytes};
    case OutputType::kMultipleChoice:
      if (metric.metric == "acc") return likeliest([](const std::string&) { return size_t{1}; });
      if (metric.metric == "acc_norm") return likeliest(CountCodePoints);
      if (metric.metric == "acc_bytes") return likeliest([](const std::string& choice) { return choice.size(); });
      return hit(std::any_of(one.right.begin(), one.right.end(), [&](size_t i) { return response.is_greedy[i] != 0; }));
    case OutputType::kGenerateUntil:
      break;
  }
  if (IsSquad(metric)) return SquadValue(metric, answer, one.references, response);
  return hit(std::any_of(one.targets.begin(), one.targets.end(),
                         [&](const std::string& target) { return ExactMatch(answer, target, exact_match_options); }));
}

std::vector<MetricValue> Task::Score(size_t i, const EvalResponse& response) const {
  GS_CHECK(i < size());
  const Loaded& one = impl_->loaded[i];
  const TaskSpec& task = impl_->spec;
  const bool generates = task.output_type == OutputType::kGenerateUntil;
  const size_t scores = one.instance.requests.size() - (generates ? 1 : 0);
  const bool rolling = task.output_type == OutputType::kLoglikelihoodRolling;
  if (response.log_likelihoods.size() != scores || (!rolling && response.is_greedy.size() != scores)) {
    Fail(ErrorCode::kCorruptData, "[{}] answer {}: expected scores of {} requests, found {} and {}; run it again",
         task.name, i, scores, response.log_likelihoods.size(), response.is_greedy.size());
  }
  std::vector<MetricValue> values;
  for (size_t f = 0; f < task.filters.size(); ++f) {
    const std::string answer = generates ? impl_->filters[f].Apply(response.text) : std::string();
    for (size_t m = 0; m < task.metrics.size(); ++m) {
      std::optional<MetricValue> value = impl_->Value(one, response, task.metrics[m], impl_->exact_match[m], answer);
      if (!value) continue;
      value->metric = MetricName(task.metrics[m], task.filters[f]);
      values.push_back(*value);
      if (one.doc.subset.empty()) continue;
      value->metric += ":" + one.doc.subset;
      values.push_back(*std::move(value));
    }
  }
  return values;
}

// The mean over the instances of a subset, or of all for "".
std::optional<double> Task::Impl::Chance(const std::string& metric, const std::string& subset) const {
  const bool guessed = metric == "acc" || metric == "acc_norm" || metric == "acc_bytes";
  const auto found = chance.find(subset);
  if (!guessed || found == chance.end()) return std::nullopt;
  return found->second.first / found->second.second;
}

MetricResult Task::Impl::Result(const MetricSpec& metric, const std::string& name,
                                std::span<const MetricValue> values) const {
  MetricResult result;
  result.metric = name;
  result.value = AggregateValues(metric.aggregation, values);
  result.standard_error = StandardError(metric.aggregation, values);
  result.count = static_cast<int64_t>(values.size());
  result.higher_is_better = metric.higher_is_better;
  return result;
}

std::vector<MetricResult> Task::Aggregate(std::span<const std::vector<MetricValue>> scored) const {
  std::map<std::string, std::vector<MetricValue>> values;
  for (const std::vector<MetricValue>& instance : scored) {
    for (const MetricValue& value : instance) values[value.metric].push_back(value);
  }
  std::vector<MetricResult> results;
  for (const FilterSpec& filter : impl_->spec.filters) {
    for (const MetricSpec& metric : impl_->spec.metrics) {
      const std::string name = MetricName(metric, filter);
      if (!values.contains(name)) continue;
      MetricResult all = impl_->Result(metric, name, values[name]);
      all.chance = impl_->Chance(metric.metric, "");
      std::vector<MetricResult> subsets;
      std::vector<PartResult> parts;
      double chances = 0;
      for (auto part = values.lower_bound(name + ":"); part != values.end(); ++part) {
        if (!part->first.starts_with(name + ":")) break;
        subsets.push_back(impl_->Result(metric, part->first, part->second));
        subsets.back().chance = impl_->Chance(metric.metric, part->first.substr(name.size() + 1));
        chances += subsets.back().chance.value_or(0);
        parts.push_back({subsets.back().value, subsets.back().standard_error, subsets.back().count});
      }
      if (parts.size() < 2 || metric.aggregation != "mean") {
        results.push_back(std::move(all));
        continue;
      }
      all.standard_error = MicroAverage(parts).standard_error;
      const PartResult plain = MacroAverage(parts);
      MetricResult macro = all;
      macro.metric = name + "_macro";
      macro.value = plain.value;
      macro.standard_error = plain.standard_error;
      if (macro.chance) macro.chance = chances / static_cast<double>(parts.size());
      results.push_back(std::move(all));
      results.push_back(std::move(macro));
      std::move(subsets.begin(), subsets.end(), std::back_inserter(results));
    }
  }
  return results;
}

json Task::SampleRecord(size_t i, const EvalResponse& response) const {
  const std::vector<MetricValue> values = Score(i, response);
  const Loaded& one = impl_->loaded[i];
  // A stop in the middle of a character leaves bytes that JSON does not take.
  const auto readable = [](const std::string& text) { return ReadableText(text, text.size() * 3); };
  json record = {{"task", impl_->spec.name}, {"doc_id", one.instance.document}, {"doc", one.doc.record}};
  if (!one.instance.subset.empty()) record["subset"] = one.instance.subset;
  if (!one.targets.empty()) record["target"] = one.targets.size() == 1 ? json(one.targets[0]) : json(one.targets);
  json requests = json::array();
  for (const EvalRequest& request : one.instance.requests) {
    requests.push_back({{"context", request.context}, {"continuation", request.continuation}});
  }
  record["requests"] = std::move(requests);
  if (impl_->spec.output_type == OutputType::kGenerateUntil) {
    record["response"] = readable(response.text);
    json answers = json::object();
    for (const AnswerFilter& filter : impl_->filters) answers[filter.name()] = readable(filter.Apply(response.text));
    record["filtered"] = std::move(answers);
  }
  if (!response.log_likelihoods.empty()) {
    record["log_likelihoods"] = response.log_likelihoods;
    record["is_greedy"] = response.is_greedy;
  }
  json metrics = json::object();
  for (const MetricValue& value : values) {
    if (value.metric.find(':') != std::string::npos) continue;
    metrics[value.metric] = value.weight == 1 ? json(value.value) : json({value.value, value.weight});
  }
  record["metrics"] = std::move(metrics);
  return record;
}

const std::string& Task::DataSha256() const { return impl_->data_sha256; }

}  // namespace gateskip
