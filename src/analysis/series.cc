// SPDX-License-Identifier: Apache-2.0
#include "analysis/series.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gateskip {
namespace {

constexpr size_t kSmoothPoints = 400;
constexpr size_t kWindowsPerCurve = 15;
constexpr double kTrimmed = 0.1;

size_t Spread(size_t i, size_t of, size_t n) { return of < 2 ? 0 : i * (n - 1) / (of - 1); }

double TrimmedMean(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto cut = static_cast<size_t>(kTrimmed * static_cast<double>(values.size()));
  double sum = 0;
  for (size_t i = cut; i < values.size() - cut; ++i) sum += values[i];
  return sum / static_cast<double>(values.size() - 2 * cut);
}

}  // namespace

Curve Thin(const Curve& curve, size_t max_points) {
  const size_t n = curve.x.size();
  if (n <= max_points) return curve;
  Curve thin;
  for (size_t i = 0; i < max_points; ++i) {
    const size_t at = Spread(i, max_points, n);
    thin.x.push_back(curve.x[at]);
    thin.y.push_back(curve.y[at]);
  }
  return thin;
}

Curve Smooth(const Curve& curve) {
  Curve finite;
  for (size_t i = 0; i < curve.x.size(); ++i) {
    if (!std::isfinite(curve.y[i])) continue;
    finite.x.push_back(curve.x[i]);
    finite.y.push_back(curve.y[i]);
  }
  Curve smooth;
  const size_t n = finite.x.size();
  const size_t points = std::min(n, kSmoothPoints);
  const size_t half = std::max<size_t>(2, n / kWindowsPerCurve / 2);
  for (size_t i = 0; i < points; ++i) {
    const size_t at = Spread(i, points, n);
    const size_t reach = std::max(std::min({half, at, n - 1 - at}), half / 4);
    const size_t begin = at - std::min(at, reach);
    const size_t end = std::min(n, at + reach + 1);
    smooth.x.push_back(finite.x[at]);
    smooth.y.push_back(TrimmedMean(
        {finite.y.begin() + static_cast<std::ptrdiff_t>(begin), finite.y.begin() + static_cast<std::ptrdiff_t>(end)}));
  }
  return smooth;
}

double Quantile(std::span<const double> values, double q) {
  std::vector<double> finite;
  for (const double v : values) {
    if (std::isfinite(v)) finite.push_back(v);
  }
  if (finite.empty()) return std::numeric_limits<double>::quiet_NaN();
  const auto at = static_cast<std::ptrdiff_t>(q * static_cast<double>(finite.size() - 1) + 0.5);
  std::nth_element(finite.begin(), finite.begin() + at, finite.end());
  return finite[static_cast<size_t>(at)];
}

}  // namespace gateskip
