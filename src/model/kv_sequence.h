// SPDX-License-Identifier: Apache-2.0
// One sequence's view of the KV cache: which page holds which positions, and, per layer, whose entry each
// position uses. The pages belong to runtime/kv_cache.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
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
  // Positions that another sequence filled: a whole page, and what PageSources said of it there.
  void AppendPage(std::byte* page, std::span<const uint16_t> sources) {
    const size_t first = pages.size() * kernels::kKvPagePositions;
    pages.push_back(page);
    for (size_t i = 0; i < sources.size(); ++i) {
      SetSource(i / kernels::kKvPagePositions, static_cast<int32_t>(first + i % kernels::kKvPagePositions), sources[i]);
    }
  }
  // Source() of a page's positions, [layers][kKvPagePositions]; empty if each uses its own entry everywhere.
  std::vector<uint16_t> PageSources(size_t page) const {
    std::vector<uint16_t> sources;
    bool all_own = true;
    for (size_t layer = 0; layer < source_.size(); ++layer) {
      for (size_t slot = 0; slot < kernels::kKvPagePositions; ++slot) {
        sources.push_back(Source(layer, static_cast<int32_t>(page * kernels::kKvPagePositions + slot)));
        all_own = all_own && sources.back() == layer;
      }
    }
    if (all_own) sources.clear();
    return sources;
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
