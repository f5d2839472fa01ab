// SPDX-License-Identifier: Apache-2.0
// What the gates learned (gate_statistics.h), for people and for programs.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "analysis/gate_statistics.h"

namespace gateskip {

// A self-contained HTML page. The same statistics give the same bytes.
std::string RenderGateReport(const GateStatistics& statistics);

// All of them but the sample's text. What is not finite is null.
nlohmann::ordered_json GateStatisticsJson(const GateStatistics& statistics);

}  // namespace gateskip
