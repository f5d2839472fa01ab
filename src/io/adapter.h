// SPDX-License-Identifier: Apache-2.0
// The adapter directory: gates, thresholds, optional LoRA deltas, and what they were trained from.
//
//   adapter_config.json         AdapterConfig below, one key per field
//   adapter_model.safetensors   f32 or f16 tensors, named:
//     blk.{l}.{attn|mlp}.gate.weight   scalar: [d]; vector: [d, d]
//     blk.{l}.{attn|mlp}.gate.down     low_rank: [rank, d]
//     blk.{l}.{attn|mlp}.gate.up       low_rank: [d, rank]
//     blk.{l}.{attn|mlp}.gate.bias     scalar: [1]; low_rank, vector: [d]
//     blk.{l}.{attn|mlp}.decision.weight [d], .decision.bias [1]   vector: the distilled scalar head
//     blk.{l}.{attn|mlp}.skip.bias [d], .skip.down [rank, d], .skip.up [d, rank]   the skip path, if any
//     blk.{l}.{attn_q|attn_k|attn_v|attn_output|ffn_gate|ffn_up|ffn_down}.lora_a [r, in], .lora_b [out, r]
//
// Reading verifies names, shapes, counts and that every number is finite; binding to a base model
// (gate/gate_set.h) verifies the fingerprint; the engine runs the self-test.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor_view.h"

namespace gateskip {

enum class GateKind { kScalar, kLowRank, kVector };

// What later tokens see, at a layer, of a token that skipped that layer's attention branch.
enum class KvRule {
  kCompute,  // its K/V are still projected and stored
  kCopy,     // it shares the entry of the nearest layer below with the same kind of attention
  kDrop,     // it is not attended to at this layer
};

struct AdapterSelfTest {
  std::vector<int32_t> token_ids;
  double budget = 0;
  // One character per branch and token, branch-major: '1' = ran, '0' = skipped.
  std::vector<std::string> expected_mask;
  // Largest next-token logits after the last token, for the f32 path.
  std::vector<int32_t> top_ids;
  std::vector<float> top_logits;
};

struct AdapterConfig {
  int format_version = 1;
  // Base model.
  std::string base_model_name;
  std::string base_fingerprint;  // hex SHA-256, see ModelFingerprint()
  std::string architecture;
  int num_layers = 0;
  int hidden_size = 0;
  // Gates. branch = 2 * layer + {0: attention, 1: mlp}.
  GateKind gate_kind = GateKind::kScalar;
  int gate_rank = 0;             // low_rank only
  bool multiply_output = false;  // false: decision-only gates
  KvRule kv_rule = KvRule::kCompute;
  std::vector<bool> gated;       // [2 * num_layers]; a branch without a gate always runs
  int always_run_positions = 1;  // the first positions of a sequence never skip
  // The skip path: what a skipped row adds to the residual stream instead of the branch,
  // bias + up (down h). -1: nothing is added; 0: the bias only; r > 0: bias and a rank-r map.
  int skip_rank = -1;
  // LoRA deltas, rank 0 = none. Applied when the adapter is active, at every budget.
  int lora_rank = 0;
  float lora_alpha = 0;                   // delta = alpha / rank * B A
  std::vector<std::string> lora_targets;  // of attn_q attn_k attn_v attn_output ffn_gate ffn_up ffn_down
  // Calibration: run iff importance > threshold. Budgets ascend from 0; row 0 (budget 0) runs everything.
  std::vector<double> budgets;
  std::vector<std::vector<float>> thresholds;  // [budgets][2 * num_layers]
  std::vector<double> realised_net_saving;     // [budgets], on the calibration text
  std::string calibration_sha256;
  int64_t calibration_tokens = 0;
  // How it was made: free-form JSON text (hyper-parameters, data hashes, steps), shown by `gateskip info`.
  std::string training_json = "{}";
  AdapterSelfTest self_test;  // empty token_ids = none
};

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
