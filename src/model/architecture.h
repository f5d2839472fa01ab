// SPDX-License-Identifier: Apache-2.0
// One entry per model family. To add one: a file like llama.cc that fills a ModelConfig from both file formats
// and names its tensors, and a row in architecture.cc.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "model/config.h"

namespace gateskip {

struct Architecture {
  std::string_view gguf_name;  // general.architecture
  std::string_view hub_type;   // config.json model_type
  ModelConfig (*from_gguf)(const GgufFile& file);
  ModelConfig (*from_hub)(const HubDirectory& directory);
  // Hub name of a tensor given by its canonical (GGUF) name, e.g. "blk.3.attn_q.weight".
  std::string (*hub_tensor_name)(std::string_view canonical);
  // config.json of a GGUF's model, but for its token ids and types. Throws Error(kUnsupported) for what it cannot say.
  nlohmann::json (*hub_config)(const GgufFile& file, const ModelConfig& config);
  float hub_norm_shift;  // hub checkpoints store norm weights minus this
};

extern const Architecture kLlama;   // llama.cc
extern const Architecture kGemma3;  // gemma3.cc

// nullptr when unknown.
const Architecture* FindByGgufName(std::string_view name);
const Architecture* FindByHubType(std::string_view type);
std::string KnownArchitectures();  // for messages

// --- shared by the architecture files -------------------------------------------------------------------
// inv_freq[i] = base^(-2 i / dims) / factor (arXiv 2104.09864; linear scaling: arXiv 2306.15595).
std::vector<float> RopeFrequencies(double base, int dims, double factor);

// Splits "blk.12.attn_q.weight" into 12 and "attn_q.weight".
struct BlockTensor {
  int layer;
  std::string_view rest;
};
std::optional<BlockTensor> ParseBlockTensor(std::string_view canonical);

// The fields every GGUF decoder shares, under "<architecture>."; per-layer attention is left to the caller.
ModelConfig ReadCommonGguf(const GgufFile& file);
// The same from config.json.
ModelConfig ReadCommonHub(const HubDirectory& directory);
// The fields every config.json shares.
nlohmann::json CommonHubConfig(const ModelConfig& config);

}  // namespace gateskip
