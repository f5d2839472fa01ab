// SPDX-License-Identifier: Apache-2.0
#include "model/prune.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "base/check.h"
#include "io/embedded_adapter.h"
#include "model/architecture.h"

namespace gateskip {
namespace {

std::vector<size_t> UpTo(int count) {
  std::vector<size_t> all(static_cast<size_t>(count));
  std::iota(all.begin(), all.end(), size_t{0});
  return all;
}

// The elements of heads of `size` elements; none if it is all `count` heads, which a slice says by an empty list.
std::vector<size_t> Elements(const std::vector<size_t>& parts, size_t size, int count) {
  std::vector<size_t> elements;
  if (parts.size() == static_cast<size_t>(count)) return elements;
  for (const size_t part : parts) {
    for (size_t i = 0; i < size; ++i) elements.push_back(part * size + i);
  }
  return elements;
}

TensorSlice SliceOf(const ModelConfig& c, const PruneSelection& selection, const std::string& canonical) {
  const auto block = ParseBlockTensor(canonical);
  if (!block) return {.name = canonical};
  const auto layer = static_cast<size_t>(block->layer);
  const auto place = std::ranges::find(selection.layers, layer);
  if (place == selection.layers.end()) return {.dropped = true};
  TensorSlice slice = {.name = fmt::format("blk.{}.{}", place - selection.layers.begin(), block->rest)};
  const auto head = static_cast<size_t>(c.head_dim);
  if (block->rest == "attn_q.weight") slice.rows = Elements(selection.heads[layer], head, c.num_heads);
  if (block->rest == "attn_k.weight") slice.rows = Elements(selection.kv_heads[layer], head, c.num_kv_heads);
  if (block->rest == "attn_v.weight") slice.rows = Elements(selection.kv_heads[layer], head, c.num_kv_heads);
  if (block->rest == "attn_output.weight") slice.cols = Elements(selection.heads[layer], head, c.num_heads);
  if (block->rest == "ffn_gate.weight") slice.rows = Elements(selection.neurons[layer], 1, c.ffn_size);
  if (block->rest == "ffn_up.weight") slice.rows = Elements(selection.neurons[layer], 1, c.ffn_size);
  if (block->rest == "ffn_down.weight") slice.cols = Elements(selection.neurons[layer], 1, c.ffn_size);
  return slice;
}

}  // namespace

PruneSelection WholeModel(const ModelConfig& config) {
  const auto layers = static_cast<size_t>(config.num_layers);
  return {.layers = UpTo(config.num_layers),
          .heads = std::vector(layers, UpTo(config.num_heads)),
          .kv_heads = std::vector(layers, UpTo(config.num_kv_heads)),
          .neurons = std::vector(layers, UpTo(config.ffn_size))};
}

void CheckSelection(const ModelSource& source, const PruneSelection& selection) {
  RequireGguf(source);
  const ModelConfig& c = source.config;
  GS_CHECK(selection.heads.size() == static_cast<size_t>(c.num_layers));
  const auto require = [&](const char* what, size_t left) {
    if (left > 0) return;
    Fail(ErrorCode::kInvalidArgument, "[{}] pruning: expected some {} to stay, found none left; remove fewer",
         source.origin(), what);
  };
  require("layers", selection.layers.size());
  for (const size_t l : selection.layers) {
    require("heads", selection.heads[l].size());
    require("KV groups", selection.kv_heads[l].size());
    require("neurons", selection.neurons[l].size());
  }
  for (size_t i = 0; i < selection.layers.size(); ++i) {
    const LayerAttention& was = c.layers[selection.layers[i]];
    const LayerAttention& becomes = c.layers[i];
    if (was.window == becomes.window && was.inv_freq == becomes.inv_freq) continue;
    Fail(ErrorCode::kUnsupported,
         "[{}] layers: expected to remove whole periods of sliding and global attention, which the architecture tells "
         "apart by a layer's number, found layer {} at the place of layer {}; remove others",
         source.origin(), selection.layers[i], i);
  }
}

WriteModelOptions PruneOptions(const ModelSource& source, const PruneSelection& selection, WriteModelOptions options) {
  const ModelConfig& c = source.config;
  std::set<std::string> known;
  for (const CanonicalTensor& tensor : CanonicalTensors(source)) known.insert(tensor.name);
  for (const TensorView& tensor : source.gguf->tensors()) {
    if (known.contains(tensor.name) || IsEmbeddedName(tensor.name) || !ParseBlockTensor(tensor.name)) continue;
    Fail(ErrorCode::kUnsupported,
         "[{}] tensor {}: expected only tensors of the architecture in its layers, found this one, which gateskip "
         "cannot prune; start from a model without it",
         source.origin(), tensor.name);
  }
  const size_t any = selection.layers.front();
  const auto set = [&](const char* key, size_t size) {
    options.sizes[c.architecture + "." + key] = static_cast<uint32_t>(size);
  };
  set("block_count", selection.layers.size());
  set("feed_forward_length", selection.neurons[any].size());
  if (selection.heads[any].size() != static_cast<size_t>(c.num_heads)) {
    set("attention.head_count", selection.heads[any].size());
    set("attention.head_count_kv", selection.kv_heads[any].size());
    // Without these readers divide the hidden size by the number of heads.
    set("attention.key_length", static_cast<size_t>(c.head_dim));
    set("attention.value_length", static_cast<size_t>(c.head_dim));
  }
  options.slice_of = [&c, &selection](const std::string& canonical) { return SliceOf(c, selection, canonical); };
  return options;
}

}  // namespace gateskip
