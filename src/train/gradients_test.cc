// SPDX-License-Identifier: Apache-2.0
// Loss and gradients of whole tiny models against PyTorch in double precision: tests/golden/make_gradients.py writes
// the models and the cases, one per variant of the method; what is compared is every parameter of the trained set.
//
// Tolerance. A gradient is the end of a chain of dot products, forward and backward through 2 layers branches, each
// with three products of up to 24 terms in a row: n = 2 * 2 * layers * 3 * 24 roundings of 2^-24, which add like
// sqrt(n). Norms and softmax make relative errors up to 8 times larger, and a decision's slope s (1 - s) / 0.3 another
// 4 times, as the logit's error is divided by the temperature. The unit is the largest gradient among parameters of the
// same kind (all layers' gate biases, say), because single numbers cancel. That is 6e-5 for 3 layers and 9e-5 for 7;
// PyTorch's own f32 gradients are within 1e-5.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "io/safetensors.h"
#include "tensor/dequantize.h"
#include "train/gated_model.h"
#include "train/ops.h"

namespace gateskip::train {
namespace {

using Json = nlohmann::json;

struct GoldenCase {
  std::string architecture;
  Json json;
};

std::string Path(const std::string& file) { return std::string(GATESKIP_TEST_DATA) + "/gradients/" + file; }

std::vector<GoldenCase> Cases() {
  std::vector<GoldenCase> cases;
  for (const std::string architecture : {"llama", "gemma3"}) {
    const auto file = SafetensorsFile::Open(Path(architecture + ".safetensors"));
    for (const Json& json : Json::parse(file->metadata().at("cases"))) cases.push_back({architecture, json});
  }
  return cases;
}

std::string CaseName(const ::testing::TestParamInfo<GoldenCase>& info) {
  return (info.param.architecture == "llama" ? "Llama" : "Gemma") + info.param.json.at("name").get<std::string>();
}

void PrintTo(const GoldenCase& c, std::ostream* out) { *out << c.json.dump(); }

// The value that a table of adapter.h calls `name`.
template <typename Enum, size_t n>
Enum Named(const std::pair<Enum, const char*> (&table)[n], const std::string& name) {
  const auto found =
      std::find_if(std::begin(table), std::end(table), [&](const auto& row) { return row.second == name; });
  EXPECT_NE(found, std::end(table)) << name;
  return found == std::end(table) ? table[0].first : found->first;
}

// "blk.3.attn.gate.bias" -> "gate.bias", "blk.3.attn_q.lora_a" -> "attn_q.lora_a".
std::string KindOf(const std::string& name) {
  if (!name.starts_with("blk.")) return name;
  std::string kind = name.substr(name.find('.', 4) + 1);
  for (const std::string branch : {"attn.", "mlp."}) {
    if (kind.starts_with(branch)) kind = kind.substr(branch.size());
  }
  return kind;
}

AdapterTensor Values(const TensorView& view) {
  AdapterTensor tensor{view.shape, std::vector<float>(static_cast<size_t>(view.num_elements()))};
  Dequantize(view.dtype, view.data, tensor.values);
  return tensor;
}

// [batch][length] numbers as one row of `dtype`.
Tensor Flat(const Json& rows, at::ScalarType dtype) {
  std::vector<int64_t> values;
  for (const Json& row : rows) {
    for (const Json& value : row) values.push_back(value.get<int64_t>());
  }
  return at::tensor(values, at::kLong).to(dtype);
}

class GradientsTest : public ::testing::TestWithParam<GoldenCase> {
 protected:
  void SetUp() override {
    golden_ = SafetensorsFile::Open(Path(GetParam().architecture + ".safetensors"));
    base_ = LoadBaseModel(OpenModelSource(Path(GetParam().architecture + ".gguf")), at::kFloat, 64);
  }

  template <typename T>
  T Get(const char* key) const {
    return GetParam().json.at(key).get<T>();
  }

  bool has_gates() const { return Get<std::string>("gate") != "none"; }

  AdapterConfig Config() const {
    AdapterConfig config;
    config.num_layers = base_.config.num_layers;
    config.hidden_size = base_.config.hidden_size;
    if (has_gates()) config.gate_kind = Named(kGateKinds, Get<std::string>("gate"));
    config.gate_rank = GateHasRank(config.gate_kind) ? Get<int>("gate_rank") : 0;
    config.gate_shared = Get<bool>("shared");
    config.gate_product = Named(kGateProducts, Get<std::string>("product"));
    config.gate_scope = Named(kGateScopes, Get<std::string>("scope"));
    config.kv_rule = Named(kKvRules, Get<std::string>("kv"));
    config.gated.assign(static_cast<size_t>(base_.config.num_branches()), has_gates());
    for (const size_t b : Get<std::vector<size_t>>("ungated")) config.gated[b] = false;
    config.always_run_positions = Get<int>("always_run");
    config.skip_rank = Get<int>("skip_rank");
    if (Get<bool>("lora")) {
      config.lora_rank = Get<int>("lora_rank");
      config.lora_alpha = Get<float>("lora_alpha");
      config.lora_targets = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
    }
    return config;
  }

  GatePenalty Penalty() const {
    GatePenalty penalty{.l2 = Get<double>("gate_l2"),
                        .l1 = Get<double>("gate_l1"),
                        .kl = Get<double>("gate_kl"),
                        .target = Get<double>("gate_target"),
                        .layers = {}};
    const auto layers = Get<std::vector<size_t>>("penalty_layers");
    penalty.layers.assign(static_cast<size_t>(base_.config.num_layers), layers.empty());
    for (const size_t layer : layers) penalty.layers[layer] = true;
    return penalty;
  }

  Adapter Parameters(const AdapterConfig& config) const {
    Adapter adapter{config, {}};
    for (const std::string& group : {Get<std::string>("gate"), fmt::format("skip.{}", config.skip_rank),
                                     std::string(config.lora_rank > 0 ? "lora" : "none")}) {
      const std::string prefix = "in/" + group + "/";
      for (const auto& [name, view] : golden_->tensors()) {
        if (name.starts_with(prefix)) adapter.tensors[name.substr(prefix.size())] = Values(view);
      }
    }
    return adapter;
  }

  Decisions Decide() const {
    Decisions decisions;
    if (!has_gates()) return decisions;
    decisions.kind = Get<std::string>("rule") == "quantile" ? Decisions::Kind::kQuantile : Decisions::Kind::kThresholds;
    decisions.thresholds = Get<std::vector<float>>("thresholds");
    decisions.temperature = Get<double>("temperature");
    decisions.straight_through = Get<bool>("straight_through");
    return decisions;
  }

  double Tolerance() const { return std::sqrt(2.0 * 2.0 * base_.config.num_layers * 3 * 24) * 0x1p-24 * 8 * 4; }

  void Check(bool activation_checkpointing);

  std::shared_ptr<const SafetensorsFile> golden_;
  BaseModel base_;
};

void GradientsTest::Check(bool activation_checkpointing) {
  const AdapterConfig config = Config();
  std::vector<NamedTensor> trained;
  if (Get<bool>("base")) {
    VisitWeights(base_, [&](const std::string& name, const Tensor& value) { trained.emplace_back(name, value); });
  }
  GatedModel model(base_, config, 0, trained);
  model.LoadParameters(Parameters(config));
  model.set_penalty(Penalty());
  model.set_activation_checkpointing(activation_checkpointing);

  const Json& ids = GetParam().json.at("tokens");
  const TokenBatch batch(Flat(ids, at::kLong).view({static_cast<int64_t>(ids.size()), -1}),
                         Get<bool>("documents") ? Flat(GetParam().json.at("starts"), at::kInt) : Tensor());
  const Tensor rows = at::tensor(Get<std::vector<int64_t>>("rows"), at::kLong);
  const Tensor targets = at::tensor(Get<std::vector<int>>("targets"), at::kInt);
  Tensor teacher;
  if (Get<double>("kl") > 0) {
    at::NoGradGuard no_grad;
    teacher = model.Logits(model.Forward(batch, Decisions(), false, nullptr), rows, false);
  }
  model.Refresh();  // as every step of the trainer: the compute-type copies are part of the graph
  ForwardTrace trace;
  double kl = 0;
  double nll = 0;
  const Tensor logits = model.Logits(model.Forward(batch, Decide(), true, &trace), rows, true);
  Tensor loss = DistillLoss(logits, teacher, targets, Get<double>("kl"), Get<double>("ce"), kl, nll);
  loss = loss + trace.penalty + Get<double>("head") * trace.head_loss;
  loss.backward();
  EXPECT_NEAR(loss.item<double>(), Get<double>("loss"), Tolerance() * Get<double>("loss"));

  const std::string prefix = Get<std::string>("name") + "/";
  std::map<std::string, Tensor> expected;
  std::map<std::string, double> scale;
  for (const auto& [name, view] : golden_->tensors()) {
    if (!name.starts_with(prefix)) continue;
    const std::string parameter = name.substr(prefix.size());
    const AdapterTensor values = Values(view);
    expected[parameter] = at::tensor(values.values).view(values.shape);
    double& largest = scale[KindOf(parameter)];
    largest = std::max(largest, expected[parameter].abs().max().item<double>());
  }
  EXPECT_EQ(expected.size(), model.parameters().size());
  double worst = 0;
  for (const Parameter& p : model.parameters()) {
    SCOPED_TRACE(p.name);
    ASSERT_TRUE(expected.contains(p.name));
    ASSERT_TRUE(p.value.grad().defined());
    ASSERT_EQ(p.value.grad().sizes(), expected[p.name].sizes());
    const double error = (p.value.grad() - expected[p.name]).abs().max().item<double>() / scale[KindOf(p.name)];
    worst = std::max(worst, error);
    EXPECT_LE(error, Tolerance());  // a NaN fails
  }
  RecordProperty("worst_error", fmt::format("{:.1e}", worst));
}

TEST_P(GradientsTest, EqualPyTorchs) { Check(false); }

TEST_P(GradientsTest, EqualPyTorchsWithActivationsComputedAgain) { Check(true); }

INSTANTIATE_TEST_SUITE_P(Golden, GradientsTest, ::testing::ValuesIn(Cases()), CaseName);

}  // namespace
}  // namespace gateskip::train
