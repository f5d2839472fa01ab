// SPDX-License-Identifier: Apache-2.0
// Gates in training: the gradient of every kind, product, scope and sharing, around toy branches, against the same
// formulas written plainly in double precision and against finite differences. That the forward pass equals the
// runtime's on whole models is law L10 (tests/laws/training_forward_test.cc).
#include "train/branch_gates.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>

#include "train/testing/gradient_check.h"

namespace gateskip::train {
namespace {

using testing::CheckGradients;
using testing::Normal;
using Inputs = std::vector<Tensor>;
using Named = std::map<std::string, Tensor>;

constexpr int64_t kBatch = 2, kLength = 3, kHidden = 6;
constexpr float kTau[kBatch] = {0.25F, -0.5F};
constexpr double kTemperature = 0.75;
constexpr double kL2 = 1.0, kL1 = 0.5, kKl = 0.25, kTarget = 0.7;  // the penalty's weights

struct Variant {
  GateKind kind;
  GateProduct product;
  bool shared;
  GateScope scope;
};

AdapterConfig ConfigOf(const Variant& variant, int layers) {
  AdapterConfig c;
  c.num_layers = layers;
  c.hidden_size = kHidden;
  c.gate_kind = variant.kind;
  c.gate_rank = GateHasRank(variant.kind) ? 2 : 0;
  c.gate_product = variant.product;
  c.gate_shared = variant.shared;
  c.gate_scope = variant.scope;
  c.gated.assign(static_cast<size_t>(2 * layers), true);
  c.skip_rank = 2;
  return c;
}

Decisions SoftDecisions() {
  Decisions d;
  d.kind = Decisions::Kind::kThresholds;
  d.thresholds = {kTau[0], kTau[1]};
  d.temperature = kTemperature;
  d.soft = true;
  return d;
}

// What a branch does to its input here: no two branches alike, f32 or f64.
Tensor ToyBranch(int branch, const Tensor& in) {
  const Tensor weight = Normal({kHidden, kHidden}, 500 + static_cast<uint64_t>(branch)).to(in.scalar_type());
  return at::tanh(at::linear(in, weight * 0.5));
}

// The residual stream behind all branches, by the code under test. The parameters are `named`, not the class's own.
Tensor RunBranches(const AdapterConfig& config, const Named& named, const Decisions& decisions, Tensor x,
                   ForwardTrace* trace) {
  BranchGates gates(config, 1, [&](const std::string& name, const Tensor&, ParameterGroup) { return named.at(name); });
  gates.Refresh(at::kFloat);
  gates.set_penalty({kL2, kL1, kKl, kTarget, std::vector<bool>(static_cast<size_t>(config.num_layers), true)});
  *trace = ForwardTrace(2 * config.num_layers);
  BranchDecision decision;
  for (int b = 0; b < static_cast<int>(config.gated.size()); ++b) {
    const Tensor h = x;
    decision = gates.Decide(b, h, kBatch, {}, decisions, decision, trace);
    x = gates.AddResidual(b, x, h, ToyBranch(b, gates.Input(b, h, decision)), decision);
  }
  return x;
}

// The same as the adapter format defines it, in double precision; LibTorch differentiates. `penalty` receives the mean
// over gates of what GatePenalty weighs.
Tensor RunPlainly(const AdapterConfig& config, const Named& named, bool dense, Tensor x, Tensor* penalty) {
  Tensor tau = at::empty({kBatch * kLength}, at::kDouble);
  Tensor always = at::zeros({kBatch * kLength}, at::kBool);
  for (int64_t r = 0; r < kBatch * kLength; ++r) {
    tau[r] = static_cast<double>(kTau[r / kLength]);
    always[r] = r % kLength < config.always_run_positions;
  }
  *penalty = at::zeros({}, at::kDouble);
  int num_gates = 0;
  Tensor keep;  // under layer scope the MLP takes the attention's
  for (int b = 0; b < static_cast<int>(config.gated.size()); ++b) {
    const bool attention = b % 2 == 0;
    const std::string own = fmt::format("blk.{}.{}.", b / 2, attention ? "attn" : "mlp");
    const std::string matrix = config.gate_shared ? (attention ? "shared.attn." : "shared.mlp.") : own;
    const Tensor h = x;
    if (!config.gated[static_cast<size_t>(b)]) {
      x = x + ToyBranch(b, h);
      continue;
    }
    Tensor g;
    if (attention || config.gate_scope == GateScope::kBranch) {
      const Tensor in = h.detach();
      Tensor logits;
      if (config.gate_kind == GateKind::kScalar) {
        logits = at::mv(in, named.at(matrix + "gate.weight")).unsqueeze(1);
      } else if (config.gate_kind == GateKind::kVector) {
        logits = at::linear(in, named.at(matrix + "gate.weight"));
      } else {
        Tensor inner = at::linear(in, named.at(matrix + "gate.down"));
        if (config.gate_kind == GateKind::kMlp) inner = inner * at::sigmoid(inner);
        logits = at::linear(inner, named.at(matrix + "gate.up"));
      }
      g = at::sigmoid(logits + named.at(own + "gate.bias"));
      const Tensor rate = g.mean();
      *penalty = *penalty + kL2 * g.square().mean() + kL1 * rate +
                 kKl * (kTarget * (kTarget / rate).log() + (1 - kTarget) * ((1 - kTarget) / (1 - rate)).log());
      ++num_gates;
      Tensor z = at::logit(g.mean(1));
      if (config.gate_kind == GateKind::kVector) {  // the value of the head, the derivative of the gate
        const Tensor head = at::mv(in, named.at(own + "decision.weight")) + named.at(own + "decision.bias");
        z = head.detach() + (z - z.detach());
      }
      keep = at::where(always, at::ones_like(z), at::sigmoid((z - tau) / kTemperature));
    }
    Tensor in = h;
    if (g.defined() && config.gate_product == GateProduct::kInput) {
      in = attention && !dense ? at::where(keep.unsqueeze(1) > 0.5, h * g, h) : h * g;
    }
    Tensor out = ToyBranch(b, in);
    if (g.defined() && config.gate_product == GateProduct::kOutput) out = out * g;
    if (dense) {
      x = x + out;
      continue;
    }
    const Tensor skip =
        named.at(own + "skip.bias") + at::linear(at::linear(h, named.at(own + "skip.down")), named.at(own + "skip.up"));
    x = x + keep.unsqueeze(1) * out + (1.0 - keep).unsqueeze(1) * skip;
  }
  if (num_gates > 0) *penalty = *penalty / num_gates;
  return x;
}

// The parameters of a variant, in order, at random values.
std::vector<std::pair<std::string, Tensor>> Parameters(const AdapterConfig& config) {
  std::vector<std::pair<std::string, Tensor>> parameters;
  BranchGates gates(config, 1, [&](const std::string& name, const Tensor& start, ParameterGroup) {
    parameters.emplace_back(name, Normal(start.sizes(), 600 + parameters.size()) * 0.5);
    return start;
  });
  return parameters;
}

class BranchGatesTest : public ::testing::TestWithParam<Variant> {
 protected:
  // Gradients of the residual stream and of the penalty by every parameter but a decision head's, and, if asked, by the
  // input. Not differentiated: heads, which learn by distillation alone; skip paths of a dense pass. The parameters are
  // one input, so that errors are measured by the largest derivative: that of a lone bias is a sum that may cancel.
  static void Check(const AdapterConfig& config, const Decisions& decisions, bool by_input, bool finite_differences) {
    const bool dense = decisions.kind == Decisions::Kind::kDense;
    const Tensor x = Normal({kBatch * kLength, kHidden}, 700);
    const auto parameters = Parameters(config);
    const auto is_fixed = [&](const std::string& name) {
      return name.find(".decision.") != name.npos || (dense && name.find(".skip.") != name.npos);
    };
    Inputs moving;
    for (const auto& [name, value] : parameters) {
      if (!is_fixed(name)) moving.push_back(value.flatten());
    }
    Inputs inputs = {at::cat(moving)};
    if (by_input) inputs.push_back(x);
    const auto name_inputs = [&](const Inputs& in) {
      Named named;
      int64_t begin = 0;
      for (const auto& [name, value] : parameters) {
        if (is_fixed(name)) {
          named[name] = value.to(in[0].scalar_type());
        } else {
          named[name] = in[0].narrow(0, begin, value.numel()).view(value.sizes());
          begin += value.numel();
        }
      }
      return named;
    };
    const auto start = [&](const Inputs& in) { return by_input ? in[1] : x.to(in[0].scalar_type()); };
    CheckGradients(
        [&](const Inputs& in) {
          ForwardTrace trace;
          const Tensor out = RunBranches(config, name_inputs(in), decisions, start(in), &trace);
          return at::cat({out.flatten(), trace.penalty.reshape({1})});
        },
        [&](const Inputs& in) {
          Tensor penalty;
          const Tensor out = RunPlainly(config, name_inputs(in), dense, start(in), &penalty);
          return at::cat({out.flatten(), penalty.reshape({1})});
        },
        inputs, finite_differences);
  }
};

TEST_P(BranchGatesTest, GradientOfSoftDecisions) {
  // Gates read their input detached: finite differences would see what the gradient leaves out by design.
  Check(ConfigOf(GetParam(), 2), SoftDecisions(), true, false);
}

TEST_P(BranchGatesTest, GradientOfTheProductWhenEverythingRuns) {
  if (GetParam().product == GateProduct::kNone) return;  // no gate is evaluated
  Check(ConfigOf(GetParam(), 2), Decisions(), true, false);
}

// What one gate reads depends on no parameter of its own, so that finite differences are a witness.
TEST_P(BranchGatesTest, FiniteDifferencesOfOneGate) {
  AdapterConfig config = ConfigOf(GetParam(), 1);
  const bool product = GetParam().product != GateProduct::kNone;
  for (const int gated : {0, 1}) {
    SCOPED_TRACE(gated);
    if (GetParam().scope == GateScope::kBranch) config.gated = {gated == 0, gated == 1};
    // The decision of a vector gate is its head's, and the gate's derivative is not that of the forward pass.
    if (GetParam().kind != GateKind::kVector) Check(config, SoftDecisions(), false, true);
    if (product) Check(config, Decisions(), false, true);
  }
}

// The head of a vector gate learns to say mean(g), and nothing else moves it.
TEST(BranchGates, TheHeadOfAVectorGateLearnsByDistillation) {
  AdapterConfig config = ConfigOf({GateKind::kVector, GateProduct::kOutput, false, GateScope::kBranch}, 1);
  config.gated = {true, false};
  const Tensor x = Normal({kBatch * kLength, kHidden}, 701);
  const auto parameters = Parameters(config);
  Inputs head;
  for (const auto& [name, value] : parameters) {
    if (name.find(".decision.") != name.npos) head.push_back(value);
  }
  ASSERT_EQ(head.size(), 2U);
  const auto named_with = [&](const Inputs& in) {
    Named named;
    size_t next = 0;
    for (const auto& [name, value] : parameters) {
      named[name] = name.find(".decision.") != name.npos ? in[next++] : value.to(in[0].scalar_type());
    }
    return named;
  };
  CheckGradients(
      [&](const Inputs& in) {
        ForwardTrace trace;
        RunBranches(config, named_with(in), SoftDecisions(), x, &trace);
        return trace.head_loss.reshape({1});
      },
      [&](const Inputs& in) {
        const Named named = named_with(in);
        const Tensor h = x.to(at::kDouble);
        const Tensor g =
            at::sigmoid(at::linear(h, named.at("blk.0.attn.gate.weight")) + named.at("blk.0.attn.gate.bias"));
        const Tensor q =
            at::sigmoid(at::mv(h, named.at("blk.0.attn.decision.weight")) + named.at("blk.0.attn.decision.bias"));
        const Tensor s = g.mean(1);
        return -(s * q.log() + (1.0 - s) * (1.0 - q).log()).mean().reshape({1});
      },
      head);
  Inputs leaves;
  for (const Tensor& value : head) leaves.push_back(value.clone().set_requires_grad(true));
  Named named = named_with(leaves);
  named["blk.0.attn.gate.bias"] = named.at("blk.0.attn.gate.bias").clone().set_requires_grad(true);
  ForwardTrace trace;
  RunBranches(config, named, SoftDecisions(), x, &trace).sum().backward();
  for (const Tensor& leaf : leaves) EXPECT_FALSE(leaf.grad().defined());
  EXPECT_TRUE(named.at("blk.0.attn.gate.bias").grad().defined());
}

// Bits: layer scope makes one decision of a layer, noise included, and each branch of `branch` scope its own.
TEST(BranchGates, OneDecisionPerLayerUnderLayerScope) {
  Decisions decisions = SoftDecisions();
  decisions.soft = false;
  decisions.noise = 1;
  for (const auto& [scope, scope_name] : kGateScopes) {
    SCOPED_TRACE(scope_name);
    const AdapterConfig config = ConfigOf({GateKind::kMlp, GateProduct::kOutput, false, scope}, 2);
    Named named;
    for (const auto& [name, value] : Parameters(config)) named[name] = value;
    ForwardTrace trace;
    RunBranches(config, named, decisions, Normal({kBatch * kLength, kHidden}, 702), &trace);
    for (size_t b = 0; b < 4; b += 2) {
      EXPECT_EQ(at::equal(trace.z[b], trace.z[b + 1]), scope == GateScope::kLayer);
      EXPECT_TRUE(scope == GateScope::kBranch || at::equal(trace.keep[b], trace.keep[b + 1]));
    }
    const auto evaluated = std::ranges::count_if(trace.gate_mean, [](double mean) { return !std::isnan(mean); });
    EXPECT_EQ(evaluated, scope == GateScope::kLayer ? 2 : 4);
  }
}

// The matrix next to the output has a gradient from the start (the one below it, once that has moved); shared matrices
// are made once.
TEST(BranchGates, FreshGatesStartOpenAndCanLearn) {
  for (const auto& [kind, kind_name] : kGateKinds) {
    SCOPED_TRACE(kind_name);
    const AdapterConfig config = ConfigOf({kind, GateProduct::kOutput, true, GateScope::kBranch}, 2);
    Named named;
    BranchGates gates(config, 3, [&](const std::string& name, const Tensor& start, ParameterGroup) {
      EXPECT_FALSE(named.contains(name)) << name;
      return named[name] = start.clone().set_requires_grad(true);
    });
    gates.Refresh(at::kFloat);
    const Tensor h = Normal({kBatch * kLength, kHidden}, 703);
    const BranchDecision first = gates.Decide(0, h, kBatch, {}, Decisions(), {}, nullptr);
    // sigmoid(5) = 0.9933; the logits of a fresh vector gate are some 0.01 |h| off.
    EXPECT_GT(first.g.min().item<float>(), 0.99F);
    EXPECT_LT(first.g.max().item<float>(), 0.995F);
    first.g.sum().backward();
    const std::string top = GateHasRank(kind) ? "shared.attn.gate.up" : "shared.attn.gate.weight";
    EXPECT_GT(named.at(top).grad().abs().sum().item<float>(), 0);
    EXPECT_EQ(named.contains("shared.attn.gate.down"), GateHasRank(kind));
  }
}

TEST(BranchGates, RemovesSharedMatricesWithTheirLastGate) {
  AdapterConfig config = ConfigOf({GateKind::kMlp, GateProduct::kNone, true, GateScope::kBranch}, 2);
  BranchGates gates(config, 1, [](const std::string&, const Tensor& start, ParameterGroup) { return start; });
  EXPECT_EQ(gates.RemoveUngated(), std::vector<std::string>());
  config.gated = {false, true, true, false};
  EXPECT_EQ(gates.RemoveUngated(), (std::vector<std::string>{"blk.0.attn.", "blk.1.mlp."}));
  config.gated = {false, false, true, false};
  EXPECT_EQ(gates.RemoveUngated(),
            (std::vector<std::string>{"blk.0.attn.", "blk.0.mlp.", "blk.1.mlp.", "shared.mlp."}));
}

std::string NameOf(const ::testing::TestParamInfo<Variant>& info) {
  const Variant& v = info.param;
  return fmt::format("{}_{}_{}{}", NameIn(kGateKinds, v.kind), NameIn(kGateProducts, v.product),
                     NameIn(kGateScopes, v.scope), v.shared ? "_shared" : "");
}

std::vector<Variant> AllVariants() {
  std::vector<Variant> variants;
  for (const auto& [kind, kind_name] : kGateKinds) {
    for (const auto& [product, product_name] : kGateProducts) {
      for (const auto& [scope, scope_name] : kGateScopes) {
        for (const bool shared : {false, true}) variants.push_back({kind, product, shared, scope});
      }
    }
  }
  return variants;
}

INSTANTIATE_TEST_SUITE_P(Variants, BranchGatesTest, ::testing::ValuesIn(AllVariants()), NameOf);

}  // namespace
}  // namespace gateskip::train
