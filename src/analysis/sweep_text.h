// SPDX-License-Identifier: Apache-2.0
// How the page and the tables of a sweep write its numbers.
#pragma once

#include <string>

#include "analysis/sweep_results.h"

namespace gateskip {

// How a task's scores are written: in percent if all of them are shares of 1 and higher is better.
struct ScoreFormat {
  bool percent = false;
  int decimals = 0;

  std::string Value(double score) const;           // "61.0"
  std::string Error(const Estimate& score) const;  // " ± 1.6", or nothing when it is not known
};
ScoreFormat FormatOf(const SweepResults& results, size_t task);

// "acc, higher is better, 0-shot, 919 items, chance 50.0 %".
std::string TaskFacts(const SweepResults& results, size_t task);
// "97.5 ± 1.2 %", "–".
std::string RetentionText(const Estimate& retention);

}  // namespace gateskip
