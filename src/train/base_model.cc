// SPDX-License-Identifier: Apache-2.0
#include "train/base_model.h"

#include <fmt/format.h>

#include <cmath>

#include "base/check.h"
#include "tensor/dequantize.h"

namespace gateskip::train {
namespace {

class Loader {
 public:
  Loader(const ModelSource& source, at::ScalarType dtype, at::Device device)
      : source_(source), dtype_(dtype), device_(device) {}

  Tensor Matrix(const std::string& name, int64_t rows, int64_t cols) const {
    const Tensor out = Dequantized(Find(name, {rows, cols})).to(dtype_);
    return out.to(device_);
  }

  Tensor Norm(const std::string& name, int64_t size) const {
    return Shifted(Dequantized(Find(name, {size}))).to(device_);
  }

  // A norm is what has one dimension.
  Tensor Any(const std::string& name) const {
    const TensorView* view = source_.weights->Find(name);
    GS_CHECK(view != nullptr);
    const Tensor out = Dequantized(*view);
    return out.dim() == 1 ? Shifted(out) : out;
  }

 private:
  Tensor Dequantized(const TensorView& view) const {
    Tensor out = at::empty(view.shape, at::kFloat);
    const int64_t cols = view.shape.back();
    for (int64_t r = 0; r < out.numel() / cols; ++r) {
      DequantizeRow(view, static_cast<size_t>(r), {out.data_ptr<float>() + r * cols, static_cast<size_t>(cols)});
    }
    source_.weights->Release(view);
    return out;
  }

  Tensor Shifted(const Tensor& norm) const {
    return source_.config.norm_weight_shift == 0.0F ? norm : norm + source_.config.norm_weight_shift;
  }

  const TensorView& Find(const std::string& name, const std::vector<int64_t>& shape) const {
    const TensorView* view = source_.weights->Find(name);
    if (view == nullptr) {
      Fail(ErrorCode::kNotFound, "[{}] tensor {}: expected to be present, found none; is this a whole model file?",
           source_.origin(), name);
    }
    if (view->shape != shape) {
      Fail(ErrorCode::kMismatch, "[{}] tensor {}: expected shape [{}], found [{}]; the file contradicts its metadata",
           source_.origin(), name, fmt::join(shape, ", "), fmt::join(view->shape, ", "));
    }
    return *view;
  }

  const ModelSource& source_;
  at::ScalarType dtype_;
  at::Device device_;
};

// The index of the table for these frequencies, built if new.
int RopeTable(BaseModel& model, std::vector<std::vector<float>>& known, const std::vector<float>& inv_freq,
              int64_t max_length, at::Device device) {
  for (size_t i = 0; i < known.size(); ++i) {
    if (known[i] == inv_freq) return static_cast<int>(i);
  }
  known.push_back(inv_freq);
  const auto half = static_cast<int64_t>(inv_freq.size());
  Tensor cosines = at::empty({max_length, half}, at::kFloat);
  Tensor sines = at::empty({max_length, half}, at::kFloat);
  for (int64_t t = 0; t < max_length; ++t) {
    for (int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(t) * inv_freq[static_cast<size_t>(i)];
      cosines.data_ptr<float>()[t * half + i] = std::cos(angle);
      sines.data_ptr<float>()[t * half + i] = std::sin(angle);
    }
  }
  model.cosines.push_back(cosines.to(device));
  model.sines.push_back(sines.to(device));
  return static_cast<int>(model.cosines.size()) - 1;
}

}  // namespace

void VisitWeights(BaseModel& model, const std::function<void(const std::string&, Tensor&)>& visit) {
  visit("token_embd.weight", model.embedding);
  if (!model.head.is_same(model.embedding)) visit("output.weight", model.head);
  visit("output_norm.weight", model.output_norm);
  const struct {
    const char* name;
    Tensor BaseLayer::*weight;
  } kWeights[] = {{"attn_norm", &BaseLayer::attn_norm},
                  {"attn_q", &BaseLayer::q},
                  {"attn_k", &BaseLayer::k},
                  {"attn_v", &BaseLayer::v},
                  {"attn_q_norm", &BaseLayer::q_norm},
                  {"attn_k_norm", &BaseLayer::k_norm},
                  {"attn_output", &BaseLayer::o},
                  {"post_attention_norm", &BaseLayer::post_attn_norm},
                  {"ffn_norm", &BaseLayer::ffn_norm},
                  {"ffn_gate", &BaseLayer::gate},
                  {"ffn_up", &BaseLayer::up},
                  {"ffn_down", &BaseLayer::down},
                  {"post_ffw_norm", &BaseLayer::post_ffn_norm}};
  for (size_t l = 0; l < model.layers.size(); ++l) {
    for (const auto& w : kWeights) {
      Tensor& tensor = model.layers[l].*w.weight;
      if (tensor.defined()) visit(fmt::format("blk.{}.{}.weight", l, w.name), tensor);
    }
  }
}

Tensor LoadWeight(const ModelSource& source, const std::string& name) {
  return Loader(source, at::kFloat, at::kCPU).Any(name);
}

BaseModel LoadBaseModel(const ModelSource& source, at::ScalarType dtype, int64_t max_length, at::Device device) {
  BaseModel model;
  model.config = source.config;
  model.dtype = dtype;
  const ModelConfig& c = model.config;
  const Loader load(source, dtype, device);
  const int64_t d = c.hidden_size;
  model.embedding = load.Matrix("token_embd.weight", c.vocab_size, d);
  model.output_norm = load.Norm("output_norm.weight", d);
  model.head = source.weights->Find("output.weight") != nullptr ? load.Matrix("output.weight", c.vocab_size, d)
                                                                : model.embedding;
  std::vector<std::vector<float>> known;
  for (int l = 0; l < c.num_layers; ++l) {
    const std::string p = fmt::format("blk.{}.", l);
    BaseLayer layer;
    layer.attn_norm = load.Norm(p + "attn_norm.weight", d);
    layer.ffn_norm = load.Norm(p + "ffn_norm.weight", d);
    if (c.post_norms) {
      layer.post_attn_norm = load.Norm(p + "post_attention_norm.weight", d);
      layer.post_ffn_norm = load.Norm(p + "post_ffw_norm.weight", d);
    }
    if (c.qk_norm) {
      layer.q_norm = load.Norm(p + "attn_q_norm.weight", c.head_dim);
      layer.k_norm = load.Norm(p + "attn_k_norm.weight", c.head_dim);
    }
    layer.q = load.Matrix(p + "attn_q.weight", c.query_size(), d);
    layer.k = load.Matrix(p + "attn_k.weight", c.kv_size(), d);
    layer.v = load.Matrix(p + "attn_v.weight", c.kv_size(), d);
    layer.o = load.Matrix(p + "attn_output.weight", d, c.query_size());
    layer.gate = load.Matrix(p + "ffn_gate.weight", c.ffn_size, d);
    layer.up = load.Matrix(p + "ffn_up.weight", c.ffn_size, d);
    layer.down = load.Matrix(p + "ffn_down.weight", d, c.ffn_size);
    layer.rope = RopeTable(model, known, c.layers[static_cast<size_t>(l)].inv_freq, max_length, device);
    model.layers.push_back(std::move(layer));
  }
  return model;
}

}  // namespace gateskip::train
