// SPDX-License-Identifier: Apache-2.0
#include "analysis/sweep_retention.h"

#include <cmath>

namespace gateskip {
namespace {

constexpr double kClearlyAboveChance = 2;  // standard errors

double Square(double v) { return v * v; }

}  // namespace

Estimate Retention(const SweepTask& task, Estimate score, Estimate reference) {
  if (!task.higher_is_better) {
    if (!(score.value > 0 && reference.value > 0)) return {};
    const double kept = reference.value / score.value;
    return {kept, kept * score.error / score.value};
  }
  const double margin = reference.value - task.chance;
  if (!(margin > 0)) return {};
  return {(score.value - task.chance) / margin, score.error / margin};
}

Estimate RetentionOf(const SweepResults& results, const SweepPoint& point, Reference reference) {
  const SweepPoint* against =
      reference == Reference::kOriginal ? &results.Original(point.task) : results.GatedDense(point.task);
  if (against == nullptr || !point.unreachable.empty()) return {};
  return Retention(results.tasks[point.task], point.score, against->score);
}

std::vector<TaskChoice> ChooseTasks(const SweepResults& results) {
  std::vector<TaskChoice> choices;
  for (size_t t = 0; t < results.tasks.size(); ++t) {
    const SweepTask& task = results.tasks[t];
    const Estimate original = results.Original(t).score;
    const double error = std::isnan(original.error) ? 0.0 : original.error;
    std::string reason;
    if (!task.higher_is_better) {
      reason = "a ratio, not a share of a margin";
    } else if (!(original.value - task.chance > kClearlyAboveChance * error)) {
      reason = "the original is not clearly above chance";
    }
    choices.push_back({t, std::move(reason)});
  }
  return choices;
}

std::vector<MeanPoint> MeanRetention(const SweepResults& results, Reference reference) {
  const std::vector<TaskChoice> choices = ChooseTasks(results);
  std::vector<MeanPoint> means;
  for (size_t arm = 0; arm < results.arms.size(); ++arm) {
    for (const double requested : results.RequestedSavings()) {
      MeanPoint mean{arm, requested, 0, {0, 0}};
      int counted = 0;
      bool complete = true;
      for (const TaskChoice& choice : choices) {
        if (!choice.reason.empty()) continue;
        const SweepPoint* point = results.Find(choice.task, arm, requested);
        const Estimate kept = point != nullptr ? RetentionOf(results, *point, reference) : Estimate{};
        complete = complete && std::isfinite(kept.value);
        if (!complete) break;
        mean.net += point->net;
        mean.retention.value += kept.value;
        mean.retention.error += Square(kept.error);
        ++counted;
      }
      if (!complete || counted == 0) continue;
      mean.net /= counted;
      mean.retention.value /= counted;
      mean.retention.error = std::sqrt(mean.retention.error) / counted;
      means.push_back(mean);
    }
  }
  return means;
}

}  // namespace gateskip
