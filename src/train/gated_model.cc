// SPDX-License-Identifier: Apache-2.0
#include "train/gated_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "gate/branch.h"
#include "train/activation_checkpoint.h"
#include "train/ops.h"
#include "train/random.h"

namespace gateskip::train {

// What stays the same through a forward pass.
struct GatedModel::Pass {
  const TokenBatch& batch;
  const Decisions& decisions;
  bool use_adapter;
  ForwardTrace* trace;
  const Visitor* visit;
};

// Under KV rule `copy`: the entries every layer's queries see.
struct GatedModel::KvState {
  std::vector<Tensor> k, v;  // [layers]
  explicit KvState(int layers) : k(static_cast<size_t>(layers)), v(static_cast<size_t>(layers)) {}
};

// What a branch hands to the next.
struct GatedModel::Residual {
  Tensor x;  // the residual stream
  KvState kv;
  BranchDecision decision;
};

GatedModel::GatedModel(const BaseModel& base, const AdapterConfig& config, uint64_t seed,
                       const std::vector<NamedTensor>& trained_base)
    : base_(base),
      weights_(base),
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
  VisitWeights(weights_, [&](const std::string& name, Tensor& slot) {
    for (const auto& [trained, start] : trained_base) {
      if (trained != name) continue;
      trained_.emplace_back(&slot, Add(name, start.clone(), ParameterGroup::kBase));
    }
  });
  Refresh();
}

Tensor GatedModel::Add(const std::string& name, Tensor value, ParameterGroup group) {
  value = value.to(base_.output_norm.device()).set_requires_grad(true);
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
  for (const auto& [slot, master] : trained_) {
    *slot = master.dim() > 1 ? cast(master) : master;  // norms are used in f32
  }
  // Tied: one tensor, so that the two gradients meet before the one cast back.
  if (base_.head.is_same(base_.embedding)) weights_.head = weights_.embedding;
}

Tensor GatedModel::Linear(const Tensor& x, const Tensor& weight, const LoraPair& lora, bool use_adapter) const {
  Tensor y = at::linear(x, weight);
  if (use_adapter && lora.a.defined()) y = y + at::linear(at::linear(x, lora.a), lora.b);
  return y;
}

Tensor GatedModel::RunAttention(int layer, const Pass& pass, const Tensor& h, const Tensor& keep, KvState& kv) const {
  const ModelConfig& c = base_.config;
  const BaseLayer& w = weights(pass.use_adapter).layers[static_cast<size_t>(layer)];
  const LayerLora& lora = lora_compute_[static_cast<size_t>(layer)];
  const int64_t batch = pass.batch.size();
  const int64_t length = pass.batch.length();
  const auto kind = static_cast<size_t>(w.rope);
  const auto heads = [&](const Tensor& x, const Tensor& norm, bool rotate) {
    Tensor y = x;
    if (norm.defined()) {
      y = RmsNorm(y.reshape({-1, c.head_dim}), norm, static_cast<double>(c.norm_eps), base_.dtype).view(x.sizes());
    }
    return SplitHeads(y, batch, c.head_dim, rotate ? base_.cosines[kind] : Tensor(),
                      rotate ? base_.sines[kind] : Tensor(), c.rope_layout);
  };
  const Tensor q = heads(Linear(h, w.q, lora.q, pass.use_adapter), w.q_norm, true);
  Tensor k = heads(Linear(h, w.k, lora.k, pass.use_adapter), w.k_norm, true);
  Tensor v = heads(Linear(h, w.v, lora.v, pass.use_adapter), Tensor(), false);
  AttentionMask mask{.visible = {}, .starts = pass.batch.starts};
  if (pass.use_adapter && keep.defined() && config_.kv_rule == KvRule::kDrop) {
    mask.visible = (keep.detach() > 0.5).to(at::kByte);
  }
  if (pass.use_adapter && config_.kv_rule == KvRule::kCopy) {
    const int below = KvCopySource(c, layer);
    // A pass that begins above `below` (the prior's) leaves whole branches out: no row that runs then attends to one
    // that does not, so there is nothing to copy.
    if (keep.defined() && below >= 0 && kv.k[static_cast<size_t>(below)].defined()) {
      const Tensor ran = (keep.detach() > 0.5).view({batch, 1, length, 1});
      const Tensor copied = ran.expand({batch, c.num_kv_heads, length, 1}).reshape({-1, length, 1});
      k = at::where(copied, k, kv.k[static_cast<size_t>(below)]);
      v = at::where(copied, v, kv.v[static_cast<size_t>(below)]);
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
  const Tensor out = Linear(CausalAttention(q, k, v, shape, mask), w.o, lora.o, pass.use_adapter);
  if (!w.post_attn_norm.defined()) return out;
  return RmsNorm(out, w.post_attn_norm, static_cast<double>(c.norm_eps), base_.dtype);
}

Tensor GatedModel::RunMlp(int layer, const Pass& pass, const Tensor& h) const {
  const BaseLayer& w = weights(pass.use_adapter).layers[static_cast<size_t>(layer)];
  const LayerLora& lora = lora_compute_[static_cast<size_t>(layer)];
  const Tensor hidden = GatedActivation(Linear(h, w.gate, lora.gate, pass.use_adapter),
                                        Linear(h, w.up, lora.up, pass.use_adapter), base_.config.activation);
  const Tensor out = Linear(hidden, w.down, lora.down, pass.use_adapter);
  if (!w.post_ffn_norm.defined()) return out;
  return RmsNorm(out, w.post_ffn_norm, static_cast<double>(base_.config.norm_eps), base_.dtype);
}

Tensor GatedModel::Embed(const Tensor& tokens, bool use_adapter) const {
  const Tensor ids = tokens.reshape({-1}).to(base_.output_norm.device());
  const Tensor x = at::embedding(weights(use_adapter).embedding, ids).to(at::kFloat);
  return base_.config.embedding_scale == 1.0F ? x : x * base_.config.embedding_scale;
}

Tensor GatedModel::Logits(const Tensor& hidden, const Tensor& rows, bool use_adapter) const {
  const BaseModel& w = weights(use_adapter);
  const Tensor picked = rows.defined() ? hidden.index_select(0, rows.to(hidden.device())) : hidden;
  return at::linear(RmsNorm(picked, w.output_norm, static_cast<double>(base_.config.norm_eps), base_.dtype), w.head);
}

Tensor GatedModel::Forward(const TokenBatch& batch, const Decisions& decisions, bool use_adapter, ForwardTrace* trace) {
  return ForwardFrom(Embed(batch.tokens, use_adapter), 0, batch, decisions, use_adapter, trace, {});
}

Tensor GatedModel::ForwardFrom(Tensor x, int first_branch, const TokenBatch& batch, const Decisions& decisions,
                               bool use_adapter, ForwardTrace* trace, const Visitor& visit) {
  if (trace != nullptr) *trace = ForwardTrace(num_branches());
  const Pass pass{batch, decisions, use_adapter, trace, visit ? &visit : nullptr};
  Residual stream{x, KvState(base_.config.num_layers), {}};
  const bool checkpointed = activation_checkpointing_ && use_adapter && first_branch == 0 && !visit;
  if (checkpointed && at::GradMode::is_enabled()) {
    for (int l = 0; l < base_.config.num_layers; ++l) RunCheckpointed(l, pass, stream);
  } else {
    for (int b = first_branch; b < num_branches(); ++b) RunBranch(b, pass, stream);
  }
  return stream.x;
}

void GatedModel::RunBranch(int b, const Pass& pass, Residual& stream) const {
  const int layer = BranchLayer(b);
  const BaseLayer& w = weights(pass.use_adapter).layers[static_cast<size_t>(layer)];
  const bool attention = KindOfBranch(b) == BranchKind::kAttention;
  const Tensor h =
      RmsNorm(stream.x, attention ? w.attn_norm : w.ffn_norm, static_cast<double>(base_.config.norm_eps), base_.dtype);
  BranchDecision& decision = stream.decision;
  if (pass.use_adapter) {
    decision = gates_.Decide(b, h, pass.batch.size(), pass.batch.starts, pass.decisions, decision, pass.trace);
  }
  const Tensor in = gates_.Input(b, h, decision);
  const Tensor out = attention ? RunAttention(layer, pass, in, decision.keep, stream.kv) : RunMlp(layer, pass, in);
  if (pass.visit != nullptr) (*pass.visit)(b, stream.x, h, out);
  stream.x = gates_.AddResidual(b, stream.x, h, out, decision);
}

void GatedModel::RunCheckpointed(int layer, const Pass& pass, Residual& stream) const {
  const auto l = static_cast<size_t>(layer);
  const bool keeps_kv = config_.kv_rule == KvRule::kCopy;
  const int below = keeps_kv ? KvCopySource(base_.config, layer) : -1;
  TensorList inputs = {stream.x};
  if (below >= 0) {
    inputs.push_back(stream.kv.k[static_cast<size_t>(below)]);
    inputs.push_back(stream.kv.v[static_cast<size_t>(below)]);
  }
  // By value what a second run, after Forward has returned, still needs.
  const auto run = [this, layer, l, below, keeps_kv, batch = pass.batch, decisions = pass.decisions](
                       const TensorList& in, ForwardTrace& trace) -> TensorList {
    trace = ForwardTrace(num_branches());
    const Pass again{batch, decisions, true, &trace, nullptr};
    Residual inner{in[0], KvState(base_.config.num_layers), {}};
    if (below >= 0) {
      inner.kv.k[static_cast<size_t>(below)] = in[1];
      inner.kv.v[static_cast<size_t>(below)] = in[2];
    }
    RunBranch(BranchIndex(layer, BranchKind::kAttention), again, inner);
    RunBranch(BranchIndex(layer, BranchKind::kMlp), again, inner);
    TensorList out = {inner.x, trace.penalty, trace.head_loss};
    if (keeps_kv) out.insert(out.end(), {inner.kv.k[l], inner.kv.v[l]});
    return out;
  };
  ForwardTrace first;
  const TensorList out = Checkpointed(
      [run, &first, is_first = true](const TensorList& in) mutable {
        if (std::exchange(is_first, false)) return run(in, first);
        ForwardTrace unused;
        return run(in, unused);
      },
      inputs);
  stream.x = out[0];
  if (keeps_kv) {
    stream.kv.k[l] = out[3];
    stream.kv.v[l] = out[4];
  }
  if (pass.trace == nullptr) return;
  for (const size_t b : {2 * l, 2 * l + 1}) {
    pass.trace->z[b] = first.z[b];
    pass.trace->keep[b] = first.keep[b];
    pass.trace->gate_mean[b] = first.gate_mean[b];
  }
  pass.trace->penalty = pass.trace->penalty + out[1];
  pass.trace->head_loss = pass.trace->head_loss + out[2];
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
    if (p.group == ParameterGroup::kBase) continue;
    const Tensor value = p.value.detach().cpu().contiguous();
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
    if (p.group == ParameterGroup::kBase) continue;
    const auto found = adapter.tensors.find(p.name);
    if (found == adapter.tensors.end() || found->second.shape != p.value.sizes().vec()) {
      Fail(ErrorCode::kMismatch,
           "[adapter] tensor {}: expected shape [{}], found {}; the adapter belongs to another model", p.name,
           fmt::join(p.value.sizes().vec(), ", "),
           found == adapter.tensors.end() ? std::string("none")
                                          : fmt::format("[{}]", fmt::join(found->second.shape, ", ")));
    }
    p.value.copy_(at::tensor(found->second.values).view(p.value.sizes()));
  }
  Refresh();
}

}  // namespace gateskip::train
