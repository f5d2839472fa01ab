// SPDX-License-Identifier: Apache-2.0
// One sequence's view of the KV cache: which page holds which positions, and, per layer, whose entry each
// position uses. The pages belong to runtime/kv_cache.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/check.h"
#include "kernels/kernels.h"

namespace gateskip {

class KvSequence {
 public:
  explicit KvSequence(int num_layers) : source_(static_cast<size_t>(num_layers)) {}

  std::vector<std::byte*> pages;  // pages[p / kKvPagePositions] holds position p, all layers

  std::byte* PageLayer(int32_t position, size_t layer, size_t layer_bytes) const {
    return pages[static_cast<size_t>(position) / kernels::kKvPagePositions] + layer * layer_bytes;
  }

  // The layer whose entry `position` uses at `layer`, or kKvDropped. A layer keeps no list while every position
  // uses its own entry.
  void SetSource(size_t layer, int32_t position, uint16_t source) {
    std::vector<uint16_t>& list = source_[layer];
    const auto p = static_cast<size_t>(position);
    if (list.empty() && source == layer) return;
    if (list.size() <= p) list.resize(p + 1, static_cast<uint16_t>(layer));
    list[p] = source;
  }
  uint16_t Source(size_t layer, int32_t position) const {
    const auto p = static_cast<size_t>(position);
    return p < source_[layer].size() ? source_[layer][p] : static_cast<uint16_t>(layer);
  }
  // As kernels::AttentionRow::source wants it, covering [0, last]; nullptr = all own.
  const uint16_t* Sources(size_t layer, int32_t last) const {
    if (source_[layer].empty()) return nullptr;
    GS_CHECK(source_[layer].size() > static_cast<size_t>(last));
    return source_[layer].data();
  }
  // Extends every kept list to cover `last`, before the rows of a step are attended.
  void CoverSources(size_t layer, int32_t last) {
    std::vector<uint16_t>& list = source_[layer];
    if (!list.empty() && list.size() <= static_cast<size_t>(last)) {
      list.resize(static_cast<size_t>(last) + 1, static_cast<uint16_t>(layer));
    }
  }
  // Forgets positions >= length.
  void Truncate(int32_t length) {
    for (std::vector<uint16_t>& list : source_) {
      if (list.size() > static_cast<size_t>(length)) list.resize(static_cast<size_t>(length));
    }
  }

 private:
  std::vector<std::vector<uint16_t>> source_;  // [layers][positions]
};

}  // namespace gateskip
