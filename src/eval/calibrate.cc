// SPDX-License-Identifier: Apache-2.0
#include "eval/calibrate.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/sha256.h"
#include "eval/token_windows.h"
#include "eval/window_runner.h"
#include "gate/threshold_search.h"
#include "io/adapter.h"
#include "runtime/loaded_model.h"
#include "runtime/self_test.h"

namespace gateskip {
namespace {

// A budget is met when the realised net saving is this close; skipping changes what later gates see, so the
// search alternates between running and re-deriving the threshold.
constexpr double kTolerance = 0.002;
constexpr int kMaxRounds = 5;
constexpr size_t kSelfTestTokens = 24;
constexpr double kSelfTestBudget = 0.25;

WindowOptions WindowsOf(const CalibrateOptions& options) {
  return {.max_tokens = options.max_tokens,
          .window = options.window,
          .per_document = options.document_windows,
          .pair_format = options.pair_format,
          .threads = options.threads};
}

size_t TokensOf(const TokenWindows& windows) {
  size_t tokens = 0;
  for (const std::vector<int32_t>& window : windows) tokens += window.size();
  return tokens;
}

std::string HashOf(const TokenWindows& windows) {
  Sha256 hash;
  for (const std::vector<int32_t>& window : windows) hash.Update(std::as_bytes(std::span<const int32_t>(window)));
  return hash.HexDigest();
}

class Calibrator {
 public:
  Calibrator(const LoadedModel& model, const TokenWindows& windows, int window)
      : model_(model), windows_(windows), runner_(model, window) {}

  struct Result {
    SkipCounts counts;
    RecordedRows rows;
  };

  // Runs all windows with one global threshold.
  Result Run(float threshold, const std::function<void(size_t)>& on_window) {
    const AdapterConfig& adapter = model_.transformer->adapter->config;
    SkipPlan plan;
    plan.kind = SkipPlan::Kind::kGates;
    plan.always_run_positions = adapter.always_run_positions;
    plan.thresholds = ThresholdRow(threshold);
    Result result{SkipCounts(model_.transformer->config.num_branches()), {}};
    for (const std::vector<int32_t>& window : windows_) {
      const Step& step = runner_.Run(window, plan);
      result.counts.Add(step.Counts(0, window.size()));
      std::vector<uint8_t> decided(step.events.size());
      std::ranges::transform(step.events, decided.begin(), [](uint8_t e) { return (e & kDecided) != 0 ? 1 : 0; });
      result.rows.Append(step.importances, decided, window.size());
      if (on_window) on_window(window.size());
    }
    return result;
  }

  std::vector<float> ThresholdRow(float threshold) const {
    const AdapterConfig& adapter = model_.transformer->adapter->config;
    std::vector<float> row(adapter.gated.size(), -1.0F);
    for (size_t b = 0; b < row.size(); ++b) {
      if (adapter.gated[b]) row[b] = threshold;
    }
    return row;
  }

 private:
  const LoadedModel& model_;
  const TokenWindows& windows_;
  WindowRunner runner_;
};

void CheckOptions(const CalibrateOptions& options) {
  if (options.text_paths.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[calibrate] text: expected at least one file, found none; pass -f");
  }
  if (options.window < 16 || options.window > 8192 || options.max_tokens < options.window) {
    Fail(ErrorCode::kInvalidArgument,
         "[calibrate] tokens: expected a window of 16 to 8192 tokens and at least one window, "
         "found a window of {} and {} tokens; change --window or --tokens",
         options.window, options.max_tokens);
  }
  double previous = 0.0;
  for (const double budget : options.budgets) {
    if (!(budget > previous && budget <= kMaxBudget)) {
      Fail(ErrorCode::kInvalidArgument,
           "[calibrate] budgets: expected ascending numbers in (0, {}], found {} after {}; "
           "change --budgets",
           kMaxBudget, budget, previous);
    }
    previous = budget;
  }
}

struct Search {
  CalibratedBudget found;
  Calibrator::Result result;
};

// Finds the threshold for one budget, starting from the rows recorded at the budget before. Rows recorded at a
// threshold say exactly what it saves and nearly what its neighbours would: each round is a Newton-like step.
Search FindBudget(Calibrator* calibrator, const CostModel& cost, KvRule rule, double budget,
                  Calibrator::Result previous, const std::function<void(size_t)>& on_window) {
  Search best{{budget, 0.0F, 0.0, 0.0}, std::move(previous)};
  Calibrator::Result current = best.result;
  for (int round = 0; round < kMaxRounds; ++round) {
    const float threshold = FindGlobalThreshold(cost, rule, current.rows, budget);
    current = calibrator->Run(threshold, on_window);
    const double net = cost.NetSaving(current.counts);
    if (round == 0 || std::fabs(net - budget) < std::fabs(best.found.net - budget)) {
      best = {{budget, threshold, CostModel::NominalSaving(current.counts), net}, current};
    }
    if (std::fabs(best.found.net - budget) <= kTolerance) break;
  }
  return best;
}

}  // namespace

std::vector<CalibratedBudget> Calibrate(const CalibrateOptions& options, const CalibrateProgress& progress) {
  CheckOptions(options);
  EngineOptions engine;
  engine.model_path = options.model_path;
  engine.adapter_path = options.adapter_path;
  engine.threads = options.threads;
  Adapter adapter = ReadAdapter(options.adapter_path);
  const std::unique_ptr<LoadedModel> model = LoadModel(engine);
  const TokenWindows windows = ReadWindows(*model->tokenizer, options.text_paths, WindowsOf(options));
  const CostModel& cost = model->adapter_cost;

  Calibrator calibrator(*model, windows, options.window);
  Calibrator::Result result = calibrator.Run(0.0F, nullptr);
  std::vector<CalibratedBudget> found;
  for (const double budget : options.budgets) {
    const std::string stage = fmt::format("budget {:.2f}", budget);
    size_t done = 0;
    const size_t total = TokensOf(windows) * 2;
    Search search =
        FindBudget(&calibrator, cost, adapter.config.kv_rule, budget, std::move(result), [&](size_t tokens) {
          done += tokens;
          if (progress) progress(stage, std::min(done, total), total);
        });
    if (std::fabs(search.found.net - budget) > 0.02) break;  // the gates cannot reach it
    found.push_back(search.found);
    result = std::move(search.result);
  }
  if (found.empty()) {
    Fail(ErrorCode::kMismatch,
         "[{}] gates: expected to reach a net saving of {}, found none reachable; train more gated "
         "branches",
         options.adapter_path, options.budgets.front());
  }

  AdapterConfig& config = adapter.config;
  config.budgets = {0.0};
  config.thresholds = {std::vector<float>(config.gated.size(), -1.0F)};
  config.realised_net_saving = {0.0};
  for (const CalibratedBudget& budget : found) {
    config.budgets.push_back(budget.requested);
    // Thresholds ascend with the budget, so that interpolation between grid points stays monotone.
    config.thresholds.push_back(calibrator.ThresholdRow(budget.threshold));
    config.realised_net_saving.push_back(budget.net);
  }
  config.calibration_sha256 = HashOf(windows);
  config.calibration_tokens = static_cast<int64_t>(TokensOf(windows));
  config.self_test = {};
  WriteAdapter(adapter, options.adapter_path, true);

  // The self-test's expectations come from the f32 path over the adapter as it is now on disk.
  if (progress) progress("self-test", 0, 1);
  engine.compute = ComputeType::kF32;
  const std::unique_ptr<LoadedModel> exact = LoadModel(engine);
  std::vector<int32_t> sample(
      windows[0].begin(), windows[0].begin() + static_cast<ptrdiff_t>(std::min(kSelfTestTokens, windows[0].size())));
  adapter = ReadAdapter(options.adapter_path);
  adapter.config.self_test =
      MakeSelfTest(*exact, std::move(sample), std::min(kSelfTestBudget, adapter.config.budgets.back()));
  WriteAdapter(adapter, options.adapter_path, true);
  if (progress) progress("self-test", 1, 1);
  return found;
}

}  // namespace gateskip
