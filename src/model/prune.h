// SPDX-License-Identifier: Apache-2.0
// A smaller model made of parts of another: whole layers, attention heads and MLP neurons left out of its matrices.
// What comes out is an ordinary GGUF of the same architecture, so every layer keeps as many heads and neurons as the
// others.
#pragma once

#include <string>
#include <vector>

#include "model/model_source.h"
#include "model/model_writer.h"

namespace gateskip {

// What stays, all ascending. A list for every layer of the source, also for those that go.
struct PruneSelection {
  std::vector<size_t> layers;
  std::vector<std::vector<size_t>> heads;     // query heads
  std::vector<std::vector<size_t>> kv_heads;  // theirs
  std::vector<std::vector<size_t>> neurons;
};

// All of the model.
PruneSelection WholeModel(const ModelConfig& config);

// Throws Error(kInvalidArgument) where nothing would be left, and Error(kUnsupported) where the file cannot say it: no
// GGUF; layers whose kind of attention (sliding window, rotation) would be another at their new place.
void CheckSelection(const ModelSource& source, const PruneSelection& selection);

// `options` with the slices and sizes of the selection, which has been checked and must outlive the result. Throws
// Error(kUnsupported) when the source has tensors in its layers that gateskip does not know.
WriteModelOptions PruneOptions(const ModelSource& source, const PruneSelection& selection, WriteModelOptions options);

}  // namespace gateskip
