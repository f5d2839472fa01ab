// SPDX-License-Identifier: Apache-2.0
// Loss and gradients of whole tiny models against PyTorch in double precision: tests/golden/make_gradients.py writes
// the models and the cases, one per variant of the method; what is compared is every parameter of the trained set.
//
// Tolerance. A gradient is the end of a chain of dot products, forward and backward through 2 layers branches, each
// with three products of up to 24 terms in a row: n = 2 * 2 * layers * 3 * 24 roundings of 2^-24, which add like
// sqrt(n). Norms and softmax make relative errors up to 8 times larger, and a decision's slope s (1 - s) / 0.3 another
// 4 times, as the logit's error is divided by the temperature. The unit is the largest gradient among parameters of the
// same kind (all layers' gate biases, say), because single numbers cancel. That is 6e-5 for 3 layers and 9e-5 for 7;
// PyTorch's own f32 gradients are within 1.3e-5.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
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
    for (const Json& json : Json::parse(file->metadata().at("cases"))) {
      cases.push_back({architecture, json});
    }
  }
  return cases;
}

std::string CaseName(const ::testing::TestParamInfo<GoldenCase>& info) {
  return (info.param.architecture == "llama" ? "Llama" : "Gemma") + info.param.json.at("name").get<std::string>();
}

void PrintTo(const GoldenCase& c, std::ostream* out) { *out << c.json.dump(); }

template <typename T>
T OneOf(const Json& value, const std::map<std::string, T>& names) {
  return names.at(value.get<std::string>());
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

class GradientsTest : public ::testing::TestWithParam<GoldenCase> {
 protected:
  void SetUp() override {
    golden_ = SafetensorsFile::Open(Path(GetParam().architecture + ".safetensors"));
    source_ = OpenModelSource(Path(GetParam().architecture + ".gguf"));
    base_ = LoadBaseModel(source_, at::kFloat, 64);
  }

  AdapterConfig Config() const {
    const Json& c = GetParam().json;
    AdapterConfig config;
    config.num_layers = base_.config.num_layers;
    config.hidden_size = base_.config.hidden_size;
    config.gate_kind = OneOf<GateKind>(c.at("gate"), {{"scalar", GateKind::kScalar},
                                                      {"low_rank", GateKind::kLowRank},
                                                      {"vector", GateKind::kVector},
                                                      {"none", GateKind::kScalar}});
    config.gate_rank = config.gate_kind == GateKind::kLowRank ? c.at("gate_rank").get<int>() : 0;
    config.gate_product =
        OneOf<GateProduct>(c.at("product"), {{"none", GateProduct::kNone}, {"output", GateProduct::kOutput}});
    config.kv_rule =
        OneOf<KvRule>(c.at("kv"), {{"compute", KvRule::kCompute}, {"copy", KvRule::kCopy}, {"drop", KvRule::kDrop}});
    config.gated.assign(static_cast<size_t>(base_.config.num_branches()), c.at("gate") != "none");
    if (OneOf<bool>(c.at("gated"), {{"all", false}, {"not_1", true}})) config.gated[1] = false;
    config.always_run_positions = c.at("always_run").get<int>();
    config.skip_rank = c.at("skip_rank").get<int>();
    if (c.at("lora").get<bool>()) {
      config.lora_rank = c.at("lora_rank").get<int>();
      config.lora_alpha = c.at("lora_alpha").get<float>();
      config.lora_targets = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
    }
    return config;
  }

  Adapter Parameters(const AdapterConfig& config) const {
    const Json& c = GetParam().json;
    Adapter adapter{config, {}};
    for (const std::string& group :
         std::vector<std::string>{c.at("gate").get<std::string>(), fmt::format("skip.{}", config.skip_rank),
                                  std::string(config.lora_rank > 0 ? "lora" : "none")}) {
      const std::string prefix = "in/" + group + "/";
      for (const auto& [name, view] : golden_->tensors()) {
        if (name.starts_with(prefix)) adapter.tensors[name.substr(prefix.size())] = Values(view);
      }
    }
    return adapter;
  }

  double Tolerance() const { return std::sqrt(2.0 * 2.0 * base_.config.num_layers * 3 * 24) * 0x1p-24 * 8 * 4; }

  // The base's own parameters, where the case trains them.
  std::vector<NamedTensor> TrainedBase() {
    std::vector<NamedTensor> trained;
    if (!GetParam().json.at("base").get<bool>()) return trained;
    VisitWeights(base_,
                 [&](const std::string& name, Tensor&) { trained.emplace_back(name, LoadWeight(source_, name)); });
    return trained;
  }

  ModelSource source_;
  std::shared_ptr<const SafetensorsFile> golden_;
  BaseModel base_;
};

TEST_P(GradientsTest, EqualPyTorchs) {
  const Json& c = GetParam().json;
  const AdapterConfig config = Config();
  GatedModel model(base_, config, 0, TrainedBase());
  model.LoadParameters(Parameters(config));
  const std::vector<bool> all_layers(static_cast<size_t>(config.num_layers), true);
  model.set_penalty({.l2 = c.at("gate_l2").get<double>(), .layers = all_layers});

  const auto ids = c.at("tokens").get<std::vector<std::vector<int64_t>>>();
  const auto length = static_cast<int64_t>(ids[0].size());
  Tensor tokens = at::empty({static_cast<int64_t>(ids.size()), length}, at::kLong);
  for (size_t s = 0; s < ids.size(); ++s) tokens[static_cast<int64_t>(s)] = at::tensor(ids[s], at::kLong);
  const auto positions = c.at("rows").get<std::vector<int64_t>>();
  const Tensor rows = at::tensor(positions, at::kLong);
  Tensor targets = at::full({rows.size(0)}, -1, at::kInt);
  for (size_t i = 0; i < positions.size(); ++i) {
    if ((positions[i] + 1) % length == 0) continue;
    targets[static_cast<int64_t>(i)] = tokens.view({-1})[positions[i] + 1];
  }

  Tensor teacher;
  {
    at::NoGradGuard no_grad;
    teacher = model.Logits(model.Forward(tokens, Decisions(), false, nullptr), rows, false);
  }
  Decisions decisions;
  if (c.at("gate") != "none") decisions.kind = Decisions::Kind::kThresholds;
  decisions.thresholds = c.at("thresholds").get<std::vector<float>>();
  decisions.temperature = c.at("temperature").get<double>();
  model.Refresh();  // as every step of the trainer: the compute-type copies are part of the graph
  ForwardTrace trace;
  double kl = 0;
  double nll = 0;
  Tensor loss = DistillLoss(model.Logits(model.Forward(tokens, decisions, true, &trace), rows, true), teacher, targets,
                            c.at("kl").get<double>(), c.at("ce").get<double>(), kl, nll);
  loss = loss + trace.penalty + c.at("head").get<double>() * trace.head_loss;
  loss.backward();
  const auto expected_loss = c.at("loss").get<double>();
  EXPECT_NEAR(loss.item<double>(), expected_loss, Tolerance() * expected_loss);

  const std::string prefix = c.at("name").get<std::string>() + "/";
  std::map<std::string, Tensor> expected;
  std::map<std::string, double> scale;
  for (const auto& [name, view] : golden_->tensors()) {
    if (!name.starts_with(prefix)) continue;
    const std::string parameter = name.substr(prefix.size());
    AdapterTensor values = Values(view);
    Tensor gradient = at::tensor(values.values).view(values.shape);
    scale[KindOf(parameter)] = std::max(scale[KindOf(parameter)], gradient.abs().max().item<double>());
    expected[parameter] = gradient;
  }
  ASSERT_EQ(expected.size(), model.parameters().size());
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
  RecordProperty("worst_error", fmt::format("{:.2e}", worst));
}

INSTANTIATE_TEST_SUITE_P(Golden, GradientsTest, ::testing::ValuesIn(Cases()), CaseName);

}  // namespace
}  // namespace gateskip::train
