// SPDX-License-Identifier: Apache-2.0
// One forward step: any mix of rows (prompt chunks, decode tokens, of any sequences), its results, and the
// workspace the layers share. Rows are compacted per branch: attention and MLP have their own row lists.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "gate/cost_model.h"
#include "gate/skip_plan.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "model/kv_sequence.h"
#include "tensor/matrix.h"

namespace gateskip {

struct StepRow {
  int32_t token = 0;
  int32_t position = 0;            // its own place in its sequence
  KvSequence* sequence = nullptr;  // pages for `position` are in place
  const SkipPlan* plan = nullptr;
  bool wants_logits = false;
};

// What happened to one row at one branch.
enum RowEvent : uint8_t {
  kRan = 1,
  kDecided = 2,    // by a gate
  kKvOnly = 4,     // skipped, but its K/V were projected
  kGateValue = 8,  // undecided, but its gate was evaluated for the product
};

// What a row under an early-exit plan remembers from layer to layer.
struct ExitState {
  bool exited = false;
  int32_t best = -1;         // the head's best token at the check before
  int same = 0;              // checks in a row that agreed with the one before them
  uint32_t head_checks = 0;  // times the head was run for it
};

// The inputs of a layer's matrices.
enum class MatrixInput {
  kAttention,  // of attn_q, attn_k and attn_v
  kAttended,   // of attn_output
  kMlp,        // of ffn_gate and ffn_up
  kActivated,  // of ffn_down
};

class Step {
 public:
  // Room for max_rows rows, and for the logits of max_logit_rows.
  Step(const ModelConfig& config, kernels::KvType kv_type, size_t max_rows, size_t max_logit_rows);

  // --- input -------------------------------------------------------------------------------------------
  std::vector<StepRow> rows;       // ascending positions within a sequence
  bool use_adapter = true;         // false: the plain model
  bool record_importance = false;  // evaluate every gate and keep its importance

  // If set, logits are handed over in tiles of at most max_logit_rows instead of being kept: `first` counts the
  // rows that want logits. Scoring a long text needs no [tokens, vocab] buffer then.
  std::function<void(size_t first, ConstMatrixView logits)> on_logits;

  // If set, called before layer 0 and after every layer with the residual stream, [rows, d].
  std::function<void(int layers_done, ConstMatrixView x)> on_hidden_state;

  // If set, called with the inputs of a branch's matrices, [rows, cols]: of kAttention and kMlp all rows, of the others
  // those that run.
  std::function<void(int layer, MatrixInput which, ConstMatrixView rows)> on_matrix_input;

  // --- results -----------------------------------------------------------------------------------------
  MatrixView logits;               // [rows that want logits, in order; vocab], unless on_logits took them
  std::vector<uint8_t> events;     // [branches][rows] RowEvent bits
  std::vector<float> importances;  // [branches][rows], if recorded; 1 where there is no gate

  uint8_t& event(int branch, size_t row) { return events[static_cast<size_t>(branch) * rows.size() + row]; }
  SkipCounts Counts(size_t first_row, size_t last_row) const;  // rows [first, last)

  // --- workspace, named as in the papers ---------------------------------------------------------------
  size_t max_rows, max_logit_rows;
  kernels::KvShape kv_shape;
  MatrixView x;                          // [rows, d] residual stream
  MatrixView h;                          // [rows, d] the branch's normalised input
  RowList kept, skipped, wanted;         // of the branch at hand | that want logits: indices into rows
  RowList without_kv;                    // skipped rows that the KV rule is for
  std::vector<float> importance;         // [rows]
  std::vector<ExitState> exits;          // [rows], if some row's plan is an early exit; else empty
  bool gate_evaluated = false;           // importance, and gate_values if the product wants g, are the branch's at hand
  std::vector<int32_t> positions;        // of the kept (or skipped) rows
  std::vector<kernels::RopeTable> rope;  // one per distinct set of frequencies
  std::vector<size_t> rope_of_layer;     // [layers] index into rope
  std::vector<kernels::AttentionRow> attention_rows;
  kernels::PackedRows packed;
  Matrix x_buffer, h_buffer, q, k, v, attended, branch_out, gate, up, low_rank, gate_values, gate_logits, head_input,
      logits_buffer, exit_state;
};

}  // namespace gateskip
