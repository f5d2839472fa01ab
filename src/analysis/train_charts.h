// SPDX-License-Identifier: Apache-2.0
// The charts of a training report, each one drawn from a log.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "analysis/svg_chart.h"
#include "analysis/train_log.h"
#include "gate/branch.h"

namespace gateskip {

// The last step or evaluation that the log knows.
int64_t LastStep(const TrainLog& log);
// NaN when there is no such number.
double OptionNumber(const TrainLog& log, const char* key);

// By step: the events, and steps whose numbers say so where an older trainer wrote no event.
std::map<int64_t, LoggedBadStep> BadSteps(const TrainLog& log);
// Where steps went wrong and where the run was resumed.
std::vector<ChartMark> StepMarks(const TrainLog& log, const std::map<int64_t, LoggedBadStep>& bad_steps);

// Over steps. Each is HTML.
std::string LossChart(const TrainLog& log, const std::vector<ChartMark>& marks);
std::string GradientChart(const TrainLog& log, const std::vector<ChartMark>& marks);
std::string SavingChart(const TrainLog& log);
std::string RateChart(const TrainLog& log);
std::string ThroughputChart(const TrainLog& log);
// These need an evaluation. The second one is NLL over net saving, at the first evaluation and the last one.
std::string HeldoutChart(const TrainLog& log);
std::string TradeOffChart(const TrainLog& log);
// These need a `branches` event. The share of rows that skipped, steps by layers; and the mean gate over layers.
std::string BranchMap(const TrainLog& log, BranchKind kind);
std::string GateMeanChart(const TrainLog& log);

}  // namespace gateskip
