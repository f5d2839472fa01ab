// SPDX-License-Identifier: Apache-2.0
// What every kind of chart is made of: axes that end at round numbers, and pieces of SVG, HTML and JSON.
#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace gateskip {

inline constexpr double kChartBox = 1000;  // of the viewBox, both ways
inline constexpr double kChartHuge = 1e30;

// Whether it has a place on a linear and on a logarithmic axis.
inline bool Drawable(double v) { return std::abs(v) <= kChartHuge; }
inline bool HasLogarithm(double v) { return v >= 1 / kChartHuge; }

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void Add(double v) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  bool empty() const { return !(low <= high); }
};

// From data to shares of the picture: 0 is left or bottom, 1 right or top.
struct Axis {
  double low = 0;
  double high = 1;
  double spacing = 1;  // of the ticks, unless log
  bool log = false;

  double At(double v) const {
    if (log) return (std::log10(v) - std::log10(low)) / (std::log10(high) - std::log10(low));
    return (v - low) / (high - low);
  }
  bool Holds(double v) const {
    const double at = At(v);
    return at >= -1e-6 && at <= 1 + 1e-6;
  }
};

// Holds the range, which is not empty (nor below 0 if `log`), and ends at round numbers, some `pieces` ticks apart.
Axis RoundAxis(Range range, bool log, int pieces);

// 1, 2 or 5 times a power of ten: the least one by which `span` is cut into at most `pieces`. Both above 0.
double TickSpacing(double span, int pieces);
// The multiples of `spacing` in [low, high].
std::vector<double> LinearTicks(double low, double high, double spacing);
// Powers of ten, with 2 and 5 times them where there would be fewer than three. 0 < low < high.
std::vector<double> LogTicks(double low, double high);
// "0.25", "1500", "20k", "1.5M": as many decimals as ticks `spacing` apart need to differ.
std::string TickText(double value, double spacing);

// Labels that would cover each other are moved apart: `tops` in pixels, ascending, at least `height` apart afterwards
// and none beyond `limit` if there is room for all.
void SpreadLabels(std::vector<double>* tops, double height, double limit);

// "<path>", or nothing for an empty one.
void AddPath(std::string& html, std::string_view classes, const std::string& path);
std::string ChartCaption(const std::string& title, const std::string& note);
// The tag that opens the stretched picture.
std::string OpenSvg(const std::string& label);
// Numbers along the lower edge, and what they count.
std::string XLabels(const Axis& x, const std::string& name);
// Lines across and their numbers. A share is shown as percent.
struct YGrid {
  std::string path;
  std::string labels;
};
YGrid MakeYGrid(const Axis& y, bool percent);

// As they stand in a script element.
std::string JsonText(std::string_view text);
std::string JsonNumbers(const std::vector<double>& values, int digits);  // not drawable: null

}  // namespace gateskip
