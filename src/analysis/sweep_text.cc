// SPDX-License-Identifier: Apache-2.0
#include "analysis/sweep_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "analysis/html_parts.h"

namespace gateskip {

std::string ScoreFormat::Value(double score) const {
  if (percent) return Number(100 * score, decimals);
  return Number(score, std::abs(score) >= 1000 ? 0 : decimals);
}

std::string ScoreFormat::Error(const Estimate& score) const {
  return std::isfinite(score.error) ? " ± " + Value(score.error) : "";
}

ScoreFormat FormatOf(const SweepResults& results, size_t task) {
  const bool shares = results.tasks[task].higher_is_better &&
                      std::all_of(results.points.begin(), results.points.end(), [&](const SweepPoint& p) {
                        return p.task != task || !p.unreachable.empty() || (p.score.value >= 0 && p.score.value <= 1);
                      });
  if (shares) return {true, 1};
  const double size = std::abs(results.Original(task).score.value);
  return {false, size >= 10 ? 2 : size >= 1 ? 3 : 4};
}

std::string TaskFacts(const SweepResults& results, size_t task) {
  const SweepTask& t = results.tasks[task];
  const ScoreFormat format = FormatOf(results, task);
  std::string text =
      fmt::format("{}, {} is better, {}-shot", t.metric, t.higher_is_better ? "higher" : "lower", t.num_fewshot);
  if (t.instances > 0) text += fmt::format(", {} items", t.instances);
  if (t.higher_is_better && t.chance != 0) {
    text += fmt::format(", chance {}{}", format.Value(t.chance), format.percent ? " %" : "");
  }
  return text;
}

std::string RetentionText(const Estimate& retention) {
  if (!std::isfinite(retention.value)) return "–";
  const std::string error = std::isfinite(retention.error) ? " ± " + Number(100 * retention.error, 1) : "";
  return Number(100 * retention.value, 1) + error + " %";
}

}  // namespace gateskip
