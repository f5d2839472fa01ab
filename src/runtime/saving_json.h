// SPDX-License-Identifier: Apache-2.0
// A SavingReport as the command line and the server write it.
#pragma once

#include <nlohmann/json.hpp>

#include "gateskip/engine.h"

namespace gateskip {

// requested, nominal and net as shares; rows, branches_run and branches_skipped as counts.
nlohmann::ordered_json SavingJson(const SavingReport& saving);

}  // namespace gateskip
