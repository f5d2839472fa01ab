// SPDX-License-Identifier: Apache-2.0
// An adapter's LoRA deltas (arXiv 2106.09685) as updates of the base's weights: W + alpha / rank * B A.
#pragma once

#include <string>

#include "io/adapter.h"
#include "model/model_source.h"
#include "model/model_writer.h"

namespace gateskip {

// `adapter` must outlive the result; its config has been checked against the source (CheckAdapterBelongs). Sums are
// formed in f64 and rounded once. Throws Error(kMismatch) for a delta whose sizes are not the base's; `origin` names
// the adapter.
WeightUpdates MergeDeltas(const Adapter& adapter, const ModelSource& source, const std::string& origin);

}  // namespace gateskip
