// SPDX-License-Identifier: Apache-2.0
#include "model/quantize_plan.h"

#include <algorithm>

#include "base/check.h"
#include "base/nearest_name.h"
#include "io/embedded_adapter.h"
#include "model/architecture.h"

namespace gateskip {
namespace {

constexpr QuantizeType kTypes[] = {
    {.name = "f32", .layers = DType::kF32, .head = DType::kF32, .file_type = 0},
    {.name = "f16", .layers = DType::kF16, .head = DType::kF16, .file_type = 1},
    {.name = "bf16", .layers = DType::kBF16, .head = DType::kBF16, .file_type = 32},
    {.name = "q8_0", .layers = DType::kQ8_0, .head = DType::kQ8_0, .file_type = 7},
    {.name = "q6_k", .layers = DType::kQ6_K, .head = DType::kQ6_K, .file_type = 18},
    {.name = "q5_0", .layers = DType::kQ5_0, .head = DType::kQ6_K, .file_type = 8},
    {.name = "q5_1", .layers = DType::kQ5_1, .head = DType::kQ6_K, .file_type = 9},
    {.name = "q5_k", .layers = DType::kQ5_K, .head = DType::kQ6_K, .file_type = 16},
    {.name = "q5_k_m", .layers = DType::kQ5_K, .head = DType::kQ6_K, .mixed = true, .file_type = 17},
    {.name = "q4_0", .layers = DType::kQ4_0, .head = DType::kQ6_K, .file_type = 2},
    {.name = "q4_1", .layers = DType::kQ4_1, .head = DType::kQ6_K, .file_type = 3},
    {.name = "q4_k", .layers = DType::kQ4_K, .head = DType::kQ6_K, .file_type = 14},
    {.name = "q4_k_m", .layers = DType::kQ4_K, .head = DType::kQ6_K, .mixed = true, .file_type = 15},
};

// use_more_bits in llama-quant.cpp: the first and last eighth of the layers, and every third between.
bool MattersMost(int layer, int num_layers) {
  const int eighth = num_layers / 8;
  return layer < eighth || layer >= 7 * num_layers / 8 || (layer - eighth) % 3 == 2;
}

DType StandIn(DType dtype) {
  switch (dtype) {
    case DType::kQ4_K:
      return DType::kQ5_0;
    case DType::kQ5_K:
      return DType::kQ5_1;
    case DType::kQ6_K:
      return DType::kQ8_0;
    default:
      return DType::kF16;
  }
}

bool Fits(DType dtype, int64_t cols) { return cols % GetDTypeInfo(dtype).block_elements == 0; }

DType TypeOf(const TensorView& tensor, const ModelSource& source, bool tied, const QuantizeChoice& choice) {
  for (auto rule = choice.tensor_types.rbegin(); rule != choice.tensor_types.rend(); ++rule) {
    if (MatchesPattern(rule->first, tensor.name)) return rule->second;
  }
  const QuantizeType& type = *choice.type;
  const bool embedding = tensor.name == "token_embd.weight";
  if (tensor.name == "output.weight" || (embedding && tied)) return choice.head.value_or(type.head);
  if (embedding) return choice.embedding.value_or(type.layers);
  const auto block = ParseBlockTensor(tensor.name);
  const bool larger = block && (block->rest == "attn_v.weight" || block->rest == "ffn_down.weight");
  if (type.mixed && larger && MattersMost(block->layer, source.config.num_layers)) return DType::kQ6_K;
  return type.layers;
}

}  // namespace

std::span<const QuantizeType> QuantizeTypes() { return kTypes; }

const QuantizeType& FindQuantizeType(std::string_view name) {
  std::vector<std::string> names;
  for (const QuantizeType& type : kTypes) {
    if (type.name == name) return type;
    names.emplace_back(type.name);
  }
  const std::string nearest = NearestName(names, name);
  Fail(ErrorCode::kInvalidArgument, "[command line] --type: expected one of {}, found '{}'{}", fmt::join(names, ", "),
       name, nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest));
}

std::optional<DType> FindDType(std::string_view lower_case_name) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  for (int type = 0; type < kNumDTypes; ++type) {
    const auto dtype = static_cast<DType>(type);
    if (std::ranges::equal(GetDTypeInfo(dtype).name, lower_case_name, {}, lower)) return dtype;
  }
  return std::nullopt;
}

bool MatchesPattern(std::string_view pattern, std::string_view name) {
  // Where to take up again: the last '*', and the first character that it does not cover yet.
  size_t star = std::string_view::npos;
  size_t resume = 0;
  size_t p = 0;
  size_t n = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  return pattern.substr(p).find_first_not_of('*') == std::string_view::npos;
}

std::vector<TensorDecision> DecideTypes(const ModelSource& source, const QuantizeChoice& choice) {
  GS_CHECK(choice.type != nullptr);
  RequireGguf(source);
  const bool tied = source.weights->Find("output.weight") == nullptr;
  if (tied && choice.embedding) {
    Fail(ErrorCode::kInvalidArgument,
         "[{}] embedding type: expected a model whose embedding is not its head, found them tied; pass --head-type",
         source.origin());
  }
  std::vector<TensorDecision> decisions;
  for (const TensorView& tensor : source.gguf->tensors()) {
    if (IsEmbeddedName(tensor.name) || tensor.shape.size() < 2) continue;
    TensorDecision decision = {&tensor, TypeOf(tensor, source, tied, choice)};
    while (!Fits(decision.dtype, tensor.shape.back())) {
      if (!decision.wanted) decision.wanted = decision.dtype;
      decision.dtype = StandIn(decision.dtype);
    }
    decisions.push_back(decision);
  }
  for (const auto& rule : choice.tensor_types) {
    const std::string& pattern = rule.first;
    const auto matches = [&](const TensorDecision& d) { return MatchesPattern(pattern, d.tensor->name); };
    if (std::ranges::none_of(decisions, matches)) {
      Fail(ErrorCode::kInvalidArgument,
           "[{}] tensor type: expected a pattern that matches a matrix, found '{}'; see 'gateskip info --tensors'",
           source.origin(), pattern);
    }
  }
  return decisions;
}

}  // namespace gateskip
