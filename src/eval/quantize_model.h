// SPDX-License-Identifier: Apache-2.0
// `gateskip quantize`: a model in fewer bits, its gates calibrated anew for it, and what that did to its predictions.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "eval/calibrate.h"
#include "eval/model_difference.h"
#include "model/quantize_plan.h"

namespace gateskip {

struct QuantizeOptions {
  std::string model_path;  // a GGUF; gates inside it go along
  std::string out;         // the GGUF to write; replaced, if it is there, when all has gone well
  QuantizeChoice choice;
  bool search = true;             // scales by QuantizeSearched, else by Quantize
  DType gate_type = DType::kF32;  // of gates inside the file
  bool allow_requantize = false;  // take matrices of blocks for other blocks
  bool with_gates = true;         // false: gates inside the source are left out
  // An adapter for the source, and where it goes as one for the new model.
  std::string adapter_path, adapter_out;

  // Texts as calibration takes them. Squared inputs on the first weigh the errors of a search; thresholds are found on
  // the second, which gates need; the two models are compared on the third. Empty: not done.
  std::vector<std::string> importance_texts, calibration_texts, comparison_texts;
  int64_t importance_tokens = 16384, calibration_tokens = 16384, comparison_tokens = 4096;
  int window = 512;
  int threads = 0;
};

struct QuantizeReport {
  struct Matrix {
    std::string name;
    DType from, to;
    std::optional<DType> wanted;  // see TensorDecision
  };
  std::vector<Matrix> matrices;
  uint64_t source_bytes = 0, bytes = 0;  // of tensors, gates left out
  double bits_per_weight = 0;
  size_t importance_tokens = 0;
  std::vector<CalibratedBudget> calibrated;
  std::optional<ModelDifference> difference;
};

// Throws Error: kInvalidArgument for a source that is quantised already without consent, for an output that is the
// source, for gates without a text to calibrate them on; and as its parts do. Nothing is written then.
QuantizeReport QuantizeModel(const QuantizeOptions& options, const CalibrateProgress& progress);

}  // namespace gateskip
