// SPDX-License-Identifier: Apache-2.0
// The adapter tests itself: it carries token ids with the decisions and logits they gave when it was calibrated.
#pragma once

#include <vector>

#include "gateskip/engine.h"
#include "io/adapter.h"
#include "runtime/loaded_model.h"

namespace gateskip {

// Runs the adapter's self-test on the loaded model. Throws Error(kMismatch) when the decisions or the logits are
// not those of the adapter. The expectations come from the f32 path: with f32 compute a decision may differ only
// within 1e-3 of its threshold and logits by 1e-2; with the fast kernels, whose 8-bit activations move
// importances, 95 % of the decisions must agree and the logits' relative RMS error must be below 20 %; so too where the
// weights were rounded again since (LoadedModel::requantized).
void RunSelfTest(const LoadedModel& model, ComputeType compute);

// What the loaded model (f32) gives for these ids: the expectations to store.
AdapterSelfTest MakeSelfTest(const LoadedModel& model, std::vector<int32_t> ids, double budget);

}  // namespace gateskip
