// SPDX-License-Identifier: Apache-2.0
#include "analysis/gate_statistics.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>
#include <limits>
#include <numeric>
#include <tuple>

#include "base/check.h"
#include "eval/window_runner.h"

namespace gateskip {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr size_t kPositionBins = 32;
constexpr size_t kSurpriseBins = 10;
constexpr int kLargestWindow = 8192;

size_t KindIndex(size_t branch) { return branch % 2; }

// A mean of what is known.
struct Mean {
  double sum = 0;
  uint64_t count = 0;

  void Add(double value) {
    sum += value;
    ++count;
  }
  double value() const { return count > 0 ? sum / static_cast<double>(count) : kNaN; }
};

struct GroupSums {
  uint64_t rows = 0;
  std::array<Mean, 2> importance, skipped;
  Mean saving, own_nll, next_nll;

  RowGroup Finish(std::string name) const {
    RowGroup group;
    group.name = std::move(name);
    group.rows = rows;
    for (size_t k = 0; k < 2; ++k) {
      group.importance[k] = importance[k].value();
      group.skipped[k] = skipped[k].value();
    }
    group.saving = saving.value();
    group.own_nll = own_nll.value();
    group.next_nll = next_nll.value();
    return group;
  }
};

// 0, 1, 2-3, 4-7, ...: the number of bits.
size_t PositionGroup(size_t position) { return static_cast<size_t>(std::bit_width(position)); }

std::string PositionGroupName(size_t group, size_t window) {
  if (group < 2) return fmt::format("{}", group);
  const size_t first = size_t{1} << (group - 1);
  const size_t last = std::min(window - 1, 2 * first - 1);
  return first == last ? fmt::format("{}", first) : fmt::format("{}–{}", first, last);
}

// Everything that is counted over the rows of all windows.
class Tally {
 public:
  Tally(const AdapterConfig& adapter, const CostModel& cost, size_t window)
      : adapter_(adapter),
        cost_(cost),
        window_(window),
        counts_(static_cast<int>(adapter.gated.size())),
        importance_(adapter.gated.size()),
        squares_(adapter.gated.size()),
        first_(adapter.gated.size()),
        by_class_(adapter.gated.size()),
        positions_(PositionGroup(window - 1) + 1),
        along_(std::min(kPositionBins, window)) {}

  void Add(const Step& step, std::span<const TokenClass> classes, std::span<const float> log_probs) {
    const size_t rows = step.rows.size();
    counts_.Add(step.Counts(0, rows));
    for (size_t r = 0; r < rows; ++r) {
      GroupSums* const groups[] = {&classes_[static_cast<size_t>(classes[r])], &positions_[PositionGroup(r)]};
      AddBranches(step, r, static_cast<size_t>(classes[r]), groups);
      const double saving = cost_.NetSaving(step.Counts(r, r + 1));
      const double own = r > 0 ? -static_cast<double>(log_probs[r - 1]) : kNaN;
      const double next = r + 1 < rows ? -static_cast<double>(log_probs[r]) : kNaN;
      for (GroupSums* group : groups) {
        ++group->rows;
        group->saving.Add(saving);
        if (r > 0) group->own_nll.Add(own);
        if (r + 1 < rows) group->next_nll.Add(next);
      }
      if (r > 0) {
        nll_.Add(own);
        own_nll_.push_back(own);
        own_compute_.push_back(1 - saving);
      }
      if (r + 1 < rows) {
        next_nll_.push_back(next);
        next_compute_.push_back(1 - saving);
      }
    }
  }

  void Finish(GateStatistics* out) const {
    out->nominal = CostModel::NominalSaving(counts_);
    out->net = cost_.NetSaving(counts_);
    out->nll = nll_.value();
    for (size_t b = 0; b < importance_.size(); ++b) {
      BranchStatistics branch;
      branch.gated = adapter_.gated[b];
      branch.importance = importance_[b].value();
      branch.deviation = std::sqrt(std::max(0.0, squares_[b].value() - branch.importance * branch.importance));
      branch.first_importance = first_[b].value();
      branch.skipped = static_cast<double>(counts_.skipped[b]) / static_cast<double>(importance_[b].count);
      out->branches.push_back(branch);
      std::array<double, kNumTokenClasses> shares;
      for (size_t c = 0; c < kNumTokenClasses; ++c) shares[c] = by_class_[b][c].value();
      out->skipped_by_class.push_back(shares);
    }
    for (size_t c = 0; c < kNumTokenClasses; ++c) {
      out->classes.push_back(classes_[c].Finish(TokenClassName(static_cast<TokenClass>(c))));
    }
    for (size_t p = 0; p < positions_.size(); ++p) {
      out->positions.push_back(positions_[p].Finish(PositionGroupName(p, window_)));
    }
    for (const auto& bin : along_) out->skipped_along.push_back({bin[0].value(), bin[1].value()});
    out->by_own_nll = {Correlation(own_nll_, own_compute_), BinByNll(own_nll_, own_compute_, kSurpriseBins)};
    out->by_next_nll = {Correlation(next_nll_, next_compute_), BinByNll(next_nll_, next_compute_, kSurpriseBins)};
  }

 private:
  void AddBranches(const Step& step, size_t r, size_t token_class, std::span<GroupSums* const> groups) {
    const size_t rows = step.rows.size();
    for (size_t b = 0; b < importance_.size(); ++b) {
      const double s = step.importances[b * rows + r];
      const double skipped = (step.events[b * rows + r] & kRan) != 0 ? 0 : 1;
      importance_[b].Add(s);
      squares_[b].Add(s * s);
      if (r == 0) first_[b].Add(s);
      by_class_[b][token_class].Add(skipped);
      if (!adapter_.gated[b]) continue;
      for (GroupSums* group : groups) {
        group->importance[KindIndex(b)].Add(s);
        group->skipped[KindIndex(b)].Add(skipped);
      }
      along_[r * along_.size() / window_][KindIndex(b)].Add(skipped);
    }
  }

  const AdapterConfig& adapter_;
  const CostModel& cost_;
  const size_t window_;
  SkipCounts counts_;
  Mean nll_;
  std::vector<Mean> importance_, squares_, first_;            // [branches]
  std::vector<std::array<Mean, kNumTokenClasses>> by_class_;  // [branches] skips
  std::array<GroupSums, kNumTokenClasses> classes_;
  std::vector<GroupSums> positions_;
  std::vector<std::array<Mean, 2>> along_;
  std::vector<double> own_nll_, own_compute_, next_nll_, next_compute_;
};

std::vector<SampleToken> Sample(const LoadedModel& model, std::span<const int32_t> ids, const Step& step) {
  std::vector<SampleToken> sample;
  StreamDecoder decoder(model.tokenizer, /*special=*/true);
  for (size_t r = 0; r < ids.size(); ++r) {
    SampleToken token;
    token.text = decoder.Push(ids[r]);
    if (r + 1 == ids.size()) token.text += decoder.Finish();
    token.saving = model.adapter_cost.NetSaving(step.Counts(r, r + 1));
    for (int b = 0; b < model.adapter_cost.num_branches(); ++b) {
      token.ran.push_back((step.events[static_cast<size_t>(b) * step.rows.size() + r] & kRan) != 0);
    }
    sample.push_back(std::move(token));
  }
  return sample;
}

void CheckOptions(const GateStatisticsOptions& options) {
  if (options.text_paths.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[analyze] text: expected at least one file, found none; pass -f");
  }
  const auto& [max_tokens, window] = std::tie(options.windows.max_tokens, options.windows.window);
  if (window < 2 || window > kLargestWindow || max_tokens < window) {
    Fail(ErrorCode::kInvalidArgument,
         "[analyze] tokens: expected a window of 2 to {} tokens and at least one window, found a window of {} and {} "
         "tokens; change --context or --tokens",
         kLargestWindow, window, max_tokens);
  }
}

void CheckModel(const LoadedModel& model, const GateStatisticsOptions& options) {
  if (!model.transformer->adapter) {
    Fail(ErrorCode::kInvalidArgument, "[analyze] adapter: expected a model with gates, found none; pass --adapter");
  }
  if (options.windows.window > model.transformer->config.context_length) {
    Fail(ErrorCode::kInvalidArgument,
         "[analyze] window: expected at most the model's context of {} tokens, found {}; change --context",
         model.transformer->config.context_length, options.windows.window);
  }
}

// The windows of every file; those with nothing to predict are left out.
std::vector<TokenWindows> ReadTexts(const LoadedModel& model, const GateStatisticsOptions& options) {
  WindowOptions of_one = options.windows;
  of_one.max_tokens /= std::ssize(options.text_paths);
  of_one.threads = model.pool->num_threads();
  std::vector<TokenWindows> texts;
  for (const std::string& path : options.text_paths) {
    TokenWindows windows = ReadWindows(*model.tokenizer, {path}, of_one);
    std::erase_if(windows, [](const std::vector<int32_t>& window) { return window.size() < 2; });
    if (windows.empty()) {
      Fail(ErrorCode::kInvalidArgument, "[{}] text: expected a document of at least two tokens, found none", path);
    }
    texts.push_back(std::move(windows));
  }
  return texts;
}

// Net saving of the windows at every calibrated budget.
TextDrift MeasureDrift(const LoadedModel& model, const std::string& path, const TokenWindows& windows,
                       const std::vector<SkipPlanPtr>& plans, WindowRunner* runner,
                       const std::function<void(size_t tokens)>& on_window) {
  TextDrift drift;
  drift.path = path;
  for (const SkipPlanPtr& plan : plans) {
    SkipCounts counts(model.transformer->config.num_branches());
    drift.tokens = 0;
    for (const std::vector<int32_t>& window : windows) {
      counts.Add(runner->Run(window, *plan).Counts(0, window.size()));
      drift.tokens += window.size();
      on_window(window.size());
    }
    drift.net.push_back(model.adapter_cost.NetSaving(counts));
  }
  return drift;
}

}  // namespace

bool BranchStatistics::IsTokenWise() const { return gated && skipped >= kNearlyNever && skipped <= 1 - kNearlyNever; }

double GateStatistics::DepthCorrelation(BranchKind kind) const {
  std::vector<double> layers;
  std::vector<double> importances;
  for (size_t b = static_cast<size_t>(kind); b < branches.size(); b += 2) {
    if (!branches[b].gated) continue;
    layers.push_back(static_cast<double>(b - b % 2) / 2);
    importances.push_back(branches[b].importance);
  }
  return layers.size() < 3 ? kNaN : Correlation(layers, importances);
}

double Correlation(std::span<const double> x, std::span<const double> y) {
  GS_CHECK(x.size() == y.size());
  if (x.size() < 2) return kNaN;
  const double n = static_cast<double>(x.size());
  const double mean_x = std::accumulate(x.begin(), x.end(), 0.0) / n;
  const double mean_y = std::accumulate(y.begin(), y.end(), 0.0) / n;
  double xx = 0;
  double yy = 0;
  double xy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mean_x) * (x[i] - mean_x);
    yy += (y[i] - mean_y) * (y[i] - mean_y);
    xy += (x[i] - mean_x) * (y[i] - mean_y);
  }
  // What is constant but for rounding does not vary.
  const auto varies = [n](double squares, double mean) { return squares > 1e-24 * n * (1 + mean * mean); };
  return varies(xx, mean_x) && varies(yy, mean_y) ? xy / std::sqrt(xx * yy) : kNaN;
}

std::vector<SurpriseBin> BinByNll(std::span<const double> nll, std::span<const double> compute, size_t count) {
  GS_CHECK(nll.size() == compute.size());
  std::vector<size_t> order(nll.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, [&](size_t i) { return nll[i]; });
  count = std::min(count, order.size());
  std::vector<SurpriseBin> bins;
  for (size_t k = 0; k < count; ++k) {
    const size_t begin = k * order.size() / count;
    const size_t end = (k + 1) * order.size() / count;
    Mean x;
    Mean y;
    for (size_t i = begin; i < end; ++i) {
      x.Add(nll[order[i]]);
      y.Add(compute[order[i]]);
    }
    bins.push_back({x.value(), y.value()});
  }
  return bins;
}

GateStatistics MeasureGates(const GateStatisticsOptions& options, const GateProgress& progress) {
  CheckOptions(options);
  EngineOptions engine;
  engine.model_path = options.model_path;
  engine.adapter_path = options.adapter_path;
  engine.threads = options.threads;
  const std::unique_ptr<LoadedModel> model = LoadModel(engine);
  CheckModel(*model, options);
  const AdapterConfig& adapter = model->transformer->adapter->config;
  const SkipPlanPtr plan = GatesPlan(adapter, options.budget);

  GateStatistics statistics;
  statistics.model = model->transformer->config.name;
  statistics.adapter = std::filesystem::path(model->adapter_origin).lexically_normal().filename().string();
  statistics.requested = options.budget;
  statistics.always_run_positions = adapter.always_run_positions;
  const std::vector<TokenWindows> texts = ReadTexts(*model, options);
  for (const TokenWindows& windows : texts) {
    statistics.windows += windows.size();
    for (const std::vector<int32_t>& window : windows) {
      statistics.tokens += window.size();
      statistics.window = std::max(statistics.window, static_cast<int>(window.size()));
    }
  }

  WindowRunner runner(*model, statistics.window);
  size_t done = 0;
  const auto report = [&](const std::string& stage, size_t tokens, size_t total) {
    done += tokens;
    if (progress) progress(stage, done, total);
  };
  Tally tally(adapter, model->adapter_cost, static_cast<size_t>(statistics.window));
  std::vector<float> log_probs;
  for (const TokenWindows& windows : texts) {
    for (const std::vector<int32_t>& window : windows) {
      const Step& step = runner.Run(window, *plan, &log_probs);
      tally.Add(step, ClassifyTokens(*model->tokenizer, window), log_probs);
      if (statistics.sample.empty()) {
        const size_t shown = std::min(window.size(), static_cast<size_t>(std::max(0, options.sample_tokens)));
        statistics.sample = Sample(*model, std::span(window).first(shown), step);
      }
      report("gates", window.size(), statistics.tokens);
    }
  }
  tally.Finish(&statistics);

  std::vector<SkipPlanPtr> plans;
  for (const double budget : adapter.budgets) {
    if (budget <= 0) continue;
    statistics.budgets.push_back(budget);
    plans.push_back(GatesPlan(adapter, budget));
  }
  done = 0;
  for (size_t t = 0; t < texts.size(); ++t) {
    statistics.texts.push_back(
        MeasureDrift(*model, options.text_paths[t], texts[t], plans, &runner,
                     [&](size_t tokens) { report("budgets", tokens, statistics.tokens * plans.size()); }));
  }
  return statistics;
}

}  // namespace gateskip
