// SPDX-License-Identifier: Apache-2.0
#include "model/transformer.h"

#include <algorithm>

#include "base/check.h"
#include "tensor/dequantize.h"

namespace gateskip {
namespace {

void Embed(const Transformer& model, Step& step) {
  const float scale = model.config.embedding_scale;
  for (size_t r = 0; r < step.rows.size(); ++r) {
    const std::span<float> row = step.x.row_span(r);
    DequantizeRow(model.weights.token_embedding, static_cast<size_t>(step.rows[r].token), row);
    if (scale != 1.0F) {
      for (float& value : row) value *= scale;
    }
  }
}

// The head runs for the rows that want logits, and for no other.
void Head(const Transformer& model, Step& step) {
  step.wanted.clear();
  for (size_t r = 0; r < step.rows.size(); ++r) {
    if (step.rows[r].wants_logits) step.wanted.push_back(static_cast<int32_t>(r));
  }
  step.logits = step.logits_buffer.View(0);
  GS_CHECK(step.on_logits || step.wanted.size() <= step.max_logit_rows);
  for (size_t first = 0; first < step.wanted.size(); first += step.max_logit_rows) {
    const size_t count = std::min(step.max_logit_rows, step.wanted.size() - first);
    HeadLogits(model, std::span(step.wanted).subspan(first, count), step);
    if (step.on_logits) step.on_logits(first, step.logits);
  }
}

}  // namespace

void HeadLogits(const Transformer& model, std::span<const int32_t> rows, Step& step) {
  GS_CHECK(rows.size() <= step.max_logit_rows);
  const MatrixView h = step.head_input.View(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) std::ranges::copy(step.x.row_span(static_cast<size_t>(rows[i])), h.row(i));
  kernels::RmsNorm(h, model.weights.output_norm, model.config.norm_eps, h, model.pool);
  kernels::PackRows(h, {}, true, &step.packed, model.pool);
  step.logits = step.logits_buffer.View(rows.size());
  const kernels::Product head = {&model.weights.head, step.logits};
  kernels::MatMul(step.packed, {&head, 1}, model.pool);
}

void Transformer::Forward(Step& step) const {
  const size_t n = step.rows.size();
  GS_CHECK(n > 0 && n <= step.max_rows);
  for (const StepRow& row : step.rows) {
    GS_CHECK(row.token >= 0 && row.token < config.vocab_size && row.plan != nullptr && row.sequence != nullptr);
    for (kernels::RopeTable& table : step.rope) table.Cover(row.position);
  }
  step.x = step.x_buffer.View(n);
  step.h = step.h_buffer.View(n);
  const auto cells = static_cast<size_t>(config.num_branches()) * n;
  step.events.assign(cells, 0);
  step.importances.assign(step.record_importance ? cells : 0, 1.0F);
  Embed(*this, step);
  StartExits(step);
  if (step.on_hidden_state) step.on_hidden_state(0, step.x);
  for (int layer = 0; layer < config.num_layers; ++layer) {
    CheckExits(*this, layer, step);
    DecoderLayer(*this, layer, step);
    if (step.on_hidden_state) step.on_hidden_state(layer + 1, step.x);
  }
  Head(*this, step);
}

}  // namespace gateskip
