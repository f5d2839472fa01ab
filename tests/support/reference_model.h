// SPDX-License-Identifier: Apache-2.0
// A slow, dense, double-precision decoder with masked skipping: everything is computed for every token and then
// kept or thrown away. Shares no code with the runtime but the file reader and the dequantiser; it is the
// definition the skipping path is held against (law L3).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gate/skip_plan.h"
#include "io/adapter.h"
#include "io/gguf.h"
#include "model/config.h"

namespace gateskip::testing {

struct ReferenceResult {
  std::vector<std::vector<double>> logits;      // [tokens][vocab]
  std::vector<std::vector<uint8_t>> ran;        // [branches][tokens]
  std::vector<std::vector<double>> importance;  // [branches][tokens], 1 where there is no gate
};

// One sequence from position 0. adapter may be null: the plain model. The plan decides with the reference's own
// importances.
ReferenceResult RunReference(const GgufFile& file, const Adapter* adapter, const std::vector<int32_t>& ids,
                             const SkipPlan& plan);

}  // namespace gateskip::testing
