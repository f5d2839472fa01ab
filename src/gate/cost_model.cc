// SPDX-License-Identifier: Apache-2.0
#include "gate/cost_model.h"

#include <utility>

#include "base/check.h"
#include "gate/branch.h"

namespace gateskip {
namespace {

double D(int64_t value) { return static_cast<double>(value); }

// Elements of the LoRA pair on a [out, in] linear layer.
double LoraCost(int64_t rank, int64_t in, int64_t out) { return D(rank) * (D(in) + D(out)); }

bool HasTarget(const AdapterConfig& adapter, const char* name) {
  for (const std::string& target : adapter.lora_targets) {
    if (target == name) return adapter.lora_rank > 0;
  }
  return false;
}

struct LinearShape {
  const char* name;
  BranchKind branch;
  int64_t in, out;
  bool is_kv;
};

std::vector<LinearShape> LinearShapes(const LayerDims& d) {
  return {{"attn_q", BranchKind::kAttention, d.hidden_size, d.query_size, false},
          {"attn_k", BranchKind::kAttention, d.hidden_size, d.kv_size, true},
          {"attn_v", BranchKind::kAttention, d.hidden_size, d.kv_size, true},
          {"attn_output", BranchKind::kAttention, d.query_size, d.hidden_size, false},
          {"ffn_gate", BranchKind::kMlp, d.hidden_size, d.ffn_size, false},
          {"ffn_up", BranchKind::kMlp, d.hidden_size, d.ffn_size, false},
          {"ffn_down", BranchKind::kMlp, d.ffn_size, d.hidden_size, false}};
}

}  // namespace

SkipCounts::SkipCounts(int num_branches)
    : run(static_cast<size_t>(num_branches)),
      skipped(static_cast<size_t>(num_branches)),
      kv_only(static_cast<size_t>(num_branches)),
      decided(static_cast<size_t>(num_branches)) {}

void SkipCounts::Add(const SkipCounts& other) {
  GS_CHECK(other.run.size() == run.size());
  for (size_t b = 0; b < run.size(); ++b) {
    run[b] += other.run[b];
    skipped[b] += other.skipped[b];
    kv_only[b] += other.kv_only[b];
    decided[b] += other.decided[b];
  }
  head_checks += other.head_checks;
}

void SkipCounts::Subtract(const SkipCounts& other) {
  GS_CHECK(other.run.size() == run.size());
  for (size_t b = 0; b < run.size(); ++b) {
    run[b] -= other.run[b];
    skipped[b] -= other.skipped[b];
    kv_only[b] -= other.kv_only[b];
    decided[b] -= other.decided[b];
  }
  head_checks -= other.head_checks;
}

CostModel::CostModel(const LayerDims& dims) : branches_(static_cast<size_t>(2 * dims.num_layers)) {
  for (size_t b = 0; b < branches_.size(); ++b) {
    for (const LinearShape& linear : LinearShapes(dims)) {
      if (linear.branch != KindOfBranch(static_cast<int>(b))) continue;
      const double cost = D(linear.in) * D(linear.out);
      branches_[b].dense += cost;
      if (linear.is_kv) branches_[b].kv += cost;
    }
    dense_per_row_ += branches_[b].dense;
  }
}

CostModel::CostModel(const LayerDims& dims, const AdapterConfig& adapter) : CostModel(dims) {
  const double d = D(dims.hidden_size);
  for (size_t b = 0; b < branches_.size(); ++b) {
    BranchCost& cost = branches_[b];
    for (const LinearShape& linear : LinearShapes(dims)) {
      if (linear.branch != KindOfBranch(static_cast<int>(b)) || !HasTarget(adapter, linear.name)) continue;
      const double lora = LoraCost(adapter.lora_rank, linear.in, linear.out);
      cost.kept_extra += lora;
      if (linear.is_kv) cost.kv += lora;
    }
    if (b >= adapter.gated.size() || !adapter.gated[b]) continue;
    if (adapter.skip_rank >= 0) cost.skip_path = d * (1 + 2 * adapter.skip_rank);
    if (!adapter.HasGate(static_cast<int>(b))) continue;
    const bool product = adapter.gate_product != GateProduct::kNone;
    cost.decision = GateHasRank(adapter.gate_kind) ? 2 * d * adapter.gate_rank : d;
    if (adapter.gate_kind == GateKind::kVector) {
      if (product) cost.kept_extra += d * d;  // its head decides and says nothing of g
    } else if (product) {
      cost.undecided_extra = cost.decision;
    }
  }
}

CostModel::CostModel(std::vector<BranchCost> branches, double head) : branches_(std::move(branches)), head_(head) {
  for (const BranchCost& branch : branches_) dense_per_row_ += branch.dense;
}

double CostModel::NominalSaving(const SkipCounts& counts) {
  uint64_t run = 0;
  uint64_t skipped = 0;
  for (size_t b = 0; b < counts.run.size(); ++b) {
    run += counts.run[b];
    skipped += counts.skipped[b];
  }
  return run + skipped == 0 ? 0.0 : static_cast<double>(skipped) / static_cast<double>(run + skipped);
}

double CostModel::NetSaving(const SkipCounts& counts) const {
  GS_CHECK(counts.run.size() == branches_.size());
  double executed = static_cast<double>(counts.head_checks) * head_;
  double dense = 0;
  for (size_t b = 0; b < branches_.size(); ++b) {
    const BranchCost& cost = branches_[b];
    const auto run = static_cast<double>(counts.run[b]);
    executed += run * (cost.dense + cost.kept_extra) + static_cast<double>(counts.kv_only[b]) * cost.kv +
                static_cast<double>(counts.skipped[b]) * cost.skip_path +
                static_cast<double>(counts.decided[b]) * cost.decision;
    dense += (run + static_cast<double>(counts.skipped[b])) * cost.dense;
  }
  return dense == 0 ? 0.0 : 1.0 - executed / dense;
}

double CostModel::NetSaving(std::span<const uint8_t> kept, KvRule rule) const {
  GS_CHECK(kept.size() == branches_.size());
  double executed = 0;
  for (size_t b = 0; b < branches_.size(); ++b) {
    const BranchCost& cost = branches_[b];
    executed += cost.decision;
    if (kept[b] != 0) {
      executed += cost.dense + cost.kept_extra;
    } else {
      executed += cost.skip_path + (rule == KvRule::kCompute ? cost.kv : 0.0);
    }
  }
  return 1.0 - executed / dense_per_row_;
}

}  // namespace gateskip
