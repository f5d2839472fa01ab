// SPDX-License-Identifier: Apache-2.0
#include "analysis/gate_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "analysis/html_page.h"
#include "analysis/html_parts.h"
#include "analysis/svg_chart.h"

namespace gateskip {
namespace {

constexpr BranchKind kKinds[] = {BranchKind::kAttention, BranchKind::kMlp};
constexpr const char* kKindNames[] = {"attention", "MLP"};
constexpr const char* kKindColors[] = {"blue", "orange"};

size_t Index(BranchKind kind) { return static_cast<size_t>(kind); }

std::string Nats(double value) { return Number(value, 3); }

// "3, 5–9".
std::string Ranges(const std::vector<int>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t end = i;
    while (end + 1 < numbers.size() && numbers[end + 1] == numbers[end] + 1) ++end;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", numbers[i]);
    if (end > i) text += fmt::format("{}{}", end == i + 1 ? ", " : "–", numbers[end]);
    i = end + 1;
  }
  return text;
}

// "attention 3, 5–9; MLP 2" of the branches that `wanted(branch)` names; "none".
template <typename Wanted>
std::string BranchList(size_t num_branches, const Wanted& wanted) {
  std::string text;
  for (const BranchKind kind : kKinds) {
    std::vector<int> layers;
    for (size_t b = Index(kind); b < num_branches; b += 2) {
      if (wanted(b)) layers.push_back(static_cast<int>(b / 2));
    }
    if (layers.empty()) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : "; ", kKindNames[Index(kind)], Ranges(layers));
  }
  return text.empty() ? "none" : text;
}

// A cell with as much ink as its share.
std::string Shade(double share, const std::string& text) {
  if (!std::isfinite(share)) return "<span class=\"shade\">–</span>";
  return fmt::format("<span class=\"shade\" style=\"--s:{:.2f}\">{}</span>", std::clamp(share, 0.0, 1.0), text);
}
std::string ShadedPercent(double share) { return Shade(share, Percent(share, 0)); }

std::string Section(const std::string& title, const std::string& lead, const std::string& html) {
  return fmt::format("<section>\n<h2>{}</h2>\n<p class=\"lead\">{}</p>\n{}</section>\n", title, HtmlEscape(lead), html);
}

std::string Header(const GateStatistics& s) {
  std::string html = "<header>\n<p class=\"eyebrow\">What the gates learned</p>\n";
  html += fmt::format("<h1>{}</h1>\n<p class=\"eyebrow\">{}</p>\n", HtmlEscape(s.model), HtmlEscape(s.adapter));
  html += "<dl class=\"tiles\">\n";
  const auto tile = [&](const std::string& what, const std::string& value, const std::string& small) {
    html += fmt::format("<div><dt>{}</dt><dd>{}{}</dd></div>\n", what, value,
                        small.empty() ? "" : " <small>" + small + "</small>");
  };
  const auto gated = std::ranges::count_if(s.branches, [](const auto& b) { return b.gated; });
  const auto token_wise = std::ranges::count_if(s.branches, [](const auto& b) { return b.IsTokenWise(); });
  tile("Saving requested", BudgetText(s.requested), "");
  tile("Nominal", Percent(s.nominal, 1), "");
  tile("Net", Percent(s.net, 1), "");
  tile("NLL", Nats(s.nll), "nats");
  tile("Tokens", Amount(static_cast<int64_t>(s.tokens)), fmt::format("in windows of {}", s.window));
  tile("Gated branches", fmt::format("{}", gated), fmt::format("of {}", s.branches.size()));
  tile("Token-wise", fmt::format("{}", token_wise), fmt::format("of {}", gated));
  return html + "</dl>\n</header>\n";
}

HeatMap SampleMap(const GateStatistics& s, BranchKind kind) {
  HeatMap map;
  map.title = fmt::format("Where {} was skipped", kKindNames[Index(kind)]);
  map.x_name = "token";
  map.row_name = "layer";
  map.value_name = "skipped";
  for (size_t t = 0; t <= s.sample.size(); ++t) map.edges.push_back(static_cast<double>(t));
  for (size_t b = Index(kind); b < s.branches.size(); b += 2) {
    std::vector<float> row;
    for (const SampleToken& token : s.sample) row.push_back(token.ran[b] ? 0.0F : 1.0F);
    map.cells.push_back(std::move(row));
  }
  return map;
}

// Line breaks are seen and take effect; half a character has a sign of its own.
std::string TokenHtml(const std::string& text) {
  if (text.empty()) return "▯";
  std::string html;
  for (const char c : text) html += c == '\n' ? std::string("↵\n") : c == '\r' ? std::string("␍") : std::string(1, c);
  return HtmlEscape(html);
}

std::string SampleSection(const GateStatistics& s) {
  if (s.sample.empty()) return "";
  // The most and the least that a token was spared span the ramp.
  double low = 1;
  double high = 0;
  for (const SampleToken& token : s.sample) {
    low = std::min(low, token.saving);
    high = std::max(high, token.saving);
  }
  low = std::clamp(low, 0.0, 1.0);
  high = std::max(high, low + 0.01);
  std::string tokens;
  for (const SampleToken& token : s.sample) {
    const std::string skipped = BranchList(token.ran.size(), [&](size_t b) { return !token.ran[b]; });
    tokens += fmt::format("<span class=\"token\" style=\"--s:{:.2f}\" title=\"saves {}; skips {}\">{}</span>",
                          std::clamp((token.saving - low) / (high - low), 0.0, 1.0), Percent(token.saving, 1), skipped,
                          TokenHtml(token.text));
  }
  return Section(
      "A text as the gates see it",
      "The more ink, the more of the layers' cost was skipped for the token; what it skipped is shown under the "
      "pointer.",
      fmt::format("<p class=\"scale\">net saving of a token <span>{}</span><i class=\"ramp shades\"></i>"
                  "<span>{}</span></p>\n<p class=\"tokens\">{}</p>\n<div class=\"grid\">\n{}\n{}\n</div>\n",
                  Percent(low, 0), Percent(high, 0), tokens, RenderHeatMap(SampleMap(s, BranchKind::kAttention)),
                  RenderHeatMap(SampleMap(s, BranchKind::kMlp))));
}

template <typename Value>
ChartSeries LayerSeries(const GateStatistics& s, BranchKind kind, const std::string& name, ChartStyle style,
                        const Value& value) {
  ChartSeries series;
  series.name = name;
  series.color = kKindColors[Index(kind)];
  series.style = style;
  for (size_t b = Index(kind); b < s.branches.size(); b += 2) {
    series.curve.x.push_back(static_cast<double>(b - b % 2) / 2);
    series.curve.y.push_back(s.branches[b].gated ? value(s.branches[b]) : std::nan(""));
  }
  return series;
}

LineChart LayerChart(const std::string& title, const std::string& note, const std::string& y_name) {
  LineChart chart;
  chart.title = title;
  chart.note = note;
  chart.x_name = "layer";
  chart.y_name = y_name;
  chart.from_zero = true;
  return chart;
}

std::string DepthText(const GateStatistics& s) {
  std::string text;
  for (const BranchKind kind : kKinds) {
    const double r = s.DepthCorrelation(kind);
    if (std::isfinite(r)) {
      text += fmt::format("{}{} for {}", text.empty() ? "" : ", ", Signed(r, 2), kKindNames[Index(kind)]);
    }
  }
  return text.empty() ? text : " Correlation of a layer's number with its importance: " + text + ".";
}

std::string LayerSection(const GateStatistics& s) {
  LineChart importance = LayerChart("Mean importance", "Dashed: of the first token, which later ones lean on.", "s");
  LineChart skipped = LayerChart("Share of tokens that skip", "Gaps are branches without a gate: they always run.", "");
  skipped.y_name = "skipped";
  skipped.percent = true;
  for (const BranchKind kind : kKinds) {
    const std::string name = kKindNames[Index(kind)];
    importance.series.push_back(
        LayerSeries(s, kind, name, ChartStyle::kLineAndDots, [](const BranchStatistics& b) { return b.importance; }));
    importance.series.push_back(LayerSeries(s, kind, name + ", first token", ChartStyle::kDashed,
                                            [](const BranchStatistics& b) { return b.first_importance; }));
    skipped.series.push_back(
        LayerSeries(s, kind, name, ChartStyle::kLineAndDots, [](const BranchStatistics& b) { return b.skipped; }));
  }
  const auto named = [&](const auto& wanted) {
    return BranchList(s.branches.size(), [&](size_t b) { return s.branches[b].gated && wanted(s.branches[b]); });
  };
  std::string html = "<div class=\"grid\">\n" + RenderLineChart(importance) + "\n" + RenderLineChart(skipped) +
                     "\n</div>\n<ul class=\"reasons\">";
  html += "<li>Token-wise, skipped by 5 to 95 % of tokens: " +
          named([](const BranchStatistics& b) { return b.IsTokenWise(); }) + "</li>";
  html += "<li>Nearly always run: " + named([](const BranchStatistics& b) { return b.skipped < kNearlyNever; }) +
          "</li><li>Nearly always skipped: " +
          named([](const BranchStatistics& b) { return b.skipped > 1 - kNearlyNever; }) + "</li>";
  html += "<li>Without a gate: " + BranchList(s.branches.size(), [&](size_t b) { return !s.branches[b].gated; }) +
          "</li></ul>\n";
  std::vector<std::vector<std::string>> rows;
  for (size_t b = 0; b < s.branches.size(); ++b) {
    const BranchStatistics& branch = s.branches[b];
    const std::string name = fmt::format("{} {}", b / 2, kKindNames[b % 2]);
    if (!branch.gated) {
      rows.push_back({name, "no gate", "", "", "", ""});
      continue;
    }
    rows.push_back({name, branch.IsTokenWise() ? "token-wise" : "nearly static", Number(branch.importance, 3),
                    Number(branch.deviation, 3), Number(branch.first_importance, 3), ShadedPercent(branch.skipped)});
  }
  html += Details("All branches",
                  Table({"Layer, branch", "Kind", "Importance", "Deviation", "First token", "Skipped"}, rows, {0, 1}));
  return Section("By depth",
                 "Importance as the gates gave it at this budget; skips below are felt above." + DepthText(s), html);
}

std::vector<std::string> GroupCells(const RowGroup& g, uint64_t all) {
  return {HtmlEscape(g.name),
          Percent(all > 0 ? static_cast<double>(g.rows) / static_cast<double>(all) : 0, 1),
          Number(g.importance[0], 3),
          Number(g.importance[1], 3),
          ShadedPercent(g.skipped[0]),
          ShadedPercent(g.skipped[1]),
          Shade(g.saving, Percent(g.saving, 1)),
          Nats(g.own_nll),
          Nats(g.next_nll)};
}

std::string GroupTable(const std::vector<RowGroup>& groups, const std::string& what, uint64_t all) {
  std::vector<std::vector<std::string>> rows;
  for (const RowGroup& g : groups) {
    if (g.rows > 0) rows.push_back(GroupCells(g, all));
  }
  return Table(
      {what, "Tokens", "s, attention", "s, MLP", "Skip attention", "Skip MLP", "Net saving", "Own NLL", "Next NLL"},
      rows, {0});
}

std::string ClassTable(const GateStatistics& s, BranchKind kind) {
  std::vector<std::string> head = {"Layer"};
  for (const RowGroup& g : s.classes) {
    if (g.rows > 0) head.push_back(HtmlEscape(g.name));
  }
  std::vector<std::vector<std::string>> rows;
  for (size_t b = Index(kind); b < s.branches.size(); b += 2) {
    if (!s.branches[b].gated) continue;
    std::vector<std::string> row = {fmt::format("{}", b / 2)};
    for (size_t c = 0; c < s.classes.size(); ++c) {
      if (s.classes[c].rows > 0) row.push_back(ShadedPercent(s.skipped_by_class[b][c]));
    }
    rows.push_back(std::move(row));
  }
  return Table(head, rows, {});
}

std::string TokenSection(const GateStatistics& s) {
  std::string html = GroupTable(s.classes, "Kind of token", s.tokens);
  for (const BranchKind kind : kKinds) {
    html +=
        Details(fmt::format("Skips of {} by layer and kind of token", kKindNames[Index(kind)]), ClassTable(s, kind));
  }
  return Section(
      "By kind of token",
      "s: mean importance. Own NLL: how surprising the token was; next NLL: how hard the one after it was to "
      "predict, both in nats.",
      html);
}

std::string PositionSection(const GateStatistics& s) {
  LineChart chart;
  chart.title = "Share of gated branches skipped, along the window";
  chart.x_name = "position";
  chart.y_name = "skipped";
  chart.percent = true;
  chart.from_zero = true;
  for (const BranchKind kind : kKinds) {
    ChartSeries series;
    series.name = kKindNames[Index(kind)];
    series.color = kKindColors[Index(kind)];
    series.style = ChartStyle::kLineAndDots;
    const double width = static_cast<double>(s.window) / static_cast<double>(s.skipped_along.size());
    for (size_t i = 0; i < s.skipped_along.size(); ++i) {
      series.curve.x.push_back(std::round((static_cast<double>(i) + 0.5) * width));
      series.curve.y.push_back(s.skipped_along[i][Index(kind)]);
    }
    chart.series.push_back(std::move(series));
  }
  return Section("By position",
                 fmt::format("The first {} of a sequence always {} everything, as the adapter says.",
                             s.always_run_positions == 1 ? "token" : fmt::format("{} tokens", s.always_run_positions),
                             s.always_run_positions == 1 ? "runs" : "run"),
                 RenderLineChart(chart) + GroupTable(s.positions, "Position", s.tokens));
}

std::string SurpriseSection(const GateStatistics& s) {
  LineChart chart;
  chart.title = "Compute of a token over its NLL";
  chart.note = "Tokens in order of NLL, a tenth of them a point.";
  chart.x_name = "NLL, nats";
  chart.y_name = "share of the layers' cost spent";
  chart.percent = true;
  chart.whole_x = false;
  const auto add = [&](const SurpriseStatistics& surprise, const std::string& name, const std::string& color) {
    ChartSeries series;
    series.name = fmt::format("{}, correlation {}", name, Signed(surprise.correlation, 2));
    series.color = color;
    series.style = ChartStyle::kLineAndDots;
    for (const SurpriseBin& bin : surprise.bins) {
      series.curve.x.push_back(bin.nll);
      series.curve.y.push_back(bin.compute);
    }
    chart.series.push_back(std::move(series));
  };
  add(s.by_own_nll, "of the token itself", "blue");
  add(s.by_next_nll, "of the token after it", "orange");
  return Section("By surprise",
                 "Does a token that was hard to foresee, or one before something hard to foresee, get more compute?",
                 RenderLineChart(chart));
}

std::string DriftSection(const GateStatistics& s) {
  if (s.budgets.empty()) return "";
  LineChart chart;
  chart.title = "Net saving over the saving requested";
  chart.note = "Above 0: more is saved, and lost in quality, than was asked for.";
  chart.x_name = "requested, %";
  chart.y_name = "net − requested, points";
  chart.whole_x = false;
  std::vector<std::string> head = {"Text", "Tokens"};
  for (const double budget : s.budgets) head.push_back(BudgetText(budget));
  std::vector<std::vector<std::string>> rows;
  for (size_t t = 0; t < s.texts.size(); ++t) {
    const TextDrift& text = s.texts[t];
    ChartSeries series;
    series.name = text.path;
    series.color = fmt::format("cat{}", t % 8);
    series.style = ChartStyle::kLineAndDots;
    rows.push_back({HtmlEscape(text.path), Amount(static_cast<int64_t>(text.tokens))});
    for (size_t i = 0; i < s.budgets.size(); ++i) {
      series.curve.x.push_back(100 * s.budgets[i]);
      series.curve.y.push_back(100 * (text.net[i] - s.budgets[i]));
      rows.back().push_back(Number(100 * text.net[i], 1));
    }
    chart.series.push_back(std::move(series));
  }
  Curve zero = {{100 * s.budgets.front(), 100 * s.budgets.back()}, {0, 0}};
  chart.series.push_back({"as requested", std::move(zero), "muted", ChartStyle::kDashed});
  return Section("Does a budget hold on other texts?",
                 "The adapter's thresholds were set on its calibration text. Net saving in percent, below the saving "
                 "requested.",
                 RenderLineChart(chart) + Table(head, rows, {0}));
}

}  // namespace

std::string RenderGateReport(const GateStatistics& s) {
  std::string html = Header(s) + SampleSection(s) + LayerSection(s) + TokenSection(s) + PositionSection(s) +
                     SurpriseSection(s) + DriftSection(s);
  html +=
      "<footer><p>Made by <code>gateskip analyze</code>. Net saving: the share of the ungated model's layer cost that "
      "was not executed, gates included.</p></footer>\n";
  return HtmlPage(s.model + ", what the gates learned", html);
}

}  // namespace gateskip
