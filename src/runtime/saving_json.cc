// SPDX-License-Identifier: Apache-2.0
#include "runtime/saving_json.h"

namespace gateskip {

nlohmann::ordered_json SavingJson(const SavingReport& saving) {
  return {{"requested", saving.requested},
          {"nominal", saving.nominal},
          {"net", saving.net},
          {"rows", saving.rows},
          {"branches_run", saving.branches_run},
          {"branches_skipped", saving.branches_skipped}};
}

nlohmann::ordered_json SpeculationJson(const SpeculationReport& speculation) {
  return {{"drafted", speculation.drafted},
          {"accepted", speculation.accepted},
          {"steps", speculation.steps},
          {"draft_saving", SavingJson(speculation.draft_saving)}};
}

}  // namespace gateskip
