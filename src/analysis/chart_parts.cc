// SPDX-License-Identifier: Apache-2.0
#include "analysis/chart_parts.h"

#include <fmt/format.h>

#include <algorithm>

#include "analysis/html_page.h"

namespace gateskip {
namespace {

constexpr int kMaxTicks = 100;

// 1, 2 or 5 times a power of ten at or above (below) `v`.
double RoundMantissa(double v, bool up) {
  const double power = std::pow(10.0, std::floor(std::log10(v)));
  double best = up ? 10 * power : power;
  for (const double m : {1.0, 2.0, 5.0}) {
    if (up && m * power >= v * (1 - 1e-9)) return m * power;
    if (!up && m * power <= v * (1 + 1e-9)) best = m * power;
  }
  return best;
}

}  // namespace

Axis RoundAxis(Range range, bool log, int pieces) {
  Axis axis;
  axis.log = log;
  if (log) {
    if (range.high < range.low * 1.5) range = {range.low / 1.5, range.high * 1.5};
    axis.low = RoundMantissa(range.low, false);
    axis.high = RoundMantissa(range.high, true);
    return axis;
  }
  const double least = std::max(1e-6 * std::max(std::abs(range.low), std::abs(range.high)), 1e-12);
  if (range.high - range.low < least) range = {range.low - least, range.high + least};
  axis.spacing = TickSpacing(range.high - range.low, pieces);
  axis.low = std::floor(range.low / axis.spacing + 1e-9) * axis.spacing;
  axis.high = std::ceil(range.high / axis.spacing - 1e-9) * axis.spacing;
  return axis;
}

double TickSpacing(double span, int pieces) {
  const double raw = span / pieces;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double step : {1.0, 2.0, 5.0}) {
    if (step * power >= raw * (1 - 1e-9)) return step * power;
  }
  return 10 * power;
}

std::vector<double> LinearTicks(double low, double high, double spacing) {
  std::vector<double> ticks;
  const double first = std::ceil(low / spacing - 1e-9);
  const double last = std::floor(high / spacing + 1e-9);
  for (int i = 0; i <= last - first && i < kMaxTicks; ++i) ticks.push_back((first + i) * spacing + 0.0);  // no -0
  return ticks;
}

std::vector<double> LogTicks(double low, double high) {
  const auto between = [&](std::initializer_list<double> mantissas, int every) {
    std::vector<double> ticks;
    const int first = static_cast<int>(std::floor(std::log10(low)));
    const int last = static_cast<int>(std::ceil(std::log10(high)));
    for (int e = first; e <= last; e += every) {
      for (const double m : mantissas) {
        const double tick = m * std::pow(10.0, e);
        if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) ticks.push_back(tick);
      }
    }
    return ticks;
  };
  const int decades = static_cast<int>(std::log10(high / low));
  std::vector<double> ticks = between({1.0}, 1 + decades / 8);
  return ticks.size() >= 3 ? ticks : between({1.0, 2.0, 5.0}, 1);
}

std::string TickText(double value, double spacing) {
  const double magnitude = std::abs(value);
  if (magnitude >= 1e9 || (magnitude > 0 && magnitude < 1e-4)) return fmt::format("{:.4g}", value);
  const auto decimals = [](double step) {
    return std::clamp(static_cast<int>(std::ceil(-std::log10(step) - 1e-9)), 0, 9);
  };
  if (magnitude >= 1e6 && spacing >= 1e4) return fmt::format("{:.{}f}M", value / 1e6, decimals(spacing / 1e6));
  if (magnitude >= 1e4 && spacing >= 1e2) return fmt::format("{:.{}f}k", value / 1e3, decimals(spacing / 1e3));
  return fmt::format("{:.{}f}", value, decimals(spacing));
}

void SpreadLabels(std::vector<double>* tops, double height, double limit) {
  for (size_t i = 1; i < tops->size(); ++i) (*tops)[i] = std::max((*tops)[i], (*tops)[i - 1] + height);
  for (size_t i = tops->size(); i-- > 0; limit = (*tops)[i] - height) (*tops)[i] = std::min((*tops)[i], limit);
}

void AddPath(std::string& html, std::string_view classes, const std::string& path) {
  if (!path.empty()) html += fmt::format("<path class=\"{}\" d=\"{}\"/>", classes, path);
}

std::string ChartCaption(const std::string& title, const std::string& note) {
  std::string html = fmt::format("<figcaption><h3>{}</h3>", HtmlEscape(title));
  if (!note.empty()) html += fmt::format("<p>{}</p>", HtmlEscape(note));
  return html + "</figcaption>";
}

std::string OpenSvg(const std::string& label) {
  return fmt::format("<svg viewBox=\"0 0 {0} {0}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{1}\">",
                     kChartBox, HtmlEscape(label));
}

std::string XLabels(const Axis& x, const std::string& name) {
  std::string html;
  for (const double tick : LinearTicks(x.low, x.high, x.spacing)) {
    html +=
        fmt::format("<span class=\"x\" style=\"left:{:.2f}%\">{}</span>", 100 * x.At(tick), TickText(tick, x.spacing));
  }
  return html + fmt::format("<span class=\"x-name\">{}</span>", HtmlEscape(name));
}

YGrid MakeYGrid(const Axis& y, bool percent) {
  YGrid grid;
  const double factor = percent ? 100 : 1;
  for (const double tick : y.log ? LogTicks(y.low, y.high) : LinearTicks(y.low, y.high, y.spacing)) {
    const double top = 1 - y.At(tick);
    grid.path += fmt::format("M0 {:.1f}H{}", kChartBox * top, kChartBox);
    grid.labels += fmt::format("<span class=\"y\" style=\"top:{:.2f}%\">{}{}</span>", 100 * top,
                               TickText(factor * tick, factor * (y.log ? tick : y.spacing)), percent ? " %" : "");
  }
  return grid;
}

std::string JsonText(std::string_view text) {
  std::string json = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\' || c == '<' || static_cast<unsigned char>(c) < 0x20) {
      json += fmt::format("\\u{:04x}", static_cast<unsigned>(c));  // a '<' would end the script element
    } else {
      json += c;
    }
  }
  return json + "\"";
}

std::string JsonNumbers(const std::vector<double>& values, int digits) {
  std::string json = "[";
  for (size_t i = 0; i < values.size(); ++i) {
    if (i > 0) json += ',';
    json += Drawable(values[i]) ? fmt::format("{:.{}g}", values[i], digits) : "null";
  }
  return json + "]";
}

}  // namespace gateskip
