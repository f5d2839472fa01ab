// SPDX-License-Identifier: Apache-2.0
#include "eval/task.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "base/check.h"
#include "eval/dataset.h"
#include "text/template_interpreter.h"
#include "text/template_json.h"
#include "text/template_parser.h"

namespace gateskip {
namespace {

using Json = nlohmann::json;

// A document's columns as template variables.
class Columns {
 public:
  explicit Columns(const Json& document) : document_(document) {
    const jinja::Value value = jinja::FromJson(document.dump(), &budget_);
    for (const auto& [name, column] : value.AsDict().entries) variables_.emplace_back(name.AsString(), column);
  }

  std::string Render(const jinja::Template& parsed) { return jinja::RenderTemplate(parsed, variables_, &budget_); }
  const Json& document() const { return document_; }

 private:
  jinja::Budget budget_{5'000'000, size_t{64} << 20, 64};
  const Json& document_;
  std::vector<std::pair<std::string, jinja::Value>> variables_;
};

// A template, or the name of a column.
class Field {
 public:
  explicit Field(const std::string& source) : source_(source), parsed_(jinja::Parse(source)) {}

  std::string Text(Columns& columns) const {
    const Json* column = Column(columns);
    if (column == nullptr) return columns.Render(parsed_);
    if (column->is_string()) return column->get<std::string>();
    return column->is_boolean() ? std::string(column->get<bool>() ? "1" : "0") : column->dump();
  }
  // The column it names, if there is one.
  const Json* Column(const Columns& columns) const {
    const auto found = columns.document().find(source_);
    return found == columns.document().end() ? nullptr : &*found;
  }

 private:
  std::string source_;
  jinja::Template parsed_;
};

// Everything of a document, rendered.
struct Rendered {
  std::string text;
  std::string target;                // what a right answer says
  std::vector<std::string> choices;  // multiple choice
  size_t gold = 0;
  std::vector<std::string> references;  // SQuAD's answers
};

class Renderer {
 public:
  explicit Renderer(const TaskSpec& spec)
      : spec_(spec), text_(spec.doc_to_text), target_(spec.doc_to_target), continuation_(spec.continuation) {
    for (const std::string& choice : spec.doc_to_choice) choices_.emplace_back(choice);
  }

  Rendered Render(const Json& document, const std::string& where) const {
    Columns columns(document);
    Rendered rendered;
    rendered.text = text_.Text(columns);
    rendered.target = target_.Text(columns);
    if (const auto answers = document.find("answers"); answers != document.end() && answers->is_array()) {
      for (const Json& answer : *answers) {
        if (answer.is_string()) rendered.references.push_back(answer.get<std::string>());
      }
    }
    if (spec_.output_type != OutputType::kMultipleChoice) return rendered;
    for (const Field& choice : choices_) {
      const Json* column = choices_.size() == 1 ? choice.Column(columns) : nullptr;
      if (column == nullptr || !column->is_array()) {
        rendered.choices.push_back(choice.Text(columns));
        continue;
      }
      for (const Json& item : *column)
        rendered.choices.push_back(item.is_string() ? item.get<std::string>() : item.dump());
    }
    rendered.gold = Gold(rendered, where);
    rendered.target = spec_.multiple_inputs ? continuation_.Text(columns) : rendered.choices[rendered.gold];
    return rendered;
  }

 private:
  // The target is an index, or one of the choices.
  static size_t Gold(const Rendered& rendered, const std::string& where) {
    const std::string& target = rendered.target;
    const auto same = std::ranges::find(rendered.choices, target);
    if (same != rendered.choices.end()) return static_cast<size_t>(same - rendered.choices.begin());
    if (!target.empty() && target.size() < 4 && target.find_first_not_of("0123456789") == std::string::npos) {
      size_t index = 0;
      for (const char c : target) index = index * 10 + static_cast<size_t>(c - '0');
      if (index < rendered.choices.size()) return index;
    }
    Fail(ErrorCode::kInvalidArgument,
         "[{}] right choice: expected an index below {} or one of the choices, found '{}'; "
         "use the data set's own files",
         where, rendered.choices.size(), target.substr(0, 64));
  }

  const TaskSpec& spec_;
  Field text_, target_, continuation_;
  std::vector<Field> choices_;
};

// Python's len(re.split(r"\s+", text)).
size_t CountSplitWords(std::string_view text) {
  size_t words = 1;
  bool in_space = false;
  for (const char c : text) {
    const bool space = c == ' ' || (c >= '\t' && c <= '\r');
    if (space && !in_space) ++words;
    in_space = space;
  }
  return words;
}

size_t ArgMax(std::span<const double> values) {
  return static_cast<size_t>(std::ranges::max_element(values) - values.begin());
}

}  // namespace

struct Task::Impl {
  TaskSpec spec;
  int num_fewshot = 0;
  Dataset data;
  std::vector<Rendered> rendered;
  std::vector<EvalInstance> instances;

  void Render(const TaskOptions& options);
  EvalInstance MakeInstance(size_t i, const std::string& shots) const;
  void ScoreChoices(const Rendered& rendered, const EvalResponse& response, std::vector<MetricValue>* scores) const;
  void ScoreText(const Rendered& rendered, const EvalResponse& response, std::vector<MetricValue>* scores) const;
};

namespace {

// The examples in front of one document: the file's first, or drawn without the document itself.
std::string Shots(const TaskSpec& spec, const std::vector<Rendered>& pool, const std::string& own_text, int count,
                  std::mt19937_64& random) {
  std::vector<size_t> order(pool.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::string shots;
  int taken = 0;
  for (size_t i = 0; i < order.size() && taken < count; ++i) {
    if (!spec.fewshot_first) std::swap(order[i], order[i + random() % (order.size() - i)]);
    const Rendered& shot = pool[order[i]];
    if (shot.text == own_text) continue;
    shots += shot.text + spec.target_delimiter + shot.target + spec.fewshot_delimiter;
    ++taken;
  }
  return shots;
}

}  // namespace

void Task::Impl::Render(const TaskOptions& options) {
  const Renderer renderer(spec);
  if (options.limit > 0 && data.documents.size() > static_cast<size_t>(options.limit)) {
    data.documents.resize(static_cast<size_t>(options.limit));
  }
  for (size_t i = 0; i < data.documents.size(); ++i) {
    rendered.push_back(renderer.Render(data.documents[i], fmt::format("{} document {}", spec.name, i)));
  }
  std::vector<Rendered> pool;
  if (num_fewshot > 0) {
    if (spec.data.fewshot_files.empty()) {
      Fail(ErrorCode::kInvalidArgument,
           "[{}] examples: expected 0, since the task names no file for them, found {}; pass --num-fewshot 0",
           spec.name, num_fewshot);
    }
    DataSpec shots = spec.data;
    shots.files = shots.fewshot_files;
    const Dataset examples = ReadDataset(shots, shots.fewshot_files, options.data_path);
    for (size_t i = 0; i < examples.documents.size(); ++i) {
      pool.push_back(renderer.Render(examples.documents[i], fmt::format("{} example {}", spec.name, i)));
    }
    data.sha256 += ":" + examples.sha256;
  }
  for (size_t i = 0; i < rendered.size(); ++i) {
    std::mt19937_64 random(options.seed * 0x9E3779B97F4A7C15ULL + i);
    instances.push_back(MakeInstance(i, Shots(spec, pool, rendered[i].text, num_fewshot, random)));
  }
}

EvalInstance Task::Impl::MakeInstance(size_t i, const std::string& shots) const {
  const Rendered& r = rendered[i];
  const std::string head = spec.description + shots;
  EvalInstance made;
  made.document = static_cast<int64_t>(i);
  switch (spec.output_type) {
    case OutputType::kMultipleChoice:
      for (const std::string& choice : r.choices) {
        if (spec.multiple_inputs) {
          made.requests.push_back({head + choice, spec.target_delimiter + r.target});
        } else {
          made.requests.push_back({head + r.text, spec.target_delimiter + choice});
        }
      }
      break;
    case OutputType::kLoglikelihood:
      made.requests.push_back({head + r.text, r.target});
      break;
    case OutputType::kLoglikelihoodRolling:
      made.requests.push_back({"", r.target});
      break;
    case OutputType::kGenerateUntil:
      made.requests.push_back({head + r.text, ""});
      break;
  }
  return made;
}

void Task::Impl::ScoreChoices(const Rendered& r, const EvalResponse& response, std::vector<MetricValue>* scores) const {
  const std::vector<double>& sums = response.log_likelihoods;
  std::vector<double> by_characters;
  std::vector<double> by_bytes;
  for (size_t c = 0; c < sums.size(); ++c) {
    by_characters.push_back(sums[c] / std::max<double>(1, static_cast<double>(CountCharacters(r.choices[c]))));
    by_bytes.push_back(sums[c] / std::max<double>(1, static_cast<double>(r.choices[c].size())));
  }
  for (const MetricSpec& metric : spec.metrics) {
    double value = 0;
    if (metric.metric == "acc") value = ArgMax(sums) == r.gold;
    if (metric.metric == "acc_norm") value = ArgMax(by_characters) == r.gold;
    if (metric.metric == "acc_bytes") value = ArgMax(by_bytes) == r.gold;
    if (metric.metric == "exact_match") value = response.is_greedy[r.gold];
    scores->push_back({metric.metric, value});
  }
}

void Task::Impl::ScoreText(const Rendered& r, const EvalResponse& response, std::vector<MetricValue>* scores) const {
  const bool has_answer =
      std::ranges::any_of(r.references, [](const std::string& a) { return !NormalizeAnswer(a).empty(); });
  for (const MetricSpec& metric : spec.metrics) {
    const std::string& name = metric.metric;
    if (name == "exact_match") {
      if (spec.filters.empty()) scores->push_back({name, ExactMatch(metric, response.text, r.target)});
      for (const FilterSpec& filter : spec.filters) {
        scores->push_back({name + "," + filter.name, ExactMatch(metric, ApplyFilter(filter, response.text), r.target)});
      }
      continue;
    }
    if (name.starts_with("HasAns_") && !has_answer) continue;
    if (name.starts_with("NoAns_") && has_answer) continue;
    const bool exact = name.ends_with("exact");
    // The harness reports SQuAD's in per cent.
    scores->push_back(
        {name, 100 * (exact ? SquadExact(response.text, r.references) : SquadF1(response.text, r.references))});
  }
}

Task::Task(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Task::~Task() = default;

std::unique_ptr<Task> Task::Load(const TaskSpec& spec, const TaskOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->spec = spec;
  impl->num_fewshot = options.num_fewshot.value_or(spec.num_fewshot);
  impl->data = ReadDataset(spec.data, spec.data.files, options.data_path);
  impl->Render(options);
  return std::unique_ptr<Task>(new Task(std::move(impl)));
}

const TaskSpec& Task::spec() const { return impl_->spec; }
int Task::num_fewshot() const { return impl_->num_fewshot; }
size_t Task::size() const { return impl_->instances.size(); }
const EvalInstance& Task::instance(size_t i) const { return impl_->instances[i]; }
const std::string& Task::data_sha256() const { return impl_->data.sha256; }

std::vector<MetricValue> Task::Score(size_t i, const EvalResponse& response) const {
  const Rendered& r = impl_->rendered[i];
  std::vector<MetricValue> scores;
  const auto sum = [&] { return response.log_likelihoods.empty() ? 0.0 : response.log_likelihoods[0]; };
  switch (spec().output_type) {
    case OutputType::kMultipleChoice:
      if (response.log_likelihoods.size() != r.choices.size() || response.is_greedy.size() != r.choices.size()) {
        Fail(ErrorCode::kCorruptData,
             "[{}] answer {}: expected one score for each of {} choices, found {}; run it again", spec().name, i,
             r.choices.size(), response.log_likelihoods.size());
      }
      impl_->ScoreChoices(r, response, &scores);
      break;
    case OutputType::kGenerateUntil:
      impl_->ScoreText(r, response, &scores);
      break;
    case OutputType::kLoglikelihood:
      for (const MetricSpec& metric : spec().metrics) {
        const bool greedy = !response.is_greedy.empty() && response.is_greedy[0] != 0;
        scores.push_back({metric.metric, metric.metric == "acc" ? (greedy ? 1.0 : 0.0) : sum()});
      }
      break;
    case OutputType::kLoglikelihoodRolling: {
      // Of the document as published, where there is one: the harness counts before it detokenises.
      const Json& document = impl_->data.documents[i];
      const auto page = document.find("page");
      const std::string text = page != document.end() && page->is_string() ? page->get<std::string>() : r.target;
      for (const MetricSpec& metric : spec().metrics) {
        const size_t weight = metric.metric == "word_perplexity" ? CountSplitWords(text) : text.size();
        scores.push_back({metric.metric, sum(), static_cast<double>(weight)});
      }
      break;
    }
  }
  return scores;
}

std::vector<MetricResult> Task::Aggregate(std::span<const std::vector<MetricValue>> scored) const {
  std::vector<std::string> names;  // in the order of the task file, filters in theirs
  for (const MetricSpec& metric : spec().metrics) {
    if (metric.metric == "exact_match" && spec().output_type == OutputType::kGenerateUntil && !spec().filters.empty()) {
      for (const FilterSpec& filter : spec().filters) names.push_back(metric.metric + "," + filter.name);
    } else {
      names.push_back(metric.metric);
    }
  }
  double chance = 0;
  for (const Rendered& r : impl_->rendered) {
    if (!r.choices.empty()) chance += 1.0 / static_cast<double>(r.choices.size());
  }
  std::vector<MetricResult> results;
  for (const std::string& name : names) {
    std::vector<MetricValue> values;
    for (const auto& scores : scored) {
      for (const MetricValue& value : scores) {
        if (value.metric == name) values.push_back(value);
      }
    }
    results.push_back(AggregateMetric(name, values));
    if (name.starts_with("acc") && spec().output_type == OutputType::kMultipleChoice) {
      results.back().chance = chance / static_cast<double>(impl_->rendered.size());
    }
  }
  return results;
}

Json Task::SampleRecord(size_t i, const EvalResponse& response) const {
  const Rendered& r = impl_->rendered[i];
  Json record = {{"document", instance(i).document}, {"target", r.target}};
  Json requests = Json::array();
  for (const EvalRequest& request : instance(i).requests) {
    requests.push_back({{"context", request.context}, {"continuation", request.continuation}});
  }
  record["requests"] = std::move(requests);
  for (const FilterSpec& filter : spec().filters) record["filtered"][filter.name] = ApplyFilter(filter, response.text);
  for (const MetricValue& value : Score(i, response)) record["metrics"][value.metric] = value.value;
  return record;
}

}  // namespace gateskip
