// SPDX-License-Identifier: Apache-2.0
#include "analysis/svg_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "analysis/chart_parts.h"
#include "analysis/html_page.h"

namespace gateskip {
namespace {

constexpr double kBox = kChartBox;
constexpr int kLineHeight = 260;     // CSS pixels, as the style sheet has it
constexpr double kLabelHeight = 15;  // of a label at the end of a line
constexpr int kTickPieces = 6;
constexpr int kHeatLevels = 20;
constexpr size_t kMaxLabelledRows = 12;

Range XRange(const LineChart& chart) {
  Range range;
  if (chart.x_low < chart.x_high) return {chart.x_low, chart.x_high};
  for (const ChartSeries& s : chart.series) {
    for (const double x : s.curve.x) {
      if (Drawable(x)) range.Add(x);
    }
  }
  if (range.low == range.high) range = {range.low - 0.5, range.high + 0.5};
  return range;
}

Range YRange(const LineChart& chart) {
  Range range;
  for (const ChartSeries& s : chart.series) {
    std::vector<double> seen;
    for (const double y : s.curve.y) {
      if (Drawable(y) && (!chart.log_y || HasLogarithm(y))) seen.push_back(y);
    }
    if (seen.empty()) continue;
    const bool dots = s.style == ChartStyle::kDots;
    range.Add(Quantile(seen, dots ? 0.01 : 0.0));
    range.Add(Quantile(seen, dots ? 0.99 : 1.0));
  }
  if (!range.empty() && chart.from_zero && !chart.log_y) range.Add(0.0);
  return range;
}

Axis XAxis(double low, double high, bool whole) {
  const double spacing = TickSpacing(high - low, kTickPieces);
  return {low, high, whole ? std::max(1.0, spacing) : spacing};
}

std::string LinePath(const Curve& curve, const Axis& x, const Axis& y) {
  std::string path;
  bool pen_down = false;
  for (size_t i = 0; i < curve.x.size(); ++i) {
    if (!Drawable(curve.y[i]) || !x.Holds(curve.x[i]) || !y.Holds(curve.y[i])) {
      pen_down = false;
      continue;
    }
    path +=
        fmt::format("{}{:.1f} {:.1f}", pen_down ? 'L' : 'M', kBox * x.At(curve.x[i]), kBox * (1 - y.At(curve.y[i])));
    pen_down = true;
  }
  return path;
}

// A line of no length with round ends: round however the picture is stretched, as widths are not.
std::string DotPath(const Curve& curve, const Axis& x, const Axis& y) {
  std::string path;
  for (size_t i = 0; i < curve.x.size(); ++i) {
    if (!Drawable(curve.y[i]) || !x.Holds(curve.x[i]) || !y.Holds(curve.y[i])) continue;
    path += fmt::format("M{:.1f} {:.1f}h.01", kBox * x.At(curve.x[i]), kBox * (1 - y.At(curve.y[i])));
  }
  return path;
}

std::string_view StyleName(ChartStyle style) {
  switch (style) {
    case ChartStyle::kLine:
      return "line";
    case ChartStyle::kDashed:
      return "dashed";
    case ChartStyle::kDots:
      return "dots";
    case ChartStyle::kLineAndDots:
      return "points";
  }
  return "line";
}

std::string Legend(const LineChart& chart) {
  std::string items;
  for (const ChartSeries& s : chart.series) {
    if (s.name_place != ChartSeries::Name::kInLegend) continue;
    items += fmt::format("<li><i class=\"key {} c-{}\"></i>{}</li>", StyleName(s.style), s.color, HtmlEscape(s.name));
  }
  return items.empty() ? "" : "<ul class=\"legend\">" + items + "</ul>";
}

// Labels at the ends of lines, moved apart where they would cover each other.
std::string EndLabels(const LineChart& chart, const Axis& y) {
  struct Label {
    double top;  // pixels from the upper edge
    const ChartSeries* series;
  };
  std::vector<Label> labels;
  for (const ChartSeries& s : chart.series) {
    if (s.name_place != ChartSeries::Name::kAtEnd) continue;
    for (size_t i = s.curve.y.size(); i-- > 0;) {
      if (!Drawable(s.curve.y[i]) || !y.Holds(s.curve.y[i])) continue;
      labels.push_back({kLineHeight * (1 - y.At(s.curve.y[i])), &s});
      break;
    }
  }
  std::stable_sort(labels.begin(), labels.end(), [](const Label& a, const Label& b) { return a.top < b.top; });
  std::vector<double> tops;
  tops.reserve(labels.size());
  for (const Label& label : labels) tops.push_back(label.top);
  SpreadLabels(&tops, kLabelHeight, kLineHeight + kLabelHeight / 2);
  std::string html;
  for (size_t i = 0; i < labels.size(); ++i) {
    html += fmt::format("<span class=\"end c-{}\" style=\"top:{:.1f}%\">{}</span>", labels[i].series->color,
                        100 * tops[i] / kLineHeight, HtmlEscape(labels[i].series->name));
  }
  return html;
}

std::string HoverData(const LineChart& chart, const Axis& x) {
  std::string json = fmt::format("{{\"kind\":\"lines\",\"low\":{:.10g},\"high\":{:.10g},\"percent\":{},\"name\":{},",
                                 x.low, x.high, chart.percent, JsonText(chart.x_name));
  json += "\"series\":[";
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const ChartSeries& s = chart.series[i];
    json += fmt::format("{}{{\"name\":{},\"color\":\"{}\",\"x\":{},\"y\":{}}}", i > 0 ? "," : "", JsonText(s.name),
                        s.color, JsonNumbers(s.curve.x, 10), JsonNumbers(s.curve.y, 5));
  }
  json += "],\"marks\":[";
  for (size_t i = 0; i < chart.marks.size(); ++i) {
    json += fmt::format("{}{{\"x\":{:.10g},\"text\":{}}}", i > 0 ? "," : "", chart.marks[i].x,
                        JsonText(chart.marks[i].text));
  }
  return json + "]}";
}

}  // namespace

std::string RenderLineChart(const LineChart& chart) {
  std::string html = "<figure>" + ChartCaption(chart.title, chart.note) + Legend(chart);
  const Range x_range = XRange(chart);
  const Range y_range = YRange(chart);
  if (x_range.empty() || y_range.empty()) return html + "<p class=\"none\">No values yet.</p></figure>";
  const Axis x = XAxis(x_range.low, x_range.high, chart.whole_x);
  const Axis y = RoundAxis(y_range, chart.log_y, kTickPieces - 1);

  const bool labels = std::any_of(chart.series.begin(), chart.series.end(),
                                  [](const auto& s) { return s.name_place == ChartSeries::Name::kAtEnd; });
  html += fmt::format("<p class=\"y-name\">{}</p><div class=\"plot{}\"><div class=\"area\">", HtmlEscape(chart.y_name),
                      labels ? " ends" : "");
  const YGrid grid = MakeYGrid(y, chart.percent);
  html += OpenSvg(chart.title);
  AddPath(html, "grid", grid.path);
  std::string notes;
  std::string alarms;
  for (const ChartMark& mark : chart.marks) {
    if (!x.Holds(mark.x)) continue;
    (mark.alarm ? alarms : notes) += fmt::format("M{:.1f} 0V{}", kBox * x.At(mark.x), kBox);
  }
  AddPath(html, "note", notes);
  AddPath(html, "alarm", alarms);
  for (const ChartSeries& s : chart.series) {
    if (s.style != ChartStyle::kDots) {
      AddPath(html, fmt::format("{} c-{}", s.style == ChartStyle::kDashed ? "line dashed" : "line", s.color),
              LinePath(s.curve, x, y));
    }
    if (s.style == ChartStyle::kDots || s.style == ChartStyle::kLineAndDots) {
      AddPath(html, fmt::format("{} c-{}", s.style == ChartStyle::kDots ? "dots" : "points", s.color),
              DotPath(s.curve, x, y));
    }
  }
  html += "</svg>" + grid.labels + XLabels(x, chart.x_name) + EndLabels(chart, y) + "<i class=\"rule\"></i></div>";
  return html + "<script type=\"application/json\">" + HoverData(chart, x) + "</script></div></figure>";
}

std::string RenderHeatMap(const HeatMap& map) {
  std::string html = "<figure>" + ChartCaption(map.title, map.note);
  const size_t rows = map.cells.size();
  const size_t columns = map.edges.empty() ? 0 : map.edges.size() - 1;
  if (rows == 0 || columns == 0 || !(map.edges.front() < map.edges.back())) {
    return html + "<p class=\"none\">No values yet.</p></figure>";
  }
  const Axis x = XAxis(map.edges.front(), map.edges.back(), true);
  const double height = kBox / static_cast<double>(rows);
  // One path per level: neighbours of a row with the same level are one rectangle.
  std::vector<std::string> levels(kHeatLevels + 1);
  std::string values;
  for (size_t r = 0; r < rows; ++r) {
    values += r > 0 ? ",[" : "[";
    const auto level_at = [&](size_t c) {
      const float v = c < map.cells[r].size() ? map.cells[r][c] : std::nanf("");
      return v >= 0 && v <= 1 ? static_cast<int>(std::lround(v * kHeatLevels)) : -1;
    };
    for (size_t c = 0, end = 0; c < columns; c = end) {
      const int level = level_at(c);
      for (end = c + 1; end < columns && level_at(end) == level;) ++end;
      if (level <= 0) continue;
      const double left = kBox * x.At(map.edges[c]);
      levels[static_cast<size_t>(level)] +=
          fmt::format("M{:.1f} {:.1f}H{:.1f}v{:.1f}H{:.1f}z", left, height * static_cast<double>(r),
                      kBox * x.At(map.edges[end]), height, left);
    }
    for (size_t c = 0; c < columns; ++c) {
      const float v = c < map.cells[r].size() ? map.cells[r][c] : std::nanf("");
      values += fmt::format("{}{}", c > 0 ? "," : "", v >= 0 && v <= 1 ? std::lround(v * 100) : -1);
    }
    values += "]";
  }
  html += fmt::format(
      "<p class=\"scale\">{} <span>0 %</span><i class=\"ramp\"></i><span>100 %</span></p>"
      "<p class=\"y-name\">{}</p><div class=\"plot heat\" style=\"--rows:{}\"><div class=\"area\">",
      HtmlEscape(map.value_name), HtmlEscape(map.row_name), rows);
  html += OpenSvg(map.title) + fmt::format("<path class=\"ground\" d=\"M0 0H{0}V{0}H0z\"/>", kBox);
  for (size_t level = 1; level < levels.size(); ++level) {
    if (levels[level].empty()) continue;
    html += fmt::format("<path class=\"cell\" fill-opacity=\"{:.2f}\" d=\"{}\"/>",
                        static_cast<double>(level) / kHeatLevels, levels[level]);
  }
  html += "</svg>";
  const size_t every =
      std::max<size_t>(1, static_cast<size_t>(TickSpacing(static_cast<double>(rows), kMaxLabelledRows)));
  for (size_t r = 0; r < rows; r += every) {
    html += fmt::format("<span class=\"y\" style=\"top:{:.2f}%\">{}</span>",
                        100 * (static_cast<double>(r) + 0.5) / static_cast<double>(rows), r);
  }
  html += XLabels(x, map.x_name) + "<i class=\"rule\"></i></div>";
  return html +
         fmt::format(
             "<script type=\"application/json\">{{\"kind\":\"heat\",\"low\":{:.10g},\"high\":{:.10g},\"name\":{},"
             "\"row\":{},\"value\":{},\"edges\":{},\"cells\":[{}]}}</script></div></figure>",
             x.low, x.high, JsonText(map.x_name), JsonText(map.row_name), JsonText(map.value_name),
             JsonNumbers(map.edges, 10), values);
}

}  // namespace gateskip
