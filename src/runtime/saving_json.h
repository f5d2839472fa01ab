// SPDX-License-Identifier: Apache-2.0
// A SavingReport, and one of speculation, as the command line and the server write them.
#pragma once

#include <nlohmann/json.hpp>

#include "gateskip/engine.h"

namespace gateskip {

// requested, nominal and net as shares; rows, branches_run and branches_skipped as counts.
nlohmann::ordered_json SavingJson(const SavingReport& saving);

// drafted, accepted and steps as counts; draft_saving as above.
nlohmann::ordered_json SpeculationJson(const SpeculationReport& speculation);

}  // namespace gateskip
