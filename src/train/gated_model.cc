// SPDX-License-Identifier: Apache-2.0
#include "train/gated_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "gate/branch.h"
#include "train/ops.h"
#include "train/random.h"

namespace gateskip::train {
// Under KV rule `copy`: the entries every layer's queries see.
struct GatedModel::KvState {
  std::vector<Tensor> k, v;  // [layers]
};

GatedModel::GatedModel(const BaseModel& base, const AdapterConfig& config, uint64_t seed)
    : base_(base),
      config_(config),
      gates_(config_, seed, [this](const std::string& name, Tensor value, ParameterGroup group) {
        return Add(name, std::move(value), group);
      }) {
  const ModelConfig& c = base.config;
  lora_.resize(static_cast<size_t>(c.num_layers));
  const struct {
    const char* name;
    LoraPair LayerLora::*pair;
    Tensor BaseLayer::*weight;
  } kTargets[] = {{"attn_q", &LayerLora::q, &BaseLayer::q},         {"attn_k", &LayerLora::k, &BaseLayer::k},
                  {"attn_v", &LayerLora::v, &BaseLayer::v},         {"attn_output", &LayerLora::o, &BaseLayer::o},
                  {"ffn_gate", &LayerLora::gate, &BaseLayer::gate}, {"ffn_up", &LayerLora::up, &BaseLayer::up},
                  {"ffn_down", &LayerLora::down, &BaseLayer::down}};
  for (int l = 0; l < c.num_layers && config_.lora_rank > 0; ++l) {
    for (size_t t = 0; t < std::size(kTargets); ++t) {
      const auto& target = kTargets[t];
      if (std::find(config_.lora_targets.begin(), config_.lora_targets.end(), target.name) ==
          config_.lora_targets.end()) {
        continue;
      }
      const Tensor& weight = base.layers[static_cast<size_t>(l)].*target.weight;
      const std::string p = fmt::format("blk.{}.{}.", l, target.name);
      LoraPair& pair = lora_[static_cast<size_t>(l)].*target.pair;
      const Random random(seed, Stream::kInit, 100'000 + static_cast<uint64_t>(l) * 16 + t);
      const double deviation = 1.0 / std::sqrt(static_cast<double>(weight.size(1)));
      pair.a = Add(p + "lora_a", NormalTensor({config_.lora_rank, weight.size(1)}, deviation, random),
                   ParameterGroup::kLora);
      pair.b = Add(p + "lora_b", at::zeros({weight.size(0), config_.lora_rank}, at::kFloat), ParameterGroup::kLora);
    }
  }
  Refresh();
}

Tensor GatedModel::Add(const std::string& name, Tensor value, ParameterGroup group) {
  value.set_requires_grad(true);
  parameters_.push_back({name, value, group});
  return value;
}

void GatedModel::Refresh() {
  const auto cast = [&](const Tensor& t) { return t.defined() ? t.to(base_.dtype) : Tensor(); };
  const double scale = config_.lora_rank > 0 ? static_cast<double>(config_.lora_alpha) / config_.lora_rank : 0.0;
  gates_.Refresh(base_.dtype);
  lora_compute_ = lora_;
  for (LayerLora& l : lora_compute_) {
    for (LoraPair* pair : {&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down}) {
      if (!pair->a.defined()) continue;
      pair->a = cast(pair->a);
      pair->b = (pair->b * scale).to(base_.dtype);
    }
  }
}

Tensor GatedModel::Linear(const Tensor& x, const Tensor& weight, const LoraPair& lora, bool use_adapter) const {
  Tensor y = at::linear(x, weight);
  if (use_adapter && lora.a.defined()) y = y + at::linear(at::linear(x, lora.a), lora.b);
  return y;
}

Tensor GatedModel::RunAttention(int layer, const Tensor& h, int64_t batch, const Tensor& keep, bool use_adapter,
                                KvState& kv) {
  const ModelConfig& c = base_.config;
  const BaseLayer& w = base_.layers[static_cast<size_t>(layer)];
  const LayerLora& lora = lora_compute_[static_cast<size_t>(layer)];
  const int64_t length = h.size(0) / batch;
  const auto kind = static_cast<size_t>(w.rope);
  const auto heads = [&](const Tensor& x, const Tensor& norm, bool rotate) {
    Tensor y = x;
    if (norm.defined()) {
      y = RmsNorm(y.reshape({-1, c.head_dim}), norm, static_cast<double>(c.norm_eps), base_.dtype).view(x.sizes());
    }
    return SplitHeads(y, batch, c.head_dim, rotate ? base_.cosines[kind] : Tensor(),
                      rotate ? base_.sines[kind] : Tensor(), c.rope_layout);
  };
  const Tensor q = heads(Linear(h, w.q, lora.q, use_adapter), w.q_norm, true);
  Tensor k = heads(Linear(h, w.k, lora.k, use_adapter), w.k_norm, true);
  Tensor v = heads(Linear(h, w.v, lora.v, use_adapter), Tensor(), false);
  Tensor visible;
  if (use_adapter && keep.defined() && config_.kv_rule == KvRule::kDrop) visible = (keep.detach() > 0.5).to(at::kByte);
  if (use_adapter && config_.kv_rule == KvRule::kCopy) {
    const int below = KvCopySource(c, layer);
    // A pass that begins above `below` (the prior's) leaves whole branches out: no row that runs then attends to one
    // that does not, so there is nothing to copy.
    if (keep.defined() && below >= 0 && kv.k[static_cast<size_t>(below)].defined()) {
      const Tensor ran = (keep.detach() > 0.5).view({batch, 1, length, 1});
      const Tensor mask = ran.expand({batch, c.num_kv_heads, length, 1}).reshape({-1, length, 1});
      k = at::where(mask, k, kv.k[static_cast<size_t>(below)]);
      v = at::where(mask, v, kv.v[static_cast<size_t>(below)]);
    }
    kv.k[static_cast<size_t>(layer)] = k;
    kv.v[static_cast<size_t>(layer)] = v;
  }
  const AttentionShape shape{batch,
                             length,
                             c.num_heads,
                             c.num_kv_heads,
                             c.head_dim,
                             static_cast<double>(c.attention_scale),
                             c.layers[static_cast<size_t>(layer)].window};
  const Tensor out = Linear(CausalAttention(q, k, v, shape, visible), w.o, lora.o, use_adapter);
  if (!w.post_attn_norm.defined()) return out;
  return RmsNorm(out, w.post_attn_norm, static_cast<double>(c.norm_eps), base_.dtype);
}

Tensor GatedModel::RunMlp(int layer, const Tensor& h, bool use_adapter) {
  const BaseLayer& w = base_.layers[static_cast<size_t>(layer)];
  const LayerLora& lora = lora_compute_[static_cast<size_t>(layer)];
  const Tensor hidden = GatedActivation(Linear(h, w.gate, lora.gate, use_adapter),
                                        Linear(h, w.up, lora.up, use_adapter), base_.config.activation);
  const Tensor out = Linear(hidden, w.down, lora.down, use_adapter);
  if (!w.post_ffn_norm.defined()) return out;
  return RmsNorm(out, w.post_ffn_norm, static_cast<double>(base_.config.norm_eps), base_.dtype);
}

Tensor GatedModel::Embed(const Tensor& tokens) const {
  Tensor x = at::embedding(base_.embedding, tokens.reshape({-1})).to(at::kFloat);
  return base_.config.embedding_scale == 1.0F ? x : x * base_.config.embedding_scale;
}

Tensor GatedModel::Logits(const Tensor& hidden, const Tensor& rows) const {
  const Tensor picked = rows.defined() ? hidden.index_select(0, rows) : hidden;
  const Tensor h = RmsNorm(picked, base_.output_norm, static_cast<double>(base_.config.norm_eps), base_.dtype);
  return at::linear(h, base_.head);
}

Tensor GatedModel::Forward(const Tensor& tokens, const Decisions& decisions, bool use_adapter, ForwardTrace* trace) {
  return ForwardFrom(Embed(tokens), 0, tokens.size(0), decisions, use_adapter, trace, {});
}

Tensor GatedModel::ForwardFrom(Tensor x, int first_branch, int64_t batch, const Decisions& decisions, bool use_adapter,
                               ForwardTrace* trace, const Visitor& visit) {
  const ModelConfig& c = base_.config;
  const auto eps = static_cast<double>(c.norm_eps);
  const auto count = static_cast<size_t>(num_branches());
  if (trace != nullptr) {
    trace->z.assign(count, Tensor());
    trace->keep.assign(count, Tensor());
    trace->gate_l2 = at::zeros({}, at::kFloat);
    trace->head_loss = at::zeros({}, at::kFloat);
    trace->num_gates = 0;
  }
  KvState kv;
  kv.k.resize(static_cast<size_t>(c.num_layers));
  kv.v.resize(static_cast<size_t>(c.num_layers));
  BranchDecision decision;
  for (int b = first_branch; b < num_branches(); ++b) {
    const BaseLayer& w = base_.layers[static_cast<size_t>(BranchLayer(b))];
    const bool attention = KindOfBranch(b) == BranchKind::kAttention;
    const Tensor h = RmsNorm(x, attention ? w.attn_norm : w.ffn_norm, eps, base_.dtype);
    if (use_adapter) decision = gates_.Decide(b, h, batch, decisions, decision, trace);
    const Tensor in = gates_.Input(b, h, decision);
    const Tensor out = attention ? RunAttention(BranchLayer(b), in, batch, decision.keep, use_adapter, kv)
                                 : RunMlp(BranchLayer(b), in, use_adapter);
    if (visit) visit(b, x, h, out);
    x = gates_.AddResidual(b, x, h, out, decision);
  }
  if (trace != nullptr && trace->num_gates > 0) {
    trace->gate_l2 = trace->gate_l2 / trace->num_gates;
    trace->head_loss = trace->head_loss / trace->num_gates;
  }
  return x;
}

void GatedModel::RemoveUngated() {
  for (const std::string& prefix : gates_.RemoveUngated()) {
    std::erase_if(parameters_, [&](const Parameter& parameter) { return parameter.name.starts_with(prefix); });
  }
  Refresh();
}

Adapter GatedModel::ToAdapter() const {
  Adapter adapter;
  adapter.config = config_;
  for (const Parameter& p : parameters_) {
    const Tensor value = p.value.detach().contiguous();
    AdapterTensor tensor;
    tensor.shape = value.sizes().vec();
    tensor.values.assign(value.data_ptr<float>(), value.data_ptr<float>() + value.numel());
    adapter.tensors.emplace(p.name, std::move(tensor));
  }
  return adapter;
}

void GatedModel::LoadParameters(const Adapter& adapter) {
  at::NoGradGuard no_grad;
  for (Parameter& p : parameters_) {
    const auto found = adapter.tensors.find(p.name);
    if (found == adapter.tensors.end() || found->second.shape != p.value.sizes().vec()) {
      Fail(ErrorCode::kMismatch,
           "[adapter] tensor {}: expected shape [{}], found {}; the adapter belongs to another model", p.name,
           fmt::join(p.value.sizes().vec(), ", "),
           found == adapter.tensors.end() ? std::string("none")
                                          : fmt::format("[{}]", fmt::join(found->second.shape, ", ")));
    }
    std::copy(found->second.values.begin(), found->second.values.end(), p.value.data_ptr<float>());
  }
  Refresh();
}

}  // namespace gateskip::train
