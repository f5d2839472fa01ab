// SPDX-License-Identifier: Apache-2.0
// Curves made fit to look at: fewer points, and smooth ones.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace gateskip {

struct Curve {
  std::vector<double> x, y;  // of equal length, x ascending
};

// Evenly chosen points, first and last among them; all when there are at most `max_points`.
Curve Thin(const Curve& curve, size_t max_points);

// Trimmed means over a window of about a 15th of the points (at least 5, the tenth part at either end of the sorted
// values left out), so that a single spike does not bend the line; at most 400 points. The window shrinks towards both
// ends of the curve, where a full one would be lopsided. Non-finite values are left out.
Curve Smooth(const Curve& curve);

// The value below which the share `q` in [0, 1] of the finite values lies; NaN of none.
double Quantile(std::span<const double> values, double q);

}  // namespace gateskip
