// SPDX-License-Identifier: Apache-2.0
// Quality against cost: a line with marked points and error bars for every arm, named at its end, over horizontal lines
// of reference. A fragment as svg_chart.h describes; where there is no room beside the picture a legend has the names.
#pragma once

#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace gateskip {

struct ParetoPoint {
  double x = 0;
  double y = 0;
  double error = std::numeric_limits<double>::quiet_NaN();  // half of the bar; NaN: none
  std::string name;                                         // "gates, 25 %"
  std::vector<std::pair<std::string, std::string>> facts;   // shown under the pointer
};

struct ParetoSeries {
  std::string name;
  size_t look = 0;                  // which colour and marker; kParetoLooks differ
  bool strong = false;              // the one the page is about
  std::vector<ParetoPoint> points;  // joined in this order; one that is not finite is left out
};

struct ParetoLine {
  std::string name;
  double y = 0;
  double error = std::numeric_limits<double>::quiet_NaN();  // half of the band around it; NaN: none
  bool dotted = false;
};

struct ParetoChart {
  std::string title;
  std::string note;
  std::string x_name, y_name;
  bool log_y = false;
  bool percent = false;    // y is a share
  bool from_zero = false;  // 0 is on the x axis, and marked
  std::vector<ParetoSeries> series;
  std::vector<ParetoLine> lines;
};

// 0 has a colour of its own; the others share 7 colours and 7 markers, no two of them alike.
inline constexpr size_t kParetoLooks = 50;
// One more, for what the others are held against: its name is that of a line, not its own.
inline constexpr size_t kReferenceLook = 50;
// Of a legend or a table: the marker in its colour.
std::string ParetoKey(size_t look);

std::string RenderParetoChart(const ParetoChart& chart);

}  // namespace gateskip
