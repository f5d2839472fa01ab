// SPDX-License-Identifier: Apache-2.0
#include "support/reference_model.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "tensor/dequantize.h"

namespace gateskip::testing {
namespace {

using Vector = std::vector<double>;

class Reference {
 public:
  Reference(const GgufFile& file, const Adapter* adapter, const std::vector<int32_t>& ids, const SkipPlan& plan)
      : file_(file), adapter_(adapter), plan_(plan), c_(ReadConfig(file)), n_(ids.size()), ids_(ids) {
    const auto branches = static_cast<size_t>(c_.num_branches());
    result_.ran.assign(branches, std::vector<uint8_t>(n_, 1));
    result_.importance.assign(branches, Vector(n_, 1.0));
    keys_.assign(static_cast<size_t>(c_.num_layers), std::vector<Vector>(n_));
    values_ = keys_;
  }

  ReferenceResult Run() {
    std::vector<Vector> x(n_);
    for (size_t t = 0; t < n_; ++t) {
      x[t] = Row("token_embd.weight", static_cast<size_t>(ids_[t]));
      for (double& v : x[t]) v *= c_.embedding_scale;
    }
    for (int l = 0; l < c_.num_layers; ++l) {
      Attention(l, &x);
      Mlp(l, &x);
    }
    const bool tied = file_.FindTensor("output.weight") == nullptr;
    for (size_t t = 0; t < n_; ++t) {
      result_.logits.push_back(Linear(tied ? "token_embd.weight" : "output.weight", Norm(x[t], "output_norm.weight")));
    }
    return result_;
  }

 private:
  Vector Row(const std::string& name, size_t r) const {
    const TensorView& tensor = *file_.FindTensor(name);
    std::vector<float> row(static_cast<size_t>(tensor.shape.back()));
    DequantizeRow(tensor, r, row);
    return {row.begin(), row.end()};
  }

  // Weight times x, plus the LoRA delta if the adapter has one under this name.
  Vector Linear(const std::string& name, const Vector& x) const {
    const TensorView& tensor = *file_.FindTensor(name);
    Vector out(static_cast<size_t>(tensor.shape[0]));
    for (size_t r = 0; r < out.size(); ++r) {
      const Vector row = Row(name, r);
      for (size_t i = 0; i < x.size(); ++i) out[r] += row[i] * x[i];
    }
    const std::string lora = name.substr(0, name.size() - std::string("weight").size()) + "lora_";
    if (adapter_ != nullptr && adapter_->tensors.contains(lora + "a")) {
      const Vector inner = Matrix(lora + "a", x);
      const Vector delta = Matrix(lora + "b", inner);
      const double scale = static_cast<double>(adapter_->config.lora_alpha) / adapter_->config.lora_rank;
      for (size_t r = 0; r < out.size(); ++r) out[r] += scale * delta[r];
    }
    return out;
  }

  Vector Matrix(const std::string& name, const Vector& x) const {
    const AdapterTensor& tensor = adapter_->tensors.at(name);
    Vector out(static_cast<size_t>(tensor.shape[0]));
    for (size_t r = 0; r < out.size(); ++r) {
      for (size_t i = 0; i < x.size(); ++i) out[r] += static_cast<double>(tensor.values[r * x.size() + i]) * x[i];
    }
    return out;
  }

  Vector Norm(const Vector& x, const std::string& name) const { return NormSlice(x, 0, x.size(), Row(name, 0)); }

  Vector NormSlice(const Vector& x, size_t begin, size_t count, const Vector& weight) const {
    double sum = 0;
    for (size_t i = 0; i < count; ++i) sum += x[begin + i] * x[begin + i];
    const double scale = 1.0 / std::sqrt(sum / static_cast<double>(count) + c_.norm_eps);
    Vector out(count);
    for (size_t i = 0; i < count; ++i) out[i] = x[begin + i] * scale * weight[i];
    return out;
  }

  void NormAndRotateHeads(int layer, size_t position, const std::string& norm, Vector* heads) const {
    const auto head_dim = static_cast<size_t>(c_.head_dim);
    const std::vector<float>& freq = c_.layers[static_cast<size_t>(layer)].inv_freq;
    for (size_t h = 0; h < heads->size(); h += head_dim) {
      if (c_.qk_norm) {
        const Vector normed = NormSlice(*heads, h, head_dim, Row(norm, 0));
        std::copy(normed.begin(), normed.end(), heads->begin() + static_cast<ptrdiff_t>(h));
      }
      for (size_t i = 0; i < freq.size(); ++i) {
        const bool interleaved = c_.rope_layout == kernels::RopeLayout::kInterleaved;
        double& a = (*heads)[h + (interleaved ? 2 * i : i)];
        double& b = (*heads)[h + (interleaved ? 2 * i + 1 : i + freq.size())];
        const double angle = static_cast<double>(position) * freq[i];
        const double rotated = a * std::cos(angle) - b * std::sin(angle);
        b = a * std::sin(angle) + b * std::cos(angle);
        a = rotated;
      }
    }
  }

  // The gate's output g [d] (or [1]); its mean is the importance unless a decision head says otherwise. The matrices
  // may be shared by branches of a kind.
  Vector Gate(const std::string& prefix, const Vector& h, double* importance) const {
    const AdapterConfig& config = adapter_->config;
    const std::string matrix = !config.gate_shared                         ? prefix
                               : prefix.find(".mlp.") == std::string::npos ? "shared.attn."
                                                                           : "shared.mlp.";
    Vector logits;
    if (config.gate_kind == GateKind::kScalar) {
      logits = {Dot(matrix + "gate.weight", h)};
    } else if (config.gate_kind == GateKind::kVector) {
      logits = Matrix(matrix + "gate.weight", h);
    } else {
      Vector inner = Matrix(matrix + "gate.down", h);
      for (double& v : inner) v = config.gate_kind == GateKind::kMlp ? v / (1.0 + std::exp(-v)) : v;
      logits = Matrix(matrix + "gate.up", inner);
    }
    const std::vector<float>& bias = adapter_->tensors.at(prefix + "gate.bias").values;
    double mean = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
      logits[i] = 1.0 / (1.0 + std::exp(-(logits[i] + bias[i])));
      mean += logits[i] / static_cast<double>(logits.size());
    }
    *importance = mean;
    if (config.gate_kind == GateKind::kVector) {
      const double z = Dot(prefix + "decision.weight", h) + adapter_->tensors.at(prefix + "decision.bias").values[0];
      *importance = 1.0 / (1.0 + std::exp(-z));
    }
    return logits;
  }

  double Dot(const std::string& name, const Vector& h) const {
    const std::vector<float>& weight = adapter_->tensors.at(name).values;
    double sum = 0;
    for (size_t i = 0; i < h.size(); ++i) sum += static_cast<double>(weight[i]) * h[i];
    return sum;
  }

  bool Gated(int branch) const { return adapter_ != nullptr && adapter_->config.gated[static_cast<size_t>(branch)]; }

  // An MLP that the gate of its layer's attention branch decides for.
  bool Follows(int branch) const {
    return Gated(branch) && branch % 2 == 1 && adapter_->config.gate_scope == GateScope::kLayer;
  }

  // Decides for token t; returns g, 1 for a branch without a gate of its own.
  Vector Decide(int branch, const std::string& prefix, size_t t, const Vector& h) {
    const auto b = static_cast<size_t>(branch);
    Vector g = {1.0};
    if (Follows(branch)) {
      result_.importance[b][t] = result_.importance[b - 1][t];
    } else if (Gated(branch)) {
      g = Gate(prefix, h, &result_.importance[b][t]);
    }
    const bool runs = !Gated(branch) && plan_.kind == SkipPlan::Kind::kGates
                          ? true
                          : plan_.Runs(branch, static_cast<int32_t>(t), static_cast<float>(result_.importance[b][t]));
    result_.ran[b][t] = runs ? 1 : 0;
    return g;
  }

  // The input of a branch that runs: g * h if the gate stands before it.
  Vector Input(int branch, size_t t, Vector h, const Vector& g) const {
    const bool before = Gated(branch) && adapter_->config.gate_product == GateProduct::kInput;
    if (!before || result_.ran[static_cast<size_t>(branch)][t] == 0) return h;
    for (size_t i = 0; i < h.size(); ++i) h[i] *= g[g.size() == 1 ? 0 : i];
    return h;
  }

  void AddResult(int branch, const std::string& prefix, size_t t, const Vector& h, const Vector& g, Vector out,
                 const std::string& post_norm, Vector* x) const {
    if (result_.ran[static_cast<size_t>(branch)][t] != 0) {
      if (c_.post_norms) out = Norm(out, post_norm);
      const bool multiply = Gated(branch) && adapter_->config.gate_product == GateProduct::kOutput;
      for (size_t i = 0; i < out.size(); ++i) (*x)[i] += out[i] * (multiply ? g[g.size() == 1 ? 0 : i] : 1.0);
      return;
    }
    if (!Gated(branch) || adapter_->config.skip_rank < 0) return;
    const std::vector<float>& bias = adapter_->tensors.at(prefix + "skip.bias").values;
    Vector path(bias.begin(), bias.end());
    if (adapter_->config.skip_rank > 0) {
      const Vector map = Matrix(prefix + "skip.up", Matrix(prefix + "skip.down", h));
      for (size_t i = 0; i < path.size(); ++i) path[i] += map[i];
    }
    for (size_t i = 0; i < path.size(); ++i) (*x)[i] += path[i];
  }

  void Attention(int layer, std::vector<Vector>* x) {
    const auto l = static_cast<size_t>(layer);
    const int branch = 2 * layer;
    const std::string p = fmt::format("blk.{}.", layer);
    const KvRule rule = adapter_ != nullptr ? adapter_->config.kv_rule : KvRule::kCompute;
    std::vector<Vector> h(n_), g(n_), in(n_);
    for (size_t t = 0; t < n_; ++t) {
      h[t] = Norm((*x)[t], p + "attn_norm.weight");
      g[t] = Decide(branch, p + "attn.", t, h[t]);
      in[t] = Input(branch, t, h[t], g[t]);
      Vector k = Linear(p + "attn_k.weight", in[t]);
      NormAndRotateHeads(layer, t, p + "attn_k_norm.weight", &k);
      Vector v = Linear(p + "attn_v.weight", in[t]);
      if (result_.ran[l * 2][t] == 0 && rule != KvRule::kCompute) {
        if (rule == KvRule::kDrop) {
          k.clear();
          v.clear();
        } else if (const int below = SameKindBelow(layer); below >= 0) {
          k = keys_[static_cast<size_t>(below)][t];
          v = values_[static_cast<size_t>(below)][t];
        }
      }
      keys_[l][t] = std::move(k);
      values_[l][t] = std::move(v);
    }
    for (size_t t = 0; t < n_; ++t) {
      Vector out;
      if (result_.ran[l * 2][t] != 0) out = Linear(p + "attn_output.weight", Attend(layer, t, in[t]));
      AddResult(branch, p + "attn.", t, h[t], g[t], std::move(out), p + "post_attention_norm.weight", &(*x)[t]);
    }
  }

  int SameKindBelow(int layer) const {
    for (int below = layer - 1; below >= 0; --below) {
      if (c_.layers[static_cast<size_t>(below)].window == c_.layers[static_cast<size_t>(layer)].window) return below;
    }
    return -1;
  }

  Vector Attend(int layer, size_t t, const Vector& h) const {
    const auto l = static_cast<size_t>(layer);
    const auto head_dim = static_cast<size_t>(c_.head_dim);
    const auto group = static_cast<size_t>(c_.num_heads / c_.num_kv_heads);
    Vector q = Linear(fmt::format("blk.{}.attn_q.weight", layer), h);
    NormAndRotateHeads(layer, t, fmt::format("blk.{}.attn_q_norm.weight", layer), &q);
    const auto window = static_cast<size_t>(c_.layers[l].window);
    const size_t first = window == 0 || t + 1 < window ? 0 : t + 1 - window;
    Vector out(q.size());
    for (size_t head = 0; head < static_cast<size_t>(c_.num_heads); ++head) {
      const size_t kv = head / group * head_dim;
      Vector weight(t + 1);
      double sum = 0;
      double largest = -1e300;
      for (int pass = 0; pass < 2; ++pass) {
        for (size_t s = first; s <= t; ++s) {
          if (keys_[l][s].empty()) continue;
          double score = 0;
          for (size_t i = 0; i < head_dim; ++i) score += q[head * head_dim + i] * keys_[l][s][kv + i];
          score *= c_.attention_scale;
          if (pass == 0) {
            largest = std::max(largest, score);
          } else {
            weight[s] = std::exp(score - largest);
            sum += weight[s];
          }
        }
      }
      for (size_t s = first; s <= t; ++s) {
        if (keys_[l][s].empty()) continue;
        for (size_t i = 0; i < head_dim; ++i) out[head * head_dim + i] += weight[s] / sum * values_[l][s][kv + i];
      }
    }
    return out;
  }

  void Mlp(int layer, std::vector<Vector>* x) {
    const int branch = 2 * layer + 1;
    const std::string p = fmt::format("blk.{}.", layer);
    for (size_t t = 0; t < n_; ++t) {
      const Vector h = Norm((*x)[t], p + "ffn_norm.weight");
      const Vector g = Decide(branch, p + "mlp.", t, h);
      const Vector in = Input(branch, t, h, g);
      Vector inner = Linear(p + "ffn_gate.weight", in);
      const Vector up = Linear(p + "ffn_up.weight", in);
      for (size_t i = 0; i < inner.size(); ++i) {
        const double v = inner[i];
        inner[i] = up[i] * (c_.activation == kernels::Activation::kSilu
                                ? v / (1.0 + std::exp(-v))
                                : 0.5 * v * (1.0 + std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v))));
      }
      AddResult(branch, p + "mlp.", t, h, g, Linear(p + "ffn_down.weight", inner), p + "post_ffw_norm.weight",
                &(*x)[t]);
    }
  }

  const GgufFile& file_;
  const Adapter* adapter_;
  const SkipPlan& plan_;
  const ModelConfig c_;
  const size_t n_;
  const std::vector<int32_t>& ids_;
  ReferenceResult result_;
  std::vector<std::vector<Vector>> keys_, values_;  // [layers][tokens], empty = dropped
};

}  // namespace

ReferenceResult RunReference(const GgufFile& file, const Adapter* adapter, const std::vector<int32_t>& ids,
                             const SkipPlan& plan) {
  return Reference(file, adapter, ids, plan).Run();
}

}  // namespace gateskip::testing
