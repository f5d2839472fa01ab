// SPDX-License-Identifier: Apache-2.0
#include "analysis/train_charts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "analysis/html_parts.h"

namespace gateskip {
namespace {

constexpr size_t kMaxDots = 1500;   // of a curve
constexpr size_t kMaxColumns = 96;  // of a heat map
constexpr size_t kMaxMarks = 200;   // of a chart
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

using Name = ChartSeries::Name;

// A value of every step, or of those that `wanted` names.
template <typename Value, typename Wanted>
Curve StepCurve(const TrainLog& log, const Value& value, const Wanted& wanted) {
  Curve curve;
  for (const LoggedStep& s : log.steps) {
    if (!wanted(s)) continue;
    curve.x.push_back(static_cast<double>(s.step));
    curve.y.push_back(static_cast<double>(value(s)));
  }
  return curve;
}

bool AnyStep(const LoggedStep& /*step*/) { return true; }
bool IsSkippingStep(const LoggedStep& s) { return !(s.requested_saving <= 0); }
bool IsDenseStep(const LoggedStep& s) { return s.requested_saving <= 0; }

// Single steps as dots and over them their smooth line, which has the name in the legend.
void AddSmoothed(LineChart& chart, const std::string& name, const std::string& color, const Curve& curve) {
  if (curve.x.empty()) return;
  chart.series.push_back({name + ", single", Thin(curve, kMaxDots), color, ChartStyle::kDots, Name::kUnderPointer});
  chart.series.push_back({name, Smooth(curve), color, ChartStyle::kLine, Name::kInLegend});
}

// Dense steps, which skip nothing, differ so much from the others that one line for both would say nothing.
template <typename Value>
void AddSkippingAndDense(LineChart& chart, const TrainLog& log, const Value& value) {
  const Curve dense = StepCurve(log, value, IsDenseStep);
  AddSmoothed(chart, dense.x.empty() ? "steps" : "skipping steps", "blue", StepCurve(log, value, IsSkippingStep));
  AddSmoothed(chart, "dense steps", "orange", dense);
}

LineChart StepChart(const TrainLog& log, const std::string& title, const std::string& note, const std::string& unit) {
  LineChart chart;
  chart.title = title;
  chart.note = note;
  chart.x_name = "step";
  chart.y_name = unit;
  chart.x_high = static_cast<double>(std::max<int64_t>(1, LastStep(log)));
  return chart;
}

std::string BadStepText(const LoggedBadStep& bad) {
  const std::string loss = std::isfinite(bad.loss) ? fmt::format(", loss {:.4g}", bad.loss) : "";
  return "skipped: " + (bad.reason.empty() ? "no reason given" : bad.reason) + loss;
}

size_t NumBranches(const TrainLog& log) {
  size_t n = 0;
  for (const auto& [step, b] : log.branches) n = std::max({n, b.run_share.size(), b.gate_mean.size()});
  return n;
}

}  // namespace

double OptionNumber(const TrainLog& log, const char* key) {
  const auto found = log.options.find(key);
  return found != log.options.end() && found->is_number() ? found->get<double>() : kNaN;
}

int64_t LastStep(const TrainLog& log) {
  int64_t last = log.steps.empty() ? 0 : log.steps.back().step;
  if (!log.evaluations.empty()) last = std::max(last, log.evaluations.rbegin()->first);
  return last;
}

std::map<int64_t, LoggedBadStep> BadSteps(const TrainLog& log) {
  std::map<int64_t, LoggedBadStep> bad = log.bad_steps;
  for (const LoggedStep& s : log.steps) {
    if (!std::isfinite(s.loss) || !std::isfinite(s.gradient_norm)) {
      bad.try_emplace(s.step, LoggedBadStep{"non-finite", static_cast<double>(s.loss)});
    }
  }
  return bad;
}

std::vector<ChartMark> StepMarks(const TrainLog& log, const std::map<int64_t, LoggedBadStep>& bad_steps) {
  std::vector<ChartMark> marks;
  for (const auto& [step, bad] : bad_steps) {
    if (marks.size() < kMaxMarks) marks.push_back({static_cast<double>(step), true, BadStepText(bad)});
  }
  for (const int64_t step : log.resumed_after) {
    if (marks.size() < kMaxMarks) {
      marks.push_back({static_cast<double>(step), false, fmt::format("resumed after step {}", step)});
    }
  }
  return marks;
}

std::string LossChart(const TrainLog& log, const std::vector<ChartMark>& marks) {
  LineChart chart =
      StepChart(log, "Training loss", "Dots are single steps, lines their trimmed mean.", "nats per token");
  chart.marks = marks;
  AddSkippingAndDense(chart, log, [](const LoggedStep& s) { return s.loss; });
  return RenderLineChart(chart);
}

std::string HeldoutChart(const TrainLog& log) {
  LineChart chart =
      StepChart(log, "Held-out NLL", "At every budget, against the model without gates.", "nats per token");
  const std::vector<double>& budgets = log.evaluations.rbegin()->second.budgets;
  Curve ungated;
  for (const auto& [step, e] : log.evaluations) {
    ungated.x.push_back(static_cast<double>(step));
    ungated.y.push_back(e.base_nll);
  }
  chart.series.push_back({"ungated", ungated, "ink", ChartStyle::kDashed, Name::kAtEnd});
  for (size_t i = 0; i < budgets.size(); ++i) {
    Curve curve;
    for (const auto& [step, e] : log.evaluations) {
      const auto at = std::find(e.budgets.begin(), e.budgets.end(), budgets[i]) - e.budgets.begin();
      if (at == std::ssize(e.budgets)) continue;
      curve.x.push_back(static_cast<double>(step));
      curve.y.push_back(e.nll[static_cast<size_t>(at)]);
    }
    const size_t shade = budgets.size() < 2 ? 3 : i * 5 / (budgets.size() - 1);
    chart.series.push_back({BudgetText(budgets[i]), curve, fmt::format("ramp{}", shade),
                            log.evaluations.size() <= 40 ? ChartStyle::kLineAndDots : ChartStyle::kLine, Name::kAtEnd});
  }
  return RenderLineChart(chart);
}

std::string SavingChart(const TrainLog& log) {
  LineChart chart = StepChart(log, "Net saving of skipping steps",
                              "Asked for against reached, of the ungated model's layer cost.", "saving");
  chart.percent = true;
  chart.from_zero = true;
  AddSmoothed(chart, "realised", "blue",
              StepCurve(
                  log, [](const LoggedStep& s) { return s.realised_saving; }, IsSkippingStep));
  const Curve asked = StepCurve(
      log, [](const LoggedStep& s) { return s.requested_saving; }, IsSkippingStep);
  chart.series.push_back({"requested", Smooth(asked), "ink", ChartStyle::kDashed, Name::kInLegend});
  return RenderLineChart(chart);
}

std::string GradientChart(const TrainLog& log, const std::vector<ChartMark>& marks) {
  LineChart chart = StepChart(log, "Gradient norm", "Before clipping, on a logarithmic scale.", "norm");
  chart.log_y = true;
  chart.marks = marks;
  AddSkippingAndDense(chart, log, [](const LoggedStep& s) { return s.gradient_norm; });
  const double clip = OptionNumber(log, "clip_norm");
  if (clip > 0) {
    chart.series.push_back(
        {"clipped above", {{0, chart.x_high}, {clip, clip}}, "ink", ChartStyle::kDashed, Name::kInLegend});
  }
  return RenderLineChart(chart);
}

std::string RateChart(const TrainLog& log) {
  LineChart chart = StepChart(log, "Learning rate", "As a share of each group's peak rate.", "share of the peak");
  chart.percent = true;
  chart.from_zero = true;
  const Curve rate = StepCurve(
      log, [](const LoggedStep& s) { return s.rate; }, AnyStep);
  chart.series.push_back({"rate", Thin(rate, kMaxDots), "blue", ChartStyle::kLine, Name::kUnderPointer});
  return RenderLineChart(chart);
}

std::string ThroughputChart(const TrainLog& log) {
  LineChart chart = StepChart(log, "Throughput", "Of the steps alone: evaluations and checkpoints do not count.",
                              "tokens per second");
  chart.from_zero = true;
  AddSmoothed(chart, "tokens/s", "blue",
              StepCurve(
                  log, [](const LoggedStep& s) { return s.tokens_per_second; }, AnyStep));
  return RenderLineChart(chart);
}

// Columns are the spans between events, neighbours averaged where there are too many.
std::string BranchMap(const TrainLog& log, BranchKind kind) {
  const size_t layers = (NumBranches(log) + 1) / 2;
  const size_t merged = (log.branches.size() + kMaxColumns - 1) / kMaxColumns;
  HeatMap map;
  map.title = kind == BranchKind::kAttention ? "Attention" : "MLP";
  map.x_name = "step";
  map.row_name = "layer";
  map.value_name = "rows skipped";
  map.edges = {0};
  map.cells.resize(layers);
  std::vector<double> sums(layers, 0.0);
  size_t in_column = 0;
  size_t seen = 0;
  for (const auto& [step, event] : log.branches) {
    for (size_t l = 0; l < layers; ++l) {
      const auto b = static_cast<size_t>(BranchIndex(static_cast<int>(l), kind));
      sums[l] += b < event.run_share.size() ? 1.0 - static_cast<double>(event.run_share[b]) : kNaN;
    }
    ++in_column;
    if (++seen < log.branches.size() && in_column < merged) continue;
    map.edges.push_back(static_cast<double>(step));
    for (size_t l = 0; l < layers; ++l) {
      map.cells[l].push_back(static_cast<float>(sums[l] / static_cast<double>(in_column)));
      sums[l] = 0;
    }
    in_column = 0;
  }
  return RenderHeatMap(map);
}

std::string GateMeanChart(const TrainLog& log) {
  LineChart chart;
  chart.title = "Mean gate by depth";
  chart.note = "The importance a branch's gate gives to a row, on average: at the first report and at the last.";
  chart.x_name = "layer";
  chart.y_name = "importance, 0 to 1";
  chart.from_zero = true;
  const auto add = [&](const std::pair<const int64_t, LoggedBranches>& event, bool last) {
    for (const BranchKind kind : {BranchKind::kAttention, BranchKind::kMlp}) {
      Curve curve;
      for (size_t b = static_cast<size_t>(kind); b < event.second.gate_mean.size(); b += 2) {
        const bool gated = b >= log.gated.size() || log.gated[b];
        curve.x.push_back(BranchLayer(static_cast<int>(b)));
        curve.y.push_back(gated ? static_cast<double>(event.second.gate_mean[b]) : kNaN);
      }
      chart.series.push_back(
          {fmt::format("{}, step {}", kind == BranchKind::kAttention ? "attention" : "MLP", event.first), curve,
           kind == BranchKind::kAttention ? "blue" : "orange", last ? ChartStyle::kLineAndDots : ChartStyle::kDashed,
           Name::kInLegend});
    }
  };
  if (log.branches.size() > 1) add(*log.branches.begin(), false);
  add(*log.branches.rbegin(), true);
  return RenderLineChart(chart);
}

std::string TradeOffChart(const TrainLog& log) {
  LineChart chart;
  chart.title = "Quality against saving";
  chart.x_name = "net saving, %";
  chart.whole_x = false;
  chart.y_name = "held-out NLL, nats per token";
  const auto curve = [](const LoggedEvaluation& e) {
    Curve c;
    for (size_t i = 0; i < e.nll.size(); ++i) {
      c.x.push_back(100 * e.net_saving[i]);
      c.y.push_back(e.nll[i]);
    }
    return c;
  };
  const auto& [first_step, first] = *log.evaluations.begin();
  const auto& [step, last] = *log.evaluations.rbegin();
  if (first_step != step) {
    chart.series.push_back({fmt::format("step {}", first_step), curve(first), "orange", ChartStyle::kLineAndDots});
  }
  chart.series.push_back({fmt::format("step {}", step), curve(last), "blue", ChartStyle::kLineAndDots});
  Curve ungated;
  for (const ChartSeries& s : chart.series) {
    for (const double x : s.curve.x) {
      ungated.x.push_back(x);
      ungated.y.push_back(last.base_nll);
    }
  }
  std::sort(ungated.x.begin(), ungated.x.end());
  chart.series.push_back({"ungated", ungated, "ink", ChartStyle::kDashed});
  return RenderLineChart(chart);
}

}  // namespace gateskip
