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

void RequireGguf(const ModelSource& source) {
  if (source.gguf != nullptr) return;
  Fail(ErrorCode::kUnsupported,
       "[{}] format: expected a GGUF to make a GGUF of, found a hub-style directory; convert it with llama.cpp's "
       "convert_hf_to_gguf.py first, or export to safetensors",
       source.origin());
}

std::vector<CanonicalTensor> CanonicalTensors(const ModelSource& source) {
  const ModelConfig& c = source.config;
  const int64_t d = c.hidden_size;
  std::vector<CanonicalTensor> tensors = {{"token_embd.weight", {c.vocab_size, d}}};
  for (int l = 0; l < c.num_layers; ++l) {
    const auto add = [&](const char* part, std::vector<int64_t> shape) {
      tensors.push_back({fmt::format("blk.{}.{}.weight", l, part), std::move(shape)});
    };
    add("attn_norm", {d});
    add("attn_q", {c.query_size(), d});
    add("attn_k", {c.kv_size(), d});
    add("attn_v", {c.kv_size(), d});
    add("attn_output", {d, c.query_size()});
    add("ffn_norm", {d});
    add("ffn_gate", {c.ffn_size, d});
    add("ffn_up", {c.ffn_size, d});
    add("ffn_down", {d, c.ffn_size});
    if (c.qk_norm) add("attn_q_norm", {c.head_dim});
    if (c.qk_norm) add("attn_k_norm", {c.head_dim});
    if (c.post_norms) add("post_attention_norm", {d});
    if (c.post_norms) add("post_ffw_norm", {d});
  }
  tensors.push_back({"output_norm.weight", {d}});
  if (source.weights->Find("output.weight") != nullptr) tensors.push_back({"output.weight", {c.vocab_size, d}});
  return tensors;
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
