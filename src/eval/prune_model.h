// SPDX-License-Identifier: Apache-2.0
// `gateskip prune`: which layers, heads and neurons of a model matter least on a text, and the model without them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "eval/calibrate.h"
#include "eval/model_difference.h"
#include "model/prune.h"

namespace gateskip {

// How many parts of a kind go: a number, a share, or these.
struct PruneAmount {
  int count = 0;
  std::optional<double> share = {};      // in (0, 1), of what there is
  std::optional<std::string> list = {};  // gate/layer_list.h

  bool IsNone() const { return count == 0 && !share && !list; }
};

enum class LayerMeasure {
  kBlockInfluence,  // 1 - cosine of a layer's input and output (ShortGPT, arXiv 2403.03853)
  kLeaveOneOut,     // the rise of the text's NLL without the layer
};

struct PruneModelOptions {
  std::string model_path;  // a GGUF
  std::string out;         // the GGUF to write; replaced, if it is there, when all has gone well
  PruneAmount layers;
  LayerMeasure layer_measure = LayerMeasure::kBlockInfluence;
  PruneAmount kv_groups;       // of each layer: KV heads with their query heads
  PruneAmount heads;           // of each KV group: query heads
  PruneAmount neurons;         // of each layer. A share leaves a multiple of 32 where there was one, so that blocks fit
  std::optional<DType> dtype;  // as WriteModelOptions::dtype
  bool without_gates = false;  // gates inside the source, which are for other branches, are left out
  std::vector<std::string> texts, comparison_texts;  // to measure on; to compare the models on, or none
  int64_t tokens = 16384, comparison_tokens = 4096;
  int window = 512;
  int threads = 0;
};

struct PruneReport {
  PruneSelection kept;
  std::vector<double> layer_scores;      // by the measure, if it was asked
  uint64_t source_bytes = 0, bytes = 0;  // of tensors
  std::optional<ModelDifference> difference;
};

// Layers go by options.layer_measure. Then, on the model without them, heads and neurons by the part of a branch's
// output that passes through them, the mean of (activation)^2 times the squared norm of the output matrix's columns
// (Wanda, arXiv 2306.11695, over whole columns). Throws Error: kInvalidArgument when nothing is to go or nothing would
// be left, for a measure without a text, for gates inside the source; and as its parts do. Nothing is written then.
PruneReport PruneModel(const PruneModelOptions& options, const CalibrateProgress& progress);

}  // namespace gateskip
