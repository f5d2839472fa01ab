// SPDX-License-Identifier: Apache-2.0
// The cost model of a loaded model: what each branch, delta, gate and skip path really weighs in memory, padding and
// formats included. At batch 1 these bytes are the cost.
#pragma once

#include "gate/cost_model.h"
#include "model/adapter_weights.h"
#include "model/weights.h"

namespace gateskip {

// `adapter` may be null: the plain model. Costs in bytes.
CostModel MeasureCost(const ModelWeights& weights, const AdapterWeights* adapter);

}  // namespace gateskip
