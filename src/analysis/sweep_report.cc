// SPDX-License-Identifier: Apache-2.0
#include "analysis/sweep_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "analysis/html_page.h"
#include "analysis/svg_chart.h"

namespace gateskip {
namespace {

constexpr const char* kColors[] = {"blue", "orange", "green", "purple", "teal", "brown",
                                   "pink", "olive",  "muted", "ramp1",  "ramp5"};

std::string Percent(double share, int decimals = 1) { return fmt::format("{:.{}f} %", share * 100, decimals); }

std::string Score(const SweepMetric& metric) {
  const int decimals = std::abs(metric.value) >= 10 ? 2 : 4;
  std::string text = fmt::format("{:.{}f}", metric.value, decimals);
  if (metric.standard_error) text += fmt::format(" ± {:.{}f}", *metric.standard_error, decimals);
  return text;
}

// The colour of an arm is its place: the same in every chart.
const char* ColorOf(const SweepResults& results, const std::string& arm) {
  size_t place = 0;
  for (const SweepArmInfo& info : results.arms) {
    if (info.name == arm) break;
    if (info.name != kOriginalArm) ++place;
  }
  return kColors[place % std::size(kColors)];
}

// The points of an arm on a task, by what stands on the x axis.
std::vector<const SweepPoint*> PointsOf(const SweepResults& results, const std::string& arm, const std::string& task) {
  std::vector<const SweepPoint*> points;
  for (const SweepPoint& point : results.points) {
    if (point.arm == arm && point.task == task && point.unreachable.empty()) points.push_back(&point);
  }
  std::ranges::sort(points, {}, &SweepPoint::requested);
  return points;
}

using XOf = std::function<double(const SweepPoint&)>;

LineChart TaskChart(const SweepResults& results, const SweepTaskInfo& task, const std::string& x_name,
                    const XOf& x_of) {
  LineChart chart;
  chart.title = fmt::format("{}: {} against {}", task.name, task.metric, x_name);
  chart.x_name = x_name;
  chart.y_name = task.metric;
  chart.whole_x = false;
  chart.log_y = !task.higher_is_better;
  double low = INFINITY;
  double high = -INFINITY;
  for (const SweepArmInfo& arm : results.arms) {
    ChartSeries series;
    series.name = arm.name;
    series.color = arm.name == kOriginalArm ? "ink" : ColorOf(results, arm.name);
    series.style = ChartStyle::kLineAndDots;
    struct At {
      double x, y, error;
    };
    std::vector<At> at;
    // A policy on the plain model begins where that is.
    std::vector<const SweepPoint*> points = PointsOf(results, arm.name, task.name);
    const SweepPoint* original = results.Original(task.name);
    if (arm.adapter.empty() && arm.name != kOriginalArm && original != nullptr && !points.empty()) {
      points.insert(points.begin(), original);
    }
    for (const SweepPoint* point : points) {
      const SweepMetric* metric = point->Find(task.metric);
      if (metric == nullptr) continue;
      at.push_back({x_of(*point), metric->value, metric->standard_error.value_or(0.0)});
    }
    std::ranges::stable_sort(at, {}, &At::x);
    for (const At& p : at) {
      series.curve.x.push_back(p.x);
      series.curve.y.push_back(p.y);
      series.error.push_back(p.error);
      low = std::min(low, p.x);
      high = std::max(high, p.x);
    }
    if (!at.empty()) chart.series.push_back(std::move(series));
  }
  const auto level = [&](const char* name, const char* color, double value) {
    if (low < high) chart.series.push_back({name, {{low, high}, {value, value}}, color, ChartStyle::kDashed});
  };
  if (const SweepPoint* original = results.Original(task.name)) {
    if (const SweepMetric* metric = original->Find(task.metric)) level("level of the original", "ink", metric->value);
  }
  if (task.chance) level("guessing", "muted", *task.chance);
  return chart;
}

std::string RetentionText(std::optional<double> retention) { return retention ? Percent(*retention) : "–"; }

std::optional<double> RetentionOf(const SweepTaskInfo& task, const SweepPoint& point, const SweepPoint* base) {
  const SweepMetric* metric = point.Find(task.metric);
  const SweepMetric* reference = base == nullptr ? nullptr : base->Find(task.metric);
  if (metric == nullptr || reference == nullptr) return std::nullopt;
  return Retention(task, metric->value, reference->value);
}

std::string TaskTable(const SweepResults& results, const SweepTaskInfo& task) {
  std::vector<std::vector<std::string>> rows;
  for (const SweepArmInfo& arm : results.arms) {
    for (const SweepPoint& point : results.points) {
      if (point.arm != arm.name || point.task != task.name) continue;
      if (!point.unreachable.empty()) {
        rows.push_back({HtmlEscape(arm.name), Percent(point.requested), "", "", "out of reach", "", "", "",
                        HtmlEscape(point.unreachable)});
        continue;
      }
      const SweepMetric* metric = point.Find(task.metric);
      rows.push_back({HtmlEscape(arm.name), Percent(point.requested), Percent(point.nominal), Percent(point.net),
                      metric == nullptr ? "–" : Score(*metric),
                      RetentionText(RetentionOf(task, point, results.Original(task.name))),
                      RetentionText(RetentionOf(task, point, results.GatedAtZero(arm, task.name))),
                      fmt::format("{:.0f}", point.tokens_per_second), HtmlEscape(point.note)});
    }
  }
  return HtmlTable({"Arm", "Requested", "Nominal", "Net", HtmlEscape(task.metric), "of the original", "of gated at 0 %",
                    "Tokens/s", "Note"},
                   rows, {0, 8});
}

// Mean retention over tasks against the mean net saving, for arms that have every task at a budget.
LineChart SummaryChart(const SweepResults& results) {
  LineChart chart;
  chart.title = "Share of the original's score that is kept, mean over tasks";
  chart.note = "Score above guessing, against net saving. Only budgets at which every task was run.";
  chart.x_name = "net saving, %";
  chart.y_name = "kept";
  chart.percent = true;
  chart.from_zero = true;
  chart.whole_x = false;
  for (const SweepArmInfo& arm : results.arms) {
    if (arm.name == kOriginalArm) continue;
    std::set<double> budgets;
    for (const SweepPoint& point : results.points) {
      if (point.arm == arm.name) budgets.insert(point.requested);
    }
    struct At {
      double x, y;
    };
    std::vector<At> at;
    if (arm.adapter.empty()) at.push_back({0, 1});
    for (const double budget : budgets) {
      double net = 0;
      double kept = 0;
      size_t tasks = 0;
      for (const SweepTaskInfo& task : results.tasks) {
        for (const SweepPoint* point : PointsOf(results, arm.name, task.name)) {
          const auto retention = RetentionOf(task, *point, results.Original(task.name));
          if (point->requested != budget || !retention) continue;
          net += point->net;
          kept += *retention;
          ++tasks;
        }
      }
      if (tasks == 0 || tasks < results.tasks.size()) continue;
      const auto n = static_cast<double>(tasks);
      at.push_back({100 * net / n, kept / n});
    }
    std::ranges::stable_sort(at, {}, &At::x);
    ChartSeries series;
    series.name = arm.name;
    series.color = ColorOf(results, arm.name);
    series.style = ChartStyle::kLineAndDots;
    for (const At& p : at) {
      series.curve.x.push_back(p.x);
      series.curve.y.push_back(p.y);
    }
    if (at.size() > (arm.adapter.empty() ? 1U : 0U)) chart.series.push_back(std::move(series));
  }
  return chart;
}

std::string Arms(const SweepResults& results) {
  std::vector<std::vector<std::string>> rows;
  for (const SweepArmInfo& arm : results.arms) {
    rows.push_back(
        {HtmlEscape(arm.name), HtmlEscape(arm.adapter.empty() ? "–" : arm.adapter), HtmlEscape(arm.description)});
  }
  return HtmlTable({"Arm", "Adapter", "What it does"}, rows, {0, 1, 2});
}

}  // namespace

std::string RenderSweepReport(const SweepResults& results) {
  std::string body = "<header>\n<p class=\"eyebrow\">Accuracy against net cost</p>\n";
  body += fmt::format("<h1>{}</h1>\n", HtmlEscape(results.model));
  body += fmt::format("<p class=\"eyebrow\">{}, {} threads, {}</p>\n</header>\n", HtmlEscape(results.machine),
                      results.threads, HtmlEscape(results.date));
  body +=
      "<section>\n<h2>All tasks</h2>\n<p class=\"lead\">Net saving counts every weight that was read: gates, skip "
      "paths, K and V of skipped rows, and heads run to decide on an exit.</p>\n";
  body += RenderLineChart(SummaryChart(results)) + Arms(results) + "</section>\n";
  for (const SweepTaskInfo& task : results.tasks) {
    body += fmt::format("<section>\n<h2>{}</h2>\n<p class=\"lead\">{} documents, {} examples in front</p>\n",
                        HtmlEscape(task.name), task.instances, task.num_fewshot);
    body += RenderLineChart(TaskChart(results, task, "net saving, %", [](const SweepPoint& p) { return 100 * p.net; }));
    body += "<details><summary>Against bytes per token and tokens per second</summary>\n";
    body += RenderLineChart(TaskChart(results, task, "MB of weights read per token",
                                      [](const SweepPoint& p) { return p.bytes_per_token / 1e6; }));
    body += RenderLineChart(TaskChart(results, task, "tokens per second, as measured in this run",
                                      [](const SweepPoint& p) { return p.tokens_per_second; }));
    body += "</details>\n" + TaskTable(results, task) + "</section>\n";
  }
  body += fmt::format(
      "<footer>Error bars and ± are standard errors. Speeds are those of this run on this machine, scoring "
      "in batches. Made with <code>{}</code></footer>\n",
      HtmlEscape(results.command));
  return HtmlPage(fmt::format("{}: accuracy against net cost", results.model), body);
}

std::string RenderSweepMarkdown(const SweepResults& results) {
  const auto escape = [](const std::string& text) {
    std::string escaped;
    for (const char c : text) {
      if (c == '|') escaped += '\\';
      escaped += c == '\n' ? ' ' : c;
    }
    return escaped;
  };
  std::string out;
  for (const SweepTaskInfo& task : results.tasks) {
    std::set<double> budgets;
    for (const SweepPoint& point : results.points) {
      if (point.task == task.name) budgets.insert(point.requested);
    }
    out += fmt::format("**{}**, {}, {} documents", escape(task.name), escape(task.metric), task.instances);
    if (task.chance) out += fmt::format(", guessing {:.4f}", *task.chance);
    out += "\n\n| arm |";
    for (const double budget : budgets) out += fmt::format(" {:g} % |", budget * 100);
    out += "\n| --- |";
    for (size_t i = 0; i < budgets.size(); ++i) out += " ---: |";
    out += "\n";
    for (const SweepArmInfo& arm : results.arms) {
      std::string row = fmt::format("| {} |", escape(arm.name));
      bool any = false;
      for (const double budget : budgets) {
        std::string cell;
        for (const SweepPoint& point : results.points) {
          if (point.arm != arm.name || point.task != task.name || point.requested != budget) continue;
          const SweepMetric* metric = point.Find(task.metric);
          cell = metric == nullptr ? "out of reach" : fmt::format("{} @ {}", Score(*metric), Percent(point.net));
          any = true;
        }
        row += fmt::format(" {} |", cell);
      }
      if (any) out += row + "\n";
    }
    out += "\n";
  }
  return out;
}

}  // namespace gateskip
