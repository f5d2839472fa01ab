// SPDX-License-Identifier: Apache-2.0
#include "analysis/pareto_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "analysis/chart_parts.h"
#include "analysis/html_page.h"

namespace gateskip {
namespace {

constexpr double kBox = kChartBox;
constexpr double kHeight = 374;      // CSS pixels of the area, as the style sheet has it
constexpr double kLabelHeight = 16;  // of a name beside the picture
constexpr size_t kMaxNamed = 22;     // names there is room for; beyond, only the legend has them
constexpr int kXTicks = 8;
constexpr int kYTicks = 6;
constexpr size_t kRivalLooks = 7;  // colours, and markers

bool Shown(const ParetoChart& chart, double y) { return Drawable(y) && (!chart.log_y || HasLogarithm(y)); }

Axis XAxis(const ParetoChart& chart) {
  Range range;
  if (chart.from_zero) range.Add(0);
  for (const ParetoSeries& s : chart.series) {
    for (const ParetoPoint& p : s.points) {
      if (Drawable(p.x) && Shown(chart, p.y)) range.Add(p.x);
    }
  }
  if (range.empty()) return {0, 0};
  const double least = std::max(1e-6 * std::max(std::abs(range.low), std::abs(range.high)), 1e-12);
  const double span = range.high - range.low > least ? range.high - range.low : std::max(1.0, 1e3 * least);
  range = {range.low - 0.03 * span, range.high + 0.03 * span};
  return {range.low, range.high, TickSpacing(range.high - range.low, kXTicks)};
}

Range YRange(const ParetoChart& chart) {
  Range range;
  const auto add = [&](double y, double error) {
    if (!Shown(chart, y)) return;
    range.Add(y);
    for (const double end : {y - error, y + error}) {
      if (Shown(chart, end) && (!chart.log_y || end > y / 10)) range.Add(end);
    }
  };
  for (const ParetoSeries& s : chart.series) {
    for (const ParetoPoint& p : s.points) add(p.y, p.error);
  }
  for (const ParetoLine& line : chart.lines) add(line.y, line.error);
  return range;
}

// The picture's place of a value that may lie beyond its edges.
double Top(const Axis& y, double v) {
  if (y.log && v <= y.low) return kBox;
  return kBox * (1 - std::clamp(y.At(v), 0.0, 1.0));
}

std::string Place(double left, double top) {
  return fmt::format("style=\"left:{:.2f}%;top:{:.2f}%\"", 100 * left / kBox, 100 * top / kBox);
}

std::string ColorClass(size_t look) {
  if (look == kReferenceLook) return "c-ink";
  return fmt::format("c-cat{}", look == 0 ? 0 : 1 + (look - 1) % kRivalLooks);
}

std::string LookClasses(size_t look) {
  const size_t marker = look == 0 || look == kReferenceLook ? 0 : (look + (look - 1) / kRivalLooks) % kRivalLooks;
  return fmt::format("mark m{} {}", marker, ColorClass(look));
}

// Everything of one arm, so that the script can dim the others.
struct Drawing {
  std::string paths;  // SVG
  std::string marks;  // HTML over it
  double end_x = -1;  // of the point furthest to the right
  double end_y = 0;
};

Drawing Draw(const ParetoChart& chart, size_t index, const Axis& x, const Axis& y) {
  const ParetoSeries& s = chart.series[index];
  Drawing drawing;
  std::string line;
  std::string bars;
  for (const ParetoPoint& p : s.points) {
    if (!Drawable(p.x) || !Shown(chart, p.y)) continue;
    const double left = kBox * x.At(p.x);
    const double top = Top(y, p.y);
    line += fmt::format("{}{:.1f} {:.1f}", line.empty() ? 'M' : 'L', left, top);
    if (Drawable(p.error) && p.error > 0) {
      bars += fmt::format("M{:.1f} {:.1f}V{:.1f}", left, Top(y, p.y + p.error), Top(y, p.y - p.error));
    }
    drawing.marks += fmt::format("<i class=\"{}\" data-s=\"{}\" {}></i>",
                                 LookClasses(s.look) + (s.strong ? " strong" : ""), index, Place(left, top));
    if (left > drawing.end_x) {
      drawing.end_x = left;
      drawing.end_y = top;
    }
  }
  drawing.paths = fmt::format("<g data-s=\"{}\">", index);
  AddPath(drawing.paths, "bar " + ColorClass(s.look), bars);
  AddPath(drawing.paths, (s.strong ? "line strong " : "line ") + ColorClass(s.look), line);
  drawing.paths += "</g>";
  return drawing;
}

struct Name {
  double top;     // pixels from the upper edge
  double from_x;  // where the thread to the name begins; beyond the box: no thread
  double from_y;
  std::string classes;
  std::string text;
  std::string arm;  // index of the series, or empty
};

// Names beside the picture, each with a thread from the last point of its line.
std::string Names(std::vector<Name> names, std::string* threads) {
  std::stable_sort(names.begin(), names.end(), [](const Name& a, const Name& b) { return a.top < b.top; });
  std::vector<double> tops;
  tops.reserve(names.size());
  for (const Name& n : names) tops.push_back(n.top);
  SpreadLabels(&tops, kLabelHeight, kHeight + kLabelHeight / 2);
  std::string html;
  for (size_t i = 0; i < names.size(); ++i) {
    const Name& n = names[i];
    const std::string arm = n.arm.empty() ? "" : fmt::format(" data-s=\"{}\"", n.arm);
    html += fmt::format("<span class=\"end {}\"{} style=\"top:{:.1f}%\">{}</span>", n.classes, arm,
                        100 * tops[i] / kHeight, HtmlEscape(n.text));
    *threads += fmt::format("<path class=\"thread {}\"{} d=\"M{:.1f} {:.1f}L{} {:.1f}\"/>", n.classes, arm,
                            std::min(n.from_x, kBox), n.from_y, kBox, kBox * tops[i] / kHeight);
  }
  return html;
}

std::string Legend(const ParetoChart& chart, bool always) {
  std::string items;
  for (const ParetoSeries& s : chart.series) {
    if (s.look == kReferenceLook) continue;
    items += fmt::format("<li>{}{}</li>", ParetoKey(s.look), HtmlEscape(s.name));
  }
  for (const ParetoLine& line : chart.lines) {
    items += fmt::format("<li><i class=\"key {} c-ink\"></i>{}</li>", line.dotted ? "dotted" : "dashed",
                         HtmlEscape(line.name));
  }
  return fmt::format("<ul class=\"legend{}\">{}</ul>", always ? "" : " narrow", items);
}

std::string HoverData(const ParetoChart& chart, const Axis& x, const Axis& y) {
  std::string json = "{\"kind\":\"points\",\"points\":[";
  bool first = true;
  for (size_t s = 0; s < chart.series.size(); ++s) {
    for (const ParetoPoint& p : chart.series[s].points) {
      if (!Drawable(p.x) || !Shown(chart, p.y)) continue;
      json += fmt::format("{}{{\"s\":{},\"x\":{:.4f},\"y\":{:.4f},\"name\":{},\"facts\":[", first ? "" : ",", s,
                          x.At(p.x), Top(y, p.y) / kBox, JsonText(p.name));
      for (size_t f = 0; f < p.facts.size(); ++f) {
        json += fmt::format("{}[{},{}]", f > 0 ? "," : "", JsonText(p.facts[f].first), JsonText(p.facts[f].second));
      }
      json += "]}";
      first = false;
    }
  }
  return json + "]}";
}

}  // namespace

std::string ParetoKey(size_t look) { return fmt::format("<i class=\"{}\"></i>", LookClasses(look)); }

std::string RenderParetoChart(const ParetoChart& chart) {
  const Axis x = XAxis(chart);
  const Range y_range = YRange(chart);
  std::string html = "<figure>" + ChartCaption(chart.title, chart.note);
  if (!(x.low < x.high) || y_range.empty()) return html + "<p class=\"none\">No values.</p></figure>";
  const Axis y = RoundAxis(y_range, chart.log_y, kYTicks);
  const bool named = chart.series.size() + chart.lines.size() <= kMaxNamed;

  const YGrid grid = MakeYGrid(y, chart.percent);
  std::string svg = OpenSvg(chart.title);
  AddPath(svg, "grid", grid.path);
  if (chart.from_zero) AddPath(svg, "zero", fmt::format("M{:.1f} 0V{}", kBox * x.At(0), kBox));
  std::vector<Name> names;
  for (const ParetoLine& line : chart.lines) {
    if (!Shown(chart, line.y)) continue;
    const double top = Top(y, line.y);
    if (Drawable(line.error) && line.error > 0) {
      AddPath(svg, "band",
              fmt::format("M0 {0:.1f}H{2}V{1:.1f}H0z", Top(y, line.y + line.error), Top(y, line.y - line.error), kBox));
    }
    AddPath(svg, line.dotted ? "line dotted c-ink" : "line dashed c-ink", fmt::format("M0 {:.1f}H{}", top, kBox));
    names.push_back({kHeight * top / kBox, kBox, top, "c-ink", line.name, ""});
  }
  std::string marks;
  // The strong one last, over the others.
  for (const bool strong : {false, true}) {
    for (size_t s = 0; s < chart.series.size(); ++s) {
      if (chart.series[s].strong != strong) continue;
      const Drawing drawing = Draw(chart, s, x, y);
      svg += drawing.paths;
      marks += drawing.marks;
      if (drawing.end_x < 0 || chart.series[s].look == kReferenceLook) continue;
      names.push_back({kHeight * drawing.end_y / kBox, drawing.end_x, drawing.end_y, ColorClass(chart.series[s].look),
                       chart.series[s].name, fmt::format("{}", s)});
    }
  }
  std::string labels;
  std::string threads;
  if (named) labels = Names(std::move(names), &threads);
  html += Legend(chart, !named);
  html += fmt::format("<p class=\"y-name\">{}</p><div class=\"plot pareto{}\"><div class=\"area\">",
                      HtmlEscape(chart.y_name), named ? " named" : "");
  html += svg + threads + "</svg>" + grid.labels + XLabels(x, chart.x_name) + labels + marks + "</div>";
  return html + "<script type=\"application/json\">" + HoverData(chart, x, y) + "</script></div></figure>";
}

}  // namespace gateskip
