// SPDX-License-Identifier: Apache-2.0
// Results as lines for people and as JSON for programs. Savings are always shown three at a time: requested,
// nominal (branch applications) and net (weights really multiplied, gates included).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/text_table.h"
#include "eval/calibrate.h"
#include "eval/model_difference.h"
#include "gateskip/engine.h"
#include "runtime/saving_json.h"

namespace gateskip::cli {

using Json = nlohmann::ordered_json;

std::string_view FinishReasonName(FinishReason reason);

// "25.0 / 27.3 / 24.8 %".
std::string SavingText(const SavingReport& saving);
// Rows-weighted mean of several reports of one budget.
SavingReport MergeSavings(const std::vector<SavingReport>& reports);

// Rates; 0 when nothing was timed.
double PerSecond(double count, double seconds);
// The two timing lines that `generate` and `chat` print on stderr.
std::string TimingText(const GenerateResult& result);
Json GenerateJson(const GenerateResult& result);

// Prints one object on one line; text that is not UTF-8 is replaced, never refused.
void PrintJson(const Json& value);

// What calibration found.
Json CalibratedJson(const std::vector<CalibratedBudget>& grid);

// How two models differ.
Json DifferenceJson(const ModelDifference& difference);
std::string DifferenceTable(const ModelDifference& difference);

struct Spread {
  double median = 0;
  double low = 0;
  double high = 0;
};
Spread MeasureSpread(std::vector<double> values);

}  // namespace gateskip::cli
