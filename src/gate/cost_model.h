// SPDX-License-Identifier: Apache-2.0
// What a token costs, and what skipping really saves: net of gates, of the K/V that is projected anyway, and of
// LoRA deltas. Costs are weight elements multiplied for one row (training, where every matrix has one type) or weight
// bytes read for one row (the runtime: model/measured_cost.h). The base is the layer stack of the *ungated* model, no
// embedding and no head.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "io/adapter.h"

namespace gateskip {

// Shape facts the cost needs; model/config.h has the rest.
struct LayerDims {
  int num_layers;
  int64_t hidden_size;
  int64_t query_size;  // heads * head_dim
  int64_t kv_size;     // kv_heads * head_dim
  int64_t ffn_size;
};

struct BranchCost {
  double dense = 0;       // the branch of the ungated model
  double kept_extra = 0;  // added when it runs: vector gate (if the product wants g), LoRA
  double kv = 0;          // K and V with their LoRA: still executed when skipped, under KV rule `compute`
  double skip_path = 0;   // what runs instead of the branch (AdapterConfig::skip_rank)
  double decision = 0;    // the gate's evaluation, paid by every decided row; 0 where another branch's gate decides
  // Added when it runs undecided: the gate is evaluated all the same, since the product wants g. `decision` or 0.
  double undecided_extra = 0;
};

// How often each branch ran, over any number of rows.
struct SkipCounts {
  std::vector<uint64_t> run;      // [branches] rows that ran the branch
  std::vector<uint64_t> skipped;  // [branches] rows that skipped it
  std::vector<uint64_t> kv_only;  // [branches] skipped rows whose K/V were projected all the same
  std::vector<uint64_t> decided;  // [branches] rows whose gate was evaluated, for a decision or for the product
  uint64_t head_checks = 0;       // times the head was run below the top, to decide on an early exit

  explicit SkipCounts(int num_branches = 0);
  void Add(const SkipCounts& other);
  void Subtract(const SkipCounts& other);
  bool operator==(const SkipCounts&) const = default;
};

class CostModel {
 public:
  // The plain model: nothing extra, nothing decided.
  explicit CostModel(const LayerDims& dims);
  // With an adapter's gates and deltas.
  CostModel(const LayerDims& dims, const AdapterConfig& adapter);
  // Costs found some other way, [branches], and that of running the head for one row.
  explicit CostModel(std::vector<BranchCost> branches, double head = 0);

  const BranchCost& branch(int b) const { return branches_[static_cast<size_t>(b)]; }
  int num_branches() const { return static_cast<int>(branches_.size()); }
  double dense_per_row() const { return dense_per_row_; }

  // Share of branch applications that were skipped, every branch counting alike.
  static double NominalSaving(const SkipCounts& counts);
  // 1 - executed / dense, everything included; negative when gates cost more than they save.
  double NetSaving(const SkipCounts& counts) const;
  // Net saving of one row with the given kept mask ([branches], nonzero = ran), for training and calibration.
  // Every gated branch counts as decided.
  double NetSaving(std::span<const uint8_t> kept, KvRule rule) const;

 private:
  std::vector<BranchCost> branches_;
  double dense_per_row_ = 0;
  double head_ = 0;
};

}  // namespace gateskip
