// SPDX-License-Identifier: Apache-2.0
// Which format each tensor of a quantised model gets. The mixtures and the formats that stand in for those that a row
// does not fit are llama.cpp's (llama_tensor_get_type in llama-quant.cpp).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/model_source.h"

namespace gateskip {

// What --type names.
struct QuantizeType {
  std::string_view name;
  DType layers;
  DType head;          // of the output head; tied embeddings are the head
  bool mixed = false;  // two more bits for attn_v and ffn_down of the layers where they matter most
  uint32_t file_type;  // enum llama_ftype
};
std::span<const QuantizeType> QuantizeTypes();
// Throws Error(kInvalidArgument) naming the nearest.
const QuantizeType& FindQuantizeType(std::string_view name);

// The type of this name in lower case, as options have it: "q4_1", "f32", ...
std::optional<DType> FindDType(std::string_view lower_case_name);

struct QuantizeChoice {
  const QuantizeType* type = nullptr;
  std::optional<DType> head;
  std::optional<DType> embedding;  // where it is not tied to the head
  // A pattern of names ('*': any text, '?': one character) and the format of what it matches; the last that matches
  // counts, and counts before all the rest.
  std::vector<std::pair<std::string, DType>> tensor_types = {};
};

struct TensorDecision {
  const TensorView* tensor;
  DType dtype;
  std::optional<DType> wanted = {};  // the format that its rows are no whole blocks of
};

// Of every matrix of the model, in the file's order. Throws Error: kInvalidArgument for a pattern that matches no
// matrix, for an embedding type where the embedding is tied; kUnsupported for a source that is no GGUF.
std::vector<TensorDecision> DecideTypes(const ModelSource& source, const QuantizeChoice& choice);

bool MatchesPattern(std::string_view pattern, std::string_view name);

}  // namespace gateskip
