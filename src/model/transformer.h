// SPDX-License-Identifier: Apache-2.0
// The decoder: embedding, layers, head. Layers read in the paper's order (decoder_layer.cc).
#pragma once

#include <cstdint>
#include <optional>

#include "base/thread_pool.h"
#include "model/adapter_weights.h"
#include "model/config.h"
#include "model/step.h"
#include "model/weights.h"

namespace gateskip {

class Transformer {
 public:
  Transformer(ModelConfig model_config, ModelWeights model_weights, std::optional<AdapterWeights> model_adapter,
              ThreadPool& thread_pool)
      : config(std::move(model_config)),
        weights(std::move(model_weights)),
        adapter(std::move(model_adapter)),
        pool(thread_pool) {}

  // Runs step.rows; fills step.logits, step.events and (if asked) step.importances. The rows' K/V are in their
  // sequences' pages afterwards. Tokens must be in [0, vocab_size).
  void Forward(Step& step) const;

  const ModelConfig config;
  const ModelWeights weights;
  const std::optional<AdapterWeights> adapter;
  ThreadPool& pool;
};

// One layer: attention branch, then MLP branch (decoder_layer.cc).
void DecoderLayer(const Transformer& model, int layer, Step& step);

// --- the named steps of a branch (skip.cc) ---------------------------------------------------------------
// The branch's gate, or nullptr: no adapter, adapter off, or a branch that always runs.
const BranchGate* GateOf(const Transformer& model, int branch, const Step& step);
// Evaluates the gate where some row's plan asks for it and splits the rows into step.kept and step.skipped.
void Decide(const Transformer& model, int branch, Step& step);
// The K/V entry of every skipped row, as the adapter's KV rule says: of its h, whatever the product.
void ApplyKvRule(const Transformer& model, int layer, Step& step);
// h[kept] *= g for gates before the branch (GateProduct::kInput), else nothing.
void GateInput(const Transformer& model, int branch, Step& step);
// x[kept] += g * step.branch_out, g = 1 unless GateProduct::kOutput; x[skipped] += the skip path.
void GatedScatterAdd(const Transformer& model, int branch, Step& step);

// K and V of the packed rows (indices in `rows`): project, norm, rotate, store (decoder_layer.cc).
void ProjectAndStoreKv(const Transformer& model, int layer, const RowList& rows, Step& step);

// Logits of some rows as they are now (indices into step.rows, at most step.max_logit_rows), into step.logits
// (transformer.cc).
void HeadLogits(const Transformer& model, std::span<const int32_t> rows, Step& step);

// --- early exit (early_exit.cc) --------------------------------------------------------------------------
// Clears step.exits, or sizes it if some row's plan is an early exit.
void StartExits(Step& step);
// Before `layer`: the rows whose plan asks here and that are sure enough leave; nothing runs for them any more.
void CheckExits(const Transformer& model, int layer, Step& step);

}  // namespace gateskip
