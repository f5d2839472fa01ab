// SPDX-License-Identifier: Apache-2.0
// Line charts and heat maps as fragments of an HTML page (html_page.h), which brings their style and the script that
// shows values under the pointer; without the script they are complete but for that.
//
// The SVG holds shapes only and is stretched to the room there is; labels are HTML over it, so that text keeps its size
// on a phone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "analysis/series.h"

namespace gateskip {

enum class ChartStyle { kLine, kDashed, kDots, kLineAndDots };

struct ChartSeries {
  std::string name;
  Curve curve;        // NaN is a gap; beyond +-1e30 counts as NaN
  std::string color;  // a colour of the page: "blue", "orange", "ink", "muted", "ramp0" .. "ramp5"
  ChartStyle style = ChartStyle::kLine;
  // Where the name is read. Under the pointer it always is; at the end of the line it needs room on the right.
  enum class Name { kInLegend, kAtEnd, kUnderPointer } name_place = Name::kInLegend;
};

// A vertical line at one x.
struct ChartMark {
  double x = 0;
  bool alarm = false;  // something went wrong here; else a mere note
  std::string text;    // shown under the pointer
};

struct LineChart {
  std::string title;
  std::string note;    // a sentence under the title; may be empty
  std::string x_name;  // "step"
  std::string y_name;  // "nats per token"
  bool log_y = false;  // values below 1e-30 are not drawn
  bool percent = false;
  bool from_zero = false;
  bool whole_x = true;  // x counts something: no ticks between whole numbers
  double x_low = 0;     // x_low < x_high; both 0: as the curves need
  double x_high = 0;
  std::vector<ChartSeries> series;
  std::vector<ChartMark> marks;
};

// Lines are shown whole; of dots those outside the 1st and 99th percentile may fall outside the picture.
std::string RenderLineChart(const LineChart& chart);

// Rows of cells, the first row on top, a value in [0, 1] each: the more, the more ink. NaN is left blank.
struct HeatMap {
  std::string title;
  std::string note;
  std::string x_name;
  std::string row_name;                   // "layer"
  std::string value_name;                 // "skipped"
  std::vector<double> edges;              // [columns + 1], ascending
  std::vector<std::vector<float>> cells;  // [rows][columns]
};

std::string RenderHeatMap(const HeatMap& map);

}  // namespace gateskip
