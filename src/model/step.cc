// SPDX-License-Identifier: Apache-2.0
#include "model/step.h"

#include <algorithm>

namespace gateskip {

Step::Step(const ModelConfig& config, kernels::KvType kv_type, size_t max_row_count, size_t max_logit_row_count)
    : max_rows(max_row_count),
      max_logit_rows(max_logit_row_count),
      kv_shape{static_cast<size_t>(config.num_kv_heads), static_cast<size_t>(config.head_dim), kv_type} {
  const auto d = static_cast<size_t>(config.hidden_size);
  const auto query = static_cast<size_t>(config.query_size());
  const auto kv = static_cast<size_t>(config.kv_size());
  x_buffer.Reserve(max_rows, d);
  h_buffer.Reserve(max_rows, d);
  q.Reserve(max_rows, query);
  k.Reserve(max_rows, kv);
  v.Reserve(max_rows, kv);
  attended.Reserve(max_rows, query);
  branch_out.Reserve(max_rows, d);
  gate.Reserve(max_rows, static_cast<size_t>(config.ffn_size));
  up.Reserve(max_rows, static_cast<size_t>(config.ffn_size));
  for (const LayerAttention& layer : config.layers) {
    const auto known =
        std::ranges::find_if(rope, [&](const auto& table) { return table.inv_freq() == layer.inv_freq; });
    rope_of_layer.push_back(static_cast<size_t>(known - rope.begin()));
    if (known == rope.end()) rope.emplace_back(layer.inv_freq);
  }
  head_input.Reserve(max_logit_rows, d);
  logits_buffer.Reserve(max_logit_rows, static_cast<size_t>(config.vocab_size));
}

SkipCounts Step::Counts(size_t first_row, size_t last_row) const {
  const size_t branches = rows.empty() ? 0 : events.size() / rows.size();
  SkipCounts counts(static_cast<int>(branches));
  for (size_t b = 0; b < branches; ++b) {
    for (size_t r = first_row; r < last_row; ++r) {
      const uint8_t event = events[b * rows.size() + r];
      ++((event & kRan) != 0 ? counts.run : counts.skipped)[b];
      counts.decided[b] += (event & (kDecided | kGateValue)) != 0;
      counts.kv_only[b] += (event & kKvOnly) != 0;
    }
  }
  for (size_t r = first_row; r < last_row && !exits.empty(); ++r) counts.head_checks += exits[r].head_checks;
  return counts;
}

}  // namespace gateskip
