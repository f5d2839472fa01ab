// SPDX-License-Identifier: Apache-2.0
#include "model/model_source.h"

#include <filesystem>

#include "base/check.h"

namespace gateskip {

ModelSource OpenModelSource(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored) ? MakeModelSource(HubDirectory::Open(path))
                                                      : MakeModelSource(GgufFile::Open(path));
}

ModelSource MakeModelSource(std::shared_ptr<const GgufFile> file) {
  ModelSource source;
  source.config = ReadConfig(*file);
  source.architecture = FindByGgufName(source.config.architecture);
  source.weights = MakeWeightSource(file);
  source.fingerprint = file->Fingerprint();
  source.gguf = std::move(file);
  return source;
}

ModelSource MakeModelSource(std::shared_ptr<const HubDirectory> directory) {
  ModelSource source;
  source.config = ReadConfig(*directory);
  source.architecture = FindByGgufName(source.config.architecture);
  source.weights = MakeWeightSource(directory, source.config);
  source.fingerprint = directory->Fingerprint();
  source.hub = std::move(directory);
  return source;
}

std::vector<std::string> CanonicalTensors(const ModelSource& source) {
  const ModelConfig& c = source.config;
  std::vector<std::string> names = {"token_embd.weight"};
  for (int l = 0; l < c.num_layers; ++l) {
    std::vector<const char*> parts = {"attn_norm", "attn_q",   "attn_k", "attn_v",  "attn_output",
                                      "ffn_norm",  "ffn_gate", "ffn_up", "ffn_down"};
    if (c.qk_norm) parts.insert(parts.end(), {"attn_q_norm", "attn_k_norm"});
    if (c.post_norms) parts.insert(parts.end(), {"post_attention_norm", "post_ffw_norm"});
    for (const char* part : parts) names.push_back(fmt::format("blk.{}.{}.weight", l, part));
  }
  names.push_back("output_norm.weight");
  if (source.weights->Find("output.weight") != nullptr) names.push_back("output.weight");
  return names;
}

size_t PermutedHead(const ModelSource& source, std::string_view matrix) {
  const bool pairs = source.gguf != nullptr && source.config.rope_layout == kernels::RopeLayout::kInterleaved;
  if (!pairs || !(matrix.ends_with(".attn_q") || matrix.ends_with(".attn_k"))) return 0;
  return static_cast<size_t>(source.config.head_dim);
}

size_t GgufRowOfHubRow(size_t r, size_t head) {
  const size_t in_head = r % head;
  const size_t half = head / 2;
  return r - in_head + 2 * (in_head % half) + in_head / half;
}

}  // namespace gateskip
