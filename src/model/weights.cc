// SPDX-License-Identifier: Apache-2.0
#include "model/weights.h"

#include "base/check.h"
#include "io/hub_directory.h"
#include "model/architecture.h"
#include "tensor/dequantize.h"

namespace gateskip {
namespace {

class GgufSource final : public WeightSource {
 public:
  explicit GgufSource(std::shared_ptr<const GgufFile> file) : file_(std::move(file)) {}
  const TensorView* Find(const std::string& canonical) const override { return file_->FindTensor(canonical); }
  std::string origin() const override { return file_->origin(); }
  void Release(const TensorView& tensor) const override { file_->ReleasePages(tensor); }

 private:
  std::shared_ptr<const GgufFile> file_;
};

class HubSource final : public WeightSource {
 public:
  HubSource(std::shared_ptr<const HubDirectory> directory, const Architecture& architecture)
      : directory_(std::move(directory)), architecture_(architecture) {}
  const TensorView* Find(const std::string& canonical) const override {
    return directory_->FindTensor(architecture_.hub_tensor_name(canonical));
  }
  std::string origin() const override { return directory_->origin(); }
  void Release(const TensorView&) const override {}

 private:
  std::shared_ptr<const HubDirectory> directory_;
  const Architecture& architecture_;
};

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += fmt::format("{}{}", i == 0 ? "" : ", ", shape[i]);
  return text + "]";
}

class Binder {
 public:
  Binder(const WeightSource& source, const ModelConfig& config, const WeightFormats& formats, ThreadPool& pool)
      : source_(source), config_(config), formats_(formats), pool_(pool) {}

  const TensorView& Require(const std::string& name, const std::vector<int64_t>& shape) const {
    const TensorView* tensor = source_.Find(name);
    if (tensor == nullptr || tensor->shape != shape) {
      Fail(ErrorCode::kCorruptData,
           "[{}] tensor {}: expected shape {}, found {}; the file does not hold the model its "
           "metadata describes",
           source_.origin(), name, ShapeText(shape), tensor == nullptr ? "no such tensor" : ShapeText(tensor->shape));
    }
    return *tensor;
  }

  kernels::PackedMatrix Linear(const std::string& name, int64_t out, int64_t in) const {
    return Pack(name, out, in, formats_.layers);
  }
  kernels::PackedMatrix Head(const std::string& name) const {
    return Pack(name, config_.vocab_size, config_.hidden_size, formats_.head);
  }

  std::vector<float> Norm(const std::string& name, int64_t size) const {
    const TensorView& tensor = Require(name, {size});
    std::vector<float> weight(static_cast<size_t>(size));
    Dequantize(tensor.dtype, tensor.data, weight);
    for (float& w : weight) w += config_.norm_weight_shift;
    return weight;
  }

 private:
  kernels::PackedMatrix Pack(const std::string& name, int64_t out, int64_t in, kernels::PackFormat format) const {
    const TensorView& tensor = Require(name, {out, in});
    kernels::PackedMatrix packed = kernels::PackWeights(tensor, format, pool_);
    source_.Release(tensor);
    return packed;
  }

  const WeightSource& source_;
  const ModelConfig& config_;
  const WeightFormats& formats_;
  ThreadPool& pool_;
};

LayerWeights BindLayer(const Binder& binder, const ModelConfig& c, int layer) {
  const std::string p = fmt::format("blk.{}.", layer);
  LayerWeights w;
  w.attn_norm = binder.Norm(p + "attn_norm.weight", c.hidden_size);
  w.q = binder.Linear(p + "attn_q.weight", c.query_size(), c.hidden_size);
  w.k = binder.Linear(p + "attn_k.weight", c.kv_size(), c.hidden_size);
  w.v = binder.Linear(p + "attn_v.weight", c.kv_size(), c.hidden_size);
  w.o = binder.Linear(p + "attn_output.weight", c.hidden_size, c.query_size());
  w.ffn_norm = binder.Norm(p + "ffn_norm.weight", c.hidden_size);
  w.gate = binder.Linear(p + "ffn_gate.weight", c.ffn_size, c.hidden_size);
  w.up = binder.Linear(p + "ffn_up.weight", c.ffn_size, c.hidden_size);
  w.down = binder.Linear(p + "ffn_down.weight", c.hidden_size, c.ffn_size);
  if (c.qk_norm) {
    w.q_norm = binder.Norm(p + "attn_q_norm.weight", c.head_dim);
    w.k_norm = binder.Norm(p + "attn_k_norm.weight", c.head_dim);
  }
  if (c.post_norms) {
    w.attn_post_norm = binder.Norm(p + "post_attention_norm.weight", c.hidden_size);
    w.ffn_post_norm = binder.Norm(p + "post_ffw_norm.weight", c.hidden_size);
  }
  return w;
}

}  // namespace

std::unique_ptr<WeightSource> MakeWeightSource(std::shared_ptr<const GgufFile> file) {
  return std::make_unique<GgufSource>(std::move(file));
}

std::unique_ptr<WeightSource> MakeWeightSource(std::shared_ptr<const HubDirectory> directory,
                                               const ModelConfig& config) {
  const Architecture* architecture = FindByGgufName(config.architecture);
  GS_CHECK(architecture != nullptr);
  return std::make_unique<HubSource>(std::move(directory), *architecture);
}

uint64_t ModelWeights::branch_bytes() const {
  uint64_t bytes = 0;
  for (const LayerWeights& layer : layers) bytes += layer.attention_bytes() + layer.mlp_bytes();
  return bytes;
}

uint64_t ModelWeights::total_bytes() const { return branch_bytes() + head.bytes; }

ModelWeights BindWeights(const WeightSource& source, const ModelConfig& config, const WeightFormats& formats,
                         ThreadPool& pool) {
  const Binder binder(source, config, formats, pool);
  ModelWeights weights;
  weights.token_embedding = binder.Require("token_embd.weight", {config.vocab_size, config.hidden_size});
  const bool tied = source.Find("output.weight") == nullptr;
  weights.head = binder.Head(tied ? "token_embd.weight" : "output.weight");
  weights.output_norm = binder.Norm("output_norm.weight", config.hidden_size);
  for (int l = 0; l < config.num_layers; ++l) weights.layers.push_back(BindLayer(binder, config, l));
  return weights;
}

}  // namespace gateskip
