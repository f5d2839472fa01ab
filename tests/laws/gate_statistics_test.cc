// SPDX-License-Identifier: Apache-2.0
// The statistics against counts made the long way round: the engine's own scores and savings, and every row looked at
// once more.
#include "analysis/gate_statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>

#include "base/check.h"
#include "eval/window_runner.h"
#include "gateskip/engine.h"
#include "io/testing/temp_directory.h"
#include "support/tiny_model.h"

namespace gateskip::testing {
namespace {

constexpr int kWindow = 24;
constexpr double kBudget = 0.3;

class GateStatisticsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::vector<std::byte> bytes = TinyGguf({});
    options_.model_path = directory_.Write("tiny.gguf", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    options_.adapter_path = directory_ / "adapter";
    WriteAdapter(TinyAdapter(*OpenTiny(bytes), {.all_gated = false}), options_.adapter_path, /*half_precision=*/false);
    std::string text;
    for (int i = 0; i < 30; ++i) text += "The boat No. " + std::to_string(i * 37) + ", of Oslo, came\nback. ";
    options_.text_paths = {directory_.Write("a.txt", text), directory_.Write("b.txt", text.substr(9))};
    options_.budget = kBudget;
    options_.windows = {.max_tokens = 6 * kWindow, .window = kWindow};
    options_.threads = 2;
    options_.sample_tokens = 10;
    engine_.model_path = options_.model_path;
    engine_.adapter_path = options_.adapter_path;
    engine_.self_test = false;
    engine_.threads = 2;
  }

  std::vector<TokenWindows> Windows(const LoadedModel& model) const {
    std::vector<TokenWindows> texts;
    for (const std::string& path : options_.text_paths) {
      texts.push_back(ReadWindows(*model.tokenizer, {path}, {.max_tokens = 3 * kWindow, .window = kWindow}));
    }
    return texts;
  }

  GateStatistics Measure() const { return MeasureGates(options_, nullptr); }
  std::string Problem() const {
    try {
      Measure();
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }

  TempDirectory directory_;
  GateStatisticsOptions options_;
  EngineOptions engine_;
};

// One row, as the long way round sees it.
struct SeenRow {
  size_t position;
  TokenClass token_class;
  std::vector<double> importance;
  std::vector<bool> skipped;
  double saving;
  double own_nll = std::nan("");
  double next_nll = std::nan("");
};

template <typename Value, typename Wanted>
double MeanOf(const std::vector<SeenRow>& rows, const Wanted& wanted, const Value& value) {
  double sum = 0;
  int count = 0;
  for (const SeenRow& row : rows) {
    if (!wanted(row) || std::isnan(value(row))) continue;
    sum += value(row);
    ++count;
  }
  return count > 0 ? sum / count : std::nan("");
}

// Both sides sum the same few hundred numbers below 10, in another order.
void ExpectNear(double found, double expected, const std::string& what) {
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(found)) << what;
  } else {
    EXPECT_NEAR(found, expected, 1e-11) << what;
  }
}

TEST_F(GateStatisticsTest, AreThoseOfTheRows) {
  const GateStatistics s = Measure();
  const std::unique_ptr<LoadedModel> model = LoadModel(engine_);
  const std::unique_ptr<Engine> engine = Engine::Load(engine_);
  const AdapterConfig& adapter = model->transformer->adapter->config;
  const size_t branches = adapter.gated.size();
  const SkipPlanPtr plan = GatesPlan(adapter, kBudget);
  WindowRunner runner(*model, kWindow);
  std::vector<SeenRow> rows;
  for (const TokenWindows& windows : Windows(*model)) {
    ASSERT_EQ(windows.size(), 3U);
    for (const auto& window : windows) {
      const ScoreResult score = engine->Score(window, {.prefill = kBudget, .decode = kBudget});
      const Step& step = runner.Run(window, *plan);
      const std::vector<TokenClass> classes = ClassifyTokens(*model->tokenizer, window);
      for (size_t r = 0; r < window.size(); ++r) {
        SeenRow row{.position = r, .token_class = classes[r], .importance = {}, .skipped = {}, .saving = 0};
        std::vector<uint8_t> kept;
        for (size_t b = 0; b < branches; ++b) {
          row.importance.push_back(static_cast<double>(step.importances[b * window.size() + r]));
          row.skipped.push_back((step.events[b * window.size() + r] & kRan) == 0);
          kept.push_back(row.skipped.back() ? 0 : 1);
        }
        // The closed form counts every gate as evaluated; always-run positions evaluate none.
        row.saving = r >= static_cast<size_t>(adapter.always_run_positions)
                         ? model->adapter_cost.NetSaving(kept, adapter.kv_rule)
                         : model->adapter_cost.NetSaving(step.Counts(r, r + 1));
        if (r > 0) row.own_nll = -static_cast<double>(score.log_probs[r - 1]);
        if (r + 1 < window.size()) row.next_nll = -static_cast<double>(score.log_probs[r]);
        rows.push_back(std::move(row));
      }
    }
  }
  const auto any = [](const SeenRow&) { return true; };
  ASSERT_EQ(s.tokens, rows.size());
  EXPECT_EQ(s.windows, 6U);
  EXPECT_EQ(s.window, kWindow);
  ExpectNear(s.nll, MeanOf(rows, any, [](const SeenRow& r) { return r.own_nll; }), "nll");
  ExpectNear(s.net, MeanOf(rows, any, [](const SeenRow& r) { return r.saving; }), "net");

  ASSERT_EQ(s.branches.size(), branches);
  for (size_t b = 0; b < branches; ++b) {
    SCOPED_TRACE(b);
    EXPECT_EQ(s.branches[b].gated, b != 1);
    const auto importance = [b](const SeenRow& r) { return r.importance[b]; };
    const double mean = MeanOf(rows, any, importance);
    ExpectNear(s.branches[b].importance, mean, "importance");
    // A deviation is a root: 1e-11 beneath it is 4e-6 above.
    EXPECT_NEAR(
        s.branches[b].deviation,
        std::sqrt(MeanOf(rows, any, [&](const SeenRow& r) { return (importance(r) - mean) * (importance(r) - mean); })),
        4e-6);
    ExpectNear(s.branches[b].first_importance,
               MeanOf(
                   rows, [](const SeenRow& r) { return r.position == 0; }, importance),
               "first");
    const auto skipped = [b](const SeenRow& r) { return r.skipped[b] ? 1.0 : 0.0; };
    ExpectNear(s.branches[b].skipped, MeanOf(rows, any, skipped), "skipped");
    for (size_t c = 0; c < kNumTokenClasses; ++c) {
      ExpectNear(s.skipped_by_class[b][c],
                 MeanOf(
                     rows, [c](const SeenRow& r) { return r.token_class == static_cast<TokenClass>(c); }, skipped),
                 "skipped by class");
    }
  }
  EXPECT_GT(s.net, 0.1);  // or nothing above says much
  EXPECT_GT(std::ranges::count_if(s.branches, &BranchStatistics::IsTokenWise), 2);

  const auto expect_group = [&](const RowGroup& group, const auto& wanted) {
    SCOPED_TRACE(group.name);
    EXPECT_EQ(group.rows, static_cast<uint64_t>(std::ranges::count_if(rows, wanted)));
    for (size_t kind = 0; kind < 2; ++kind) {
      const auto of_gated = [&](const auto& value) {
        return MeanOf(rows, wanted, [&](const SeenRow& r) {
          double sum = 0;
          int gated = 0;
          for (size_t b = kind; b < branches; b += 2) {
            if (b == 1) continue;
            sum += value(r, b);
            ++gated;
          }
          return sum / gated;
        });
      };
      ExpectNear(group.importance[kind], of_gated([](const SeenRow& r, size_t b) { return r.importance[b]; }), "s");
      ExpectNear(group.skipped[kind], of_gated([](const SeenRow& r, size_t b) { return r.skipped[b] ? 1.0 : 0.0; }),
                 "skipped");
    }
    ExpectNear(group.saving, MeanOf(rows, wanted, [](const SeenRow& r) { return r.saving; }), "saving");
    ExpectNear(group.own_nll, MeanOf(rows, wanted, [](const SeenRow& r) { return r.own_nll; }), "own");
    ExpectNear(group.next_nll, MeanOf(rows, wanted, [](const SeenRow& r) { return r.next_nll; }), "next");
  };
  ASSERT_EQ(s.classes.size(), kNumTokenClasses);
  for (size_t c = 0; c < kNumTokenClasses; ++c) {
    expect_group(s.classes[c], [c](const SeenRow& r) { return r.token_class == static_cast<TokenClass>(c); });
  }
  const std::pair<const char*, std::pair<size_t, size_t>> places[] = {
      {"0", {0, 0}}, {"1", {1, 1}}, {"2–3", {2, 3}}, {"4–7", {4, 7}}, {"8–15", {8, 15}}, {"16–23", {16, 23}}};
  ASSERT_EQ(s.positions.size(), std::size(places));
  for (size_t p = 0; p < std::size(places); ++p) {
    EXPECT_EQ(s.positions[p].name, places[p].first);
    const auto [first, last] = places[p].second;
    expect_group(s.positions[p],
                 [first = first, last = last](const SeenRow& r) { return r.position >= first && r.position <= last; });
  }

  std::vector<double> nll;
  std::vector<double> compute;
  for (const SeenRow& row : rows) {
    if (std::isnan(row.next_nll)) continue;
    nll.push_back(row.next_nll);
    compute.push_back(1 - row.saving);
  }
  EXPECT_NEAR(s.by_next_nll.correlation, Correlation(nll, compute), 1e-9);
  EXPECT_EQ(s.by_next_nll.bins.size(), 10U);

  ASSERT_EQ(s.sample.size(), 10U);
  for (size_t r = 0; r < s.sample.size(); ++r) {
    ExpectNear(s.sample[r].saving, rows[r].saving, "sample");
    for (size_t b = 0; b < branches; ++b) EXPECT_EQ(s.sample[r].ran[b], !rows[r].skipped[b]);
  }
}

TEST_F(GateStatisticsTest, DriftIsWhatTheEngineSavesOnEveryText) {
  const GateStatistics s = Measure();
  const std::unique_ptr<LoadedModel> model = LoadModel(engine_);
  const std::unique_ptr<Engine> engine = Engine::Load(engine_);
  EXPECT_EQ(s.budgets, (std::vector<double>{0.2, 0.4}));
  ASSERT_EQ(s.texts.size(), 2U);
  const std::vector<TokenWindows> texts = Windows(*model);
  for (size_t t = 0; t < 2; ++t) {
    EXPECT_EQ(s.texts[t].path, options_.text_paths[t]);
    EXPECT_EQ(s.texts[t].tokens, 3U * kWindow);
    for (size_t i = 0; i < 2; ++i) {
      double net = 0;
      for (const auto& window : texts[t]) {
        net += engine->Score(window, {.prefill = s.budgets[i], .decode = s.budgets[i]}).saving.net;
      }
      EXPECT_NEAR(s.texts[t].net[i], net / 3, 1e-12);
    }
  }
  EXPECT_NE(s.texts[0].net, s.texts[1].net);
}

TEST_F(GateStatisticsTest, AtBudgetZeroNothingIsSkippedAndImportancesAreThereAllTheSame) {
  options_.budget = 0;
  const GateStatistics s = Measure();
  EXPECT_EQ(s.nominal, 0);
  for (const BranchStatistics& b : s.branches) {
    EXPECT_EQ(b.skipped, 0);
    EXPECT_TRUE(!b.gated || b.deviation > 0.01);
  }
  EXPECT_TRUE(std::isnan(s.by_own_nll.correlation));
}

TEST_F(GateStatisticsTest, ShortDocumentsAreWindowsOfTheirOwn) {
  options_.text_paths = {directory_.Write("rows.jsonl", "{\"text\":\"one boat\"}\n{\"text\":\"two more boats\"}\n")};
  options_.windows.per_document = true;
  const GateStatistics s = Measure();
  EXPECT_EQ(s.windows, 2U);
  EXPECT_LT(s.tokens, 2U * kWindow);
  EXPECT_EQ(s.positions[0].rows, 2U);
  EXPECT_EQ(static_cast<size_t>(s.window), s.tokens - s.sample.size());  // the second is the longer one
}

TEST_F(GateStatisticsTest, BadOptionsAreNamed) {
  const GateStatisticsOptions good = options_;
  const auto expect = [&](const std::string& says, const auto& change) {
    options_ = good;
    change();
    EXPECT_NE(Problem().find(says), std::string::npos) << Problem();
  };
  expect("[analyze] text", [&] { options_.text_paths.clear(); });
  expect("[analyze] adapter", [&] { options_.adapter_path.clear(); });
  expect("[analyze] tokens", [&] { options_.windows.window = 1; });
  expect("[analyze] tokens", [&] { options_.windows.max_tokens = 10; });
  expect("[analyze] tokens", [&] { options_.windows = {.max_tokens = 1 << 20, .window = 1 << 20}; });
  expect("[analyze] window", [&] { options_.windows = {.max_tokens = 1 << 20, .window = 8192}; });
  expect("[budget]", [&] { options_.budget = 0.9; });
  expect("[budget]", [&] { options_.budget = std::nan(""); });
  expect("at least", [&] { options_.text_paths = {directory_.Write("short.txt", "x")}; });
}

TEST(CorrelationTest, IsPearsons) {
  const std::vector<double> x = {1, 2, 3, 4};
  EXPECT_DOUBLE_EQ(Correlation(x, std::vector<double>{2, 4, 6, 8}), 1);
  EXPECT_DOUBLE_EQ(Correlation(x, std::vector<double>{3, 2, 1, 0}), -1);
  // Means 2.5 and 2; products -1.5 * -1 + -0.5 * 1 + 0.5 * -1 + 1.5 * 1 = 2; squares 5 and 4.
  EXPECT_DOUBLE_EQ(Correlation(x, std::vector<double>{1, 3, 1, 3}), 2 / std::sqrt(20.0));
  EXPECT_TRUE(std::isnan(Correlation(x, std::vector<double>(4, 0.1))));
  EXPECT_TRUE(std::isnan(Correlation({}, {})));
}

TEST(BinByNllTest, CutsEvenlyInOrderOfNll) {
  const std::vector<double> nll = {5, 1, 4, 2, 3};
  const std::vector<double> compute = {50, 10, 40, 20, 30};
  const std::vector<SurpriseBin> bins = BinByNll(nll, compute, 2);
  ASSERT_EQ(bins.size(), 2U);
  EXPECT_DOUBLE_EQ(bins[0].nll, 1.5);
  EXPECT_DOUBLE_EQ(bins[0].compute, 15);
  EXPECT_DOUBLE_EQ(bins[1].nll, 4);
  EXPECT_DOUBLE_EQ(bins[1].compute, 40);
  EXPECT_EQ(BinByNll(nll, compute, 10).size(), 5U);
  EXPECT_TRUE(BinByNll({}, {}, 10).empty());
}

TEST(DepthCorrelationTest, IsOverTheGatedBranchesOfAKind) {
  GateStatistics s;
  s.branches.resize(10);
  for (size_t l = 0; l < 5; ++l) {
    s.branches[2 * l] = {.gated = true, .importance = 0.9 - 0.1 * static_cast<double>(l)};
    s.branches[2 * l + 1] = {.gated = l < 2, .importance = 0.5};
  }
  s.branches[4] = {.gated = false, .importance = 1};
  EXPECT_NEAR(s.DepthCorrelation(BranchKind::kAttention), -1, 1e-12);
  EXPECT_TRUE(std::isnan(s.DepthCorrelation(BranchKind::kMlp)));
}

}  // namespace
}  // namespace gateskip::testing
