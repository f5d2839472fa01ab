// SPDX-License-Identifier: Apache-2.0
// The adapter directory: gates, thresholds, optional LoRA deltas, and what they were trained from.
//
//   adapter_config.json         AdapterConfig below, one key per field
//   adapter_model.safetensors   f32 or f16 tensors, named:
//     blk.{l}.{attn|mlp}.gate.weight   scalar: [d]; vector: [d, d]
//     blk.{l}.{attn|mlp}.gate.down     low_rank, mlp: [rank, d]
//     blk.{l}.{attn|mlp}.gate.up       low_rank, mlp: [d, rank]
//     blk.{l}.{attn|mlp}.gate.bias     scalar: [1]; else [d]
//     shared.{attn|mlp}.gate.{weight|down|up}   gate_shared: these instead of the branches' own
//     blk.{l}.{attn|mlp}.decision.weight [d], .decision.bias [1]   vector: the distilled scalar head
//     blk.{l}.{attn|mlp}.skip.bias [d], .skip.down [rank, d], .skip.up [d, rank]   the skip path, if any
//     blk.{l}.{attn_q|attn_k|attn_v|attn_output|ffn_gate|ffn_up|ffn_down}.lora_a [r, in], .lora_b [out, r]
//
// Reading verifies names, shapes, counts and that every number is finite; binding to a base model
// (model/adapter_weights.h) verifies the fingerprint; the engine runs the self-test.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tensor/tensor_view.h"

namespace gateskip {

// g of a row, h its normalised input; importance s = mean(g) unless a head decides.
enum class GateKind {
  kScalar,   // sigmoid(w h + c), one value
  kLowRank,  // sigmoid(U D h + c), one value per channel, as below
  kVector,   // sigmoid(W h + c); a scalar head distilled from s decides
  kMlp,      // sigmoid(U silu(D h) + c)
};

// Whether a kind's matrices are a pair of AdapterConfig::gate_rank.
constexpr bool GateHasRank(GateKind kind) { return kind == GateKind::kLowRank || kind == GateKind::kMlp; }

// Where g enters.
enum class GateProduct {
  kNone,    // nowhere: the gate only decides
  kOutput,  // g * Branch(h)
  kInput,   // Branch(g * h), the paper's gate before the module
};

enum class GateScope {
  kBranch,  // every branch has a gate
  kLayer,   // the attention branch's gate decides for the MLP branch of its layer, too
};

// What later tokens see, at a layer, of a token that skipped that layer's attention branch.
enum class KvRule {
  kCompute,  // its K/V are still projected and stored
  kCopy,     // it shares the entry of the nearest layer below with the same kind of attention
  kDrop,     // it is not attended to at this layer
};

// The names in files and options.
inline constexpr std::pair<GateKind, const char*> kGateKinds[] = {{GateKind::kScalar, "scalar"},
                                                                  {GateKind::kLowRank, "low_rank"},
                                                                  {GateKind::kVector, "vector"},
                                                                  {GateKind::kMlp, "mlp"}};
inline constexpr std::pair<GateProduct, const char*> kGateProducts[] = {
    {GateProduct::kNone, "none"}, {GateProduct::kOutput, "output"}, {GateProduct::kInput, "input"}};
inline constexpr std::pair<GateScope, const char*> kGateScopes[] = {{GateScope::kBranch, "branch"},
                                                                    {GateScope::kLayer, "layer"}};
inline constexpr std::pair<KvRule, const char*> kKvRules[] = {
    {KvRule::kCompute, "compute"}, {KvRule::kCopy, "copy"}, {KvRule::kDrop, "drop"}};

// The name of `value` in one of these tables.
template <typename Enum, size_t n>
constexpr const char* NameIn(const std::pair<Enum, const char*> (&table)[n], Enum value) {
  for (const auto& [known, name] : table) {
    if (known == value) return name;
  }
  return "";
}

struct AdapterSelfTest {
  std::vector<int32_t> token_ids;
  double budget = 0;
  // One character per branch and token, branch-major: '1' = ran, '0' = skipped.
  std::vector<std::string> expected_mask;
  // Largest next-token logits after the last token, for the f32 path.
  std::vector<int32_t> top_ids;
  std::vector<float> top_logits;
};

inline constexpr int kAdapterFormatVersion = 2;  // what is written; every version from 1 on is read

struct AdapterConfig {
  // Base model.
  std::string base_model_name;
  std::string base_fingerprint;  // hex SHA-256, see ModelFingerprint()
  std::string architecture;
  int num_layers = 0;
  int hidden_size = 0;
  // Gates. branch = 2 * layer + {0: attention, 1: mlp}.
  GateKind gate_kind = GateKind::kScalar;
  int gate_rank = 0;         // low_rank and mlp only
  bool gate_shared = false;  // one set of matrices for all attention branches and one for all MLP branches; the biases
                             // and the heads of vector gates stay each branch's own
  GateProduct gate_product = GateProduct::kNone;
  GateScope gate_scope = GateScope::kBranch;
  KvRule kv_rule = KvRule::kCompute;
  // [2 * num_layers]; a branch that is not gated always runs. Layer scope: both branches of a layer or none.
  std::vector<bool> gated;
  int always_run_positions = 1;  // the first positions of a sequence never skip
  // The skip path: what a skipped row adds to the residual stream instead of the branch,
  // bias + up (down h). -1: nothing is added; 0: the bias only; r > 0: bias and a rank-r map.
  int skip_rank = -1;
  // LoRA deltas, rank 0 = none. Applied when the adapter is active, at every budget.
  int lora_rank = 0;
  float lora_alpha = 0;                   // delta = alpha / rank * B A
  std::vector<std::string> lora_targets;  // of attn_q attn_k attn_v attn_output ffn_gate ffn_up ffn_down
  // Calibration: run iff importance > threshold. Budgets ascend from 0; row 0 (budget 0) runs everything. Layer scope:
  // the MLP branch has the importance and the thresholds of its layer's attention branch.
  std::vector<double> budgets;
  std::vector<std::vector<float>> thresholds;  // [budgets][2 * num_layers]
  std::vector<double> realised_net_saving;     // [budgets], on the calibration text
  std::string calibration_sha256;
  int64_t calibration_tokens = 0;
  // How it was made: free-form JSON text (hyper-parameters, data hashes, steps), shown by `gateskip info`.
  std::string training_json = "{}";
  AdapterSelfTest self_test;  // empty token_ids = none

  // Whether the branch has a gate of its own: gated, and not one that goes with its layer's attention branch.
  bool HasGate(int branch) const {
    return gated[static_cast<size_t>(branch)] && (gate_scope == GateScope::kBranch || branch % 2 == 0);
  }
};

// What the names of a branch's tensors begin with: "blk.{l}.attn." or "blk.{l}.mlp."; and those of the matrices of its
// gate, which may be shared.
std::string BranchPrefix(int branch);
std::string GateMatrixPrefix(const AdapterConfig& config, int branch);

struct AdapterTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

struct Adapter {
  AdapterConfig config;
  std::map<std::string, AdapterTensor> tensors;
};

// Throws Error: kNotFound, kCorruptData, kUnsupported (unknown kind or version), kLimitExceeded.
Adapter ReadAdapter(const std::string& directory);
// The same of the two files' contents; the origins name them in messages.
Adapter ParseAdapter(std::string_view config_json, const std::string& config_origin,
                     std::span<const std::byte> safetensors, const std::string& tensor_origin);

// The same of a config and tensors that are in another container: `find` gives the tensors (nullptr when absent),
// `names` all that the container holds for the adapter.
Adapter AdapterFromTensors(std::string_view config_json, const std::string& config_origin,
                           const std::function<const TensorView*(const std::string&)>& find,
                           const std::vector<std::string>& names, const std::string& tensor_origin);
// The text of adapter_config.json.
std::string AdapterConfigJson(const AdapterConfig& config);

// Writes into a temporary sibling, syncs, renames; an existing adapter at `directory` is replaced only at the
// end. `half_precision` stores tensors as F16. Throws Error: kIo; kInvalidArgument for numbers that would not be
// finite in the file, which the reader would refuse.
void WriteAdapter(const Adapter& adapter, const std::string& directory, bool half_precision);

}  // namespace gateskip
