// SPDX-License-Identifier: Apache-2.0
#include "analysis/sweep_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "analysis/html_page.h"
#include "analysis/html_parts.h"
#include "analysis/pareto_chart.h"
#include "analysis/sweep_retention.h"
#include "analysis/sweep_text.h"

namespace gateskip {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// What stands on the x axis.
struct Cost {
  const char* tab;
  const char* what;
  const char* axis;
  bool from_zero;
  double (*of)(const SweepPoint&);
  const char* note;
};

constexpr Cost kCosts[] = {{"Net saving", "net saving", "net saving, % of the layers' cost", true,
                            [](const SweepPoint& p) { return 100 * p.net; }, ""},
                           {"Bytes per token", "bytes per token", "MB of weights read per token (less is better)",
                            false, [](const SweepPoint& p) { return p.bytes_per_token / 1e6; }, ""},
                           {"Operations per token", "operations per token", "MFLOP per token (less is better)", false,
                            [](const SweepPoint& p) { return p.flops_per_token / 1e6; }, ""},
                           {"Measured speed", "measured speed", "tokens per second (more is better)", false,
                            [](const SweepPoint& p) { return p.tokens_per_second; },
                            "Measured once, in this run and on this machine: other work on it shows."}};

bool IsGates(const SweepResults& results, size_t arm) { return arm == results.GatesArm(); }

// The gates have the look of their own, whatever their place.
size_t LookOf(const SweepResults& results, size_t arm) {
  if (arm == 0) return kReferenceLook;
  if (IsGates(results, arm)) return 0;
  const size_t rivals = arm - 1 - (results.GatesArm() < arm ? 1 : 0);  // before it; the original leads
  return 1 + rivals % (kParetoLooks - 1);
}

std::string Tabs(const std::string& id, const std::vector<std::pair<std::string, std::string>>& panels) {
  if (panels.size() == 1) return panels[0].second + "\n";
  std::string html = "<div class=\"tabs\">\n";
  for (size_t i = 0; i < panels.size(); ++i) {
    html += fmt::format(
        "<input type=\"radio\" name=\"{0}\" id=\"{0}-{1}\"{2}/><label for=\"{0}-{1}\">{3}</label>"
        "<div class=\"panel\">{4}</div>\n",
        id, i, i == 0 ? " checked=\"checked\"" : "", HtmlEscape(panels[i].first), panels[i].second);
  }
  return html + "</div>\n";
}

std::string Speed(double per_second) { return Number(per_second, per_second >= 100 ? 0 : 1); }

ParetoPoint MakePoint(const SweepResults& results, const SweepPoint& p, double x) {
  const ScoreFormat format = FormatOf(results, p.task);
  const SweepTask& task = results.tasks[p.task];
  ParetoPoint point;
  point.x = x;
  point.y = p.score.value;
  point.error = p.score.error;
  point.name = results.arms[p.arm].name + ", " + BudgetText(p.requested);
  point.facts = {{task.metric, format.Value(p.score.value) + format.Error(p.score) + (format.percent ? " %" : "")},
                 {"net saving", Percent(p.net, 1)},
                 {"nominal saving", Percent(p.nominal, 1)},
                 {"kept of the original", RetentionText(RetentionOf(results, p, Reference::kOriginal))}};
  if (std::isfinite(p.bytes_per_token)) point.facts.emplace_back("MB per token", Number(p.bytes_per_token / 1e6, 1));
  if (std::isfinite(p.tokens_per_second)) point.facts.emplace_back("tokens/s", Speed(p.tokens_per_second));
  return point;
}

std::string TaskChart(const SweepResults& results, size_t task, const Cost& cost) {
  const SweepTask& t = results.tasks[task];
  const ScoreFormat format = FormatOf(results, task);
  const Estimate original = results.Original(task).score;
  ParetoChart chart;
  chart.title = fmt::format("{} against {}", t.metric, cost.what);
  chart.note = cost.note;
  chart.x_name = cost.axis;
  chart.y_name = t.metric + (t.higher_is_better ? "" : ", lower is better, logarithmic");
  chart.log_y = !t.higher_is_better;
  chart.percent = format.percent;
  chart.from_zero = cost.from_zero;
  chart.lines.push_back({"original " + format.Value(original.value), original.value, original.error, false});
  if (t.higher_is_better && t.chance != 0) {
    chart.lines.push_back({"chance " + format.Value(t.chance), t.chance, kNaN, true});
  }
  for (size_t arm = 0; arm < results.arms.size(); ++arm) {
    // The original's line says on the axis of savings what a point of it would; elsewhere the point says its cost.
    if (arm == 0 && cost.from_zero) continue;
    ParetoSeries series{results.arms[arm].name, LookOf(results, arm), IsGates(results, arm), {}};
    for (const SweepPoint& p : results.points) {
      if (p.task != task || p.arm != arm || !p.unreachable.empty()) continue;
      series.points.push_back(MakePoint(results, p, cost.of(p)));
    }
    if (!series.points.empty()) chart.series.push_back(std::move(series));
  }
  return RenderParetoChart(chart);
}

std::string TaskCharts(const SweepResults& results, size_t task) {
  std::vector<std::pair<std::string, std::string>> panels;
  for (const Cost& cost : kCosts) {
    const bool any = std::any_of(results.points.begin(), results.points.end(), [&](const SweepPoint& p) {
      return p.task == task && p.arm != 0 && p.unreachable.empty() && std::isfinite(cost.of(p));
    });
    if (any) panels.emplace_back(cost.tab, TaskChart(results, task, cost));
  }
  return panels.empty() ? "" : Tabs(fmt::format("task{}", task), panels);
}

std::string ArmCell(const SweepResults& results, size_t arm) {
  const std::string key = ParetoKey(LookOf(results, arm));
  const std::string name = HtmlEscape(results.arms[arm].name);
  return key + (IsGates(results, arm) ? "<strong>" + name + "</strong>" : name);
}

// A column per saving that was asked for: what was reached, and its net saving below it.
std::string CompactTable(const SweepResults& results, const std::function<std::string(size_t arm, double s)>& cell) {
  const std::vector<double> savings = results.RequestedSavings();
  std::vector<std::string> head = {"Saving requested"};
  for (const double s : savings) head.push_back(BudgetText(s));
  std::vector<std::vector<std::string>> rows;
  for (size_t arm = 0; arm < results.arms.size(); ++arm) {
    std::vector<std::string> row = {ArmCell(results, arm)};
    bool any = false;
    for (const double s : savings) {
      row.push_back(cell(arm, s));
      any = any || !row.back().empty();
    }
    if (any) rows.push_back(std::move(row));
  }
  return Table(head, rows, {});
}

std::string CellOf(const std::string& value, const std::string& error, double net) {
  return fmt::format("{}<small>{}</small><br/><small>{} net</small>", value, error, Percent(net, 1));
}

std::string TaskTable(const SweepResults& results, size_t task) {
  const ScoreFormat format = FormatOf(results, task);
  return CompactTable(results, [&](size_t arm, double s) -> std::string {
    const SweepPoint* p = results.Find(task, arm, s);
    if (p != nullptr) return CellOf(format.Value(p->score.value), format.Error(p->score), p->net);
    const bool asked = std::any_of(results.points.begin(), results.points.end(), [&](const SweepPoint& q) {
      return q.task == task && q.arm == arm && q.requested == s;
    });
    return asked ? "<small>not reached</small>" : "";
  });
}

// Savings that were not reached, and what else there is to know of points.
std::string Remarks(const SweepResults& results, size_t task) {
  std::string items;
  for (const SweepPoint& p : results.points) {
    if (p.task != task || (p.unreachable.empty() && p.note.empty())) continue;
    const std::string where = fmt::format("{} at {}", HtmlEscape(results.arms[p.arm].name), BudgetText(p.requested));
    items += p.unreachable.empty() ? fmt::format("<li>{}: {}</li>", where, HtmlEscape(p.note))
                                   : fmt::format("<li>{} was not reached: {}</li>", where, HtmlEscape(p.unreachable));
  }
  return items.empty() ? "" : "<ul class=\"reasons\">" + items + "</ul>\n";
}

std::string AllNumbers(const SweepResults& results, size_t task) {
  const ScoreFormat format = FormatOf(results, task);
  std::vector<std::string> head = {"Arm",
                                   "Requested",
                                   "Nominal",
                                   "Net",
                                   "Net, prefill",
                                   "Net, decode",
                                   HtmlEscape(results.tasks[task].metric),
                                   "Of original",
                                   "Of gated at 0",
                                   "MB/token",
                                   "MFLOP/token",
                                   "tokens/s",
                                   "items/s"};
  std::vector<std::vector<std::string>> rows;
  std::set<std::string> others;
  for (const SweepPoint& p : results.points) {
    if (p.task != task || !p.unreachable.empty()) continue;
    rows.push_back({ArmCell(results, p.arm), BudgetText(p.requested), Percent(p.nominal, 1), Percent(p.net, 1),
                    Percent(p.net_prefill, 1), Percent(p.net_decode, 1),
                    format.Value(p.score.value) + "<small>" + format.Error(p.score) + "</small>",
                    RetentionText(RetentionOf(results, p, Reference::kOriginal)),
                    RetentionText(RetentionOf(results, p, Reference::kGatedDense)), Number(p.bytes_per_token / 1e6, 1),
                    Number(p.flops_per_token / 1e6, 0), Speed(p.tokens_per_second), Speed(p.items_per_second)});
    for (const SweepMetric& m : p.metrics) others.insert(m.name);
  }
  std::string html = Details("All numbers", Table(head, rows, {}));
  others.erase(results.tasks[task].metric);
  if (others.empty()) return html;

  head = {"Arm", "Requested", "Net"};
  for (const std::string& name : others) head.push_back(HtmlEscape(name));
  rows.clear();
  for (const SweepPoint& p : results.points) {
    if (p.task != task || !p.unreachable.empty()) continue;
    rows.push_back({ArmCell(results, p.arm), BudgetText(p.requested), Percent(p.net, 1)});
    for (const std::string& name : others) {
      const auto m = std::find_if(p.metrics.begin(), p.metrics.end(), [&](const auto& x) { return x.name == name; });
      rows.back().push_back(m == p.metrics.end() ? "–"
                            : std::isfinite(m->estimate.error)
                                ? fmt::format("{:.4g}<small> ± {:.2g}</small>", m->estimate.value, m->estimate.error)
                                : fmt::format("{:.4g}", m->estimate.value));
    }
  }
  return html + Details("Other metrics", Table(head, rows, {}));
}

std::string TaskSection(const SweepResults& results, size_t task) {
  return fmt::format("<section>\n<h2>{}</h2>\n<p class=\"lead\">{}.</p>\n", HtmlEscape(results.tasks[task].name),
                     HtmlEscape(TaskFacts(results, task))) +
         TaskCharts(results, task) + TaskTable(results, task) + Remarks(results, task) + AllNumbers(results, task) +
         "</section>\n";
}

std::string MeanPanel(const SweepResults& results, Reference reference, const std::vector<MeanPoint>& means) {
  const bool original = reference == Reference::kOriginal;
  ParetoChart chart;
  chart.title = original ? "Kept of the original" : "Kept of the gated model at budget 0";
  chart.x_name = "net saving, % of the layers' cost, mean over tasks";
  chart.y_name = "mean retention";
  chart.percent = true;
  chart.from_zero = true;
  Estimate own = {1.0, kNaN};  // of the reference, whose retention is 1
  for (const MeanPoint& m : means) {
    if (m.requested == 0 && (original ? m.arm == 0 : IsGates(results, m.arm))) own = m.retention;
  }
  chart.lines.push_back({original ? "original" : "gated, nothing skipped", 1.0, own.error, false});
  for (size_t arm = 1; arm < results.arms.size(); ++arm) {
    ParetoSeries series{results.arms[arm].name, LookOf(results, arm), IsGates(results, arm), {}};
    for (const MeanPoint& m : means) {
      if (m.arm != arm) continue;
      series.points.push_back({100 * m.net,
                               m.retention.value,
                               m.retention.error,
                               results.arms[arm].name + ", " + BudgetText(m.requested),
                               {{"retention", RetentionText(m.retention)}, {"net saving", Percent(m.net, 1)}}});
    }
    if (!series.points.empty()) chart.series.push_back(std::move(series));
  }
  return RenderParetoChart(chart) + CompactTable(results, [&](size_t arm, double s) -> std::string {
           for (const MeanPoint& m : means) {
             if (m.arm != arm || m.requested != s) continue;
             const std::string error =
                 std::isfinite(m.retention.error) ? " ± " + Number(100 * m.retention.error, 1) : "";
             return CellOf(Number(100 * m.retention.value, 1), error, m.net);
           }
           return "";
         });
}

std::string Summary(const SweepResults& results) {
  std::string counted;
  std::string others;
  for (const TaskChoice& choice : ChooseTasks(results)) {
    const std::string& name = results.tasks[choice.task].name;
    if (choice.reason.empty()) {
      counted += (counted.empty() ? "" : ", ") + name;
    } else {
      others += fmt::format(" {} is not among them: {}.", name, choice.reason);
    }
  }
  if (counted.empty()) return "";
  std::string html =
      "<section>\n<h2>Mean over tasks</h2>\n<p class=\"lead\">" +
      HtmlEscape("Retention is (score − chance) / (reference − chance), the mean of " + counted + "." + others +
                 " An arm has a point only where it has one in each of these tasks. Bars are the "
                 "standard errors of an arm's own scores, the band those of the reference's.") +
      "</p>\n";
  std::vector<std::pair<std::string, std::string>> panels;
  for (const Reference reference : {Reference::kOriginal, Reference::kGatedDense}) {
    const std::vector<MeanPoint> means = MeanRetention(results, reference);
    if (means.empty()) continue;
    panels.emplace_back(reference == Reference::kOriginal ? "Against the original" : "Against the gated model at 0",
                        MeanPanel(results, reference, means));
  }
  return panels.empty() ? "" : html + Tabs("mean", panels) + "</section>\n";
}

std::string Header(const SweepResults& results) {
  std::string html = "<header>\n<p class=\"eyebrow\">Accuracy against net cost</p>\n";
  html += fmt::format("<h1>{}</h1>\n", HtmlEscape(results.model)) + "<dl class=\"tiles\">\n";
  const auto tile = [&](const std::string& what, const std::string& value, const std::string& small) {
    html += fmt::format("<div><dt>{}</dt><dd>{}{}</dd></div>\n", what, value,
                        small.empty() ? "" : " <small>" + small + "</small>");
  };
  tile("Tasks", fmt::format("{}", results.tasks.size()), "");
  tile("Arms", fmt::format("{}", results.arms.size()), "");
  const auto missed = std::count_if(results.points.begin(), results.points.end(),
                                    [](const SweepPoint& p) { return !p.unreachable.empty(); });
  tile("Points", fmt::format("{}", std::ssize(results.points) - missed),
       missed > 0 ? fmt::format("{} not reached", missed) : "");
  std::set<int64_t> threads;
  for (const SweepRun& run : results.runs) threads.insert(run.threads);
  if (threads.size() == 1 && *threads.begin() > 0) tile("Threads", fmt::format("{}", *threads.begin()), "");
  if (!results.runs.back().date.empty()) tile("Date", HtmlEscape(results.runs.back().date), "");
  return html + "</dl>\n</header>\n";
}

std::string SetUp(const SweepResults& results) {
  std::string html = "<section>\n<h2>Set-up</h2>\n";
  if (results.runs.size() > 1) {
    html += "<p class=\"lead\">Several runs are shown together; speeds of different runs are not comparable.</p>\n";
  }
  std::vector<std::vector<std::string>> rows;
  for (size_t arm = 0; arm < results.arms.size(); ++arm) {
    const SweepArm& a = results.arms[arm];
    rows.push_back({ArmCell(results, arm), HtmlEscape(a.policy), HtmlEscape(a.description), HtmlEscape(a.adapter),
                    a.trained_tokens > 0 ? Amount(a.trained_tokens) : "–"});
  }
  html += Table({"Arm", "Policy", "What it is", "Adapter", "Tokens trained on"}, rows, {0, 1, 2, 3});
  rows.clear();
  for (const SweepTask& t : results.tasks) {
    rows.push_back({HtmlEscape(t.name), HtmlEscape(t.version), HtmlEscape(t.metric), fmt::format("{}", t.num_fewshot),
                    fmt::format("{}", t.instances), "<code>" + HtmlEscape(t.data_sha256) + "</code>"});
  }
  html += Details("Tasks", Table({"Task", "Version", "Metric", "Shots", "Items", "SHA-256 of the data"}, rows, {5}));
  rows.clear();
  for (const SweepRun& run : results.runs) {
    rows.push_back({HtmlEscape(run.date), HtmlEscape(run.machine), fmt::format("{}", run.threads),
                    "<code>" + HtmlEscape(run.command) + "</code>"});
  }
  html += Details("Runs", Table({"Date", "Machine", "Threads", "Command"}, rows, {1, 3}));
  if (!results.model_sha256.empty()) {
    html += Details("Model", "<p class=\"none\">SHA-256 <code>" + HtmlEscape(results.model_sha256) + "</code></p>");
  }
  return html + "</section>\n";
}

}  // namespace

std::string RenderSweepPage(const SweepResults& results) {
  std::string html = Header(results) + Summary(results);
  for (size_t t = 0; t < results.tasks.size(); ++t) html += TaskSection(results, t);
  html += SetUp(results);
  html +=
      "<footer><p>Made from results of <code>gateskip eval</code> by <code>gateskip report</code>. Net saving: the "
      "share of the ungated model's layer cost that was not executed, what decides included. Bars and ± are one "
      "standard error.</p></footer>\n";
  return HtmlPage(results.model + ", accuracy against net cost", html);
}

}  // namespace gateskip
