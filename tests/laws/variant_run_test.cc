// SPDX-License-Identifier: Apache-2.0
// Every gate variant from the trainer to the text: trained for a moment, calibrated, loaded with its self-test, scored
// and generated from.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "eval/calibrate.h"
#include "gateskip/engine.h"
#include "io/adapter.h"
#include "support/training_run.h"

namespace gateskip::testing {
namespace {

struct Variant {
  GateKind kind;
  GateProduct product;
  bool shared;
  GateScope scope;
};

// After two steps gates still say nearly the same of every token, and a budget falls between two of their values. Noise
// on their matrices spreads them.
void MakeDecisionsDependOnTheToken(const std::string& directory) {
  Adapter adapter = ReadAdapter(directory);
  std::mt19937_64 random(5);
  for (auto& [name, tensor] : adapter.tensors) {
    const bool matrix = !name.ends_with(".bias") && name.find(".skip.") == name.npos && name.find("lora") == name.npos;
    for (float& v : tensor.values) v += matrix ? 0.4F * (static_cast<float>(random() >> 40) * 0x1p-24F - 0.5F) : 0.0F;
  }
  WriteAdapter(adapter, directory, true);
}

class VariantRunTest : public TrainingRunTest, public ::testing::WithParamInterface<Variant> {};

TEST_P(VariantRunTest, IsTrainedCalibratedScoredAndGeneratedFrom) {
  const Variant& variant = GetParam();
  TrainOptions options = Options("run");
  options.gate_kind = variant.kind;
  options.gate_rank = 3;
  options.gate_product = variant.product;
  options.gate_shared = variant.shared;
  options.gate_scope = variant.scope;
  options.gated_layers = "1:";  // what the first layer's gates see is one of few tokens, alike wherever they stand
  options.steps = 2;
  Observer observer;
  ASSERT_EQ(Train(options, observer), TrainOutcome::kFinished);
  MakeDecisionsDependOnTheToken(options.adapter_directory);

  CalibrateOptions calibrate;
  calibrate.model_path = model_;
  calibrate.adapter_path = options.adapter_directory;
  calibrate.text_paths = {text_};
  calibrate.max_tokens = 512;
  calibrate.window = 64;
  calibrate.budgets = {0.1, 0.2};
  calibrate.threads = 1;
  ASSERT_EQ(Calibrate(calibrate, nullptr).size(), 2U);

  for (const ComputeType compute : {ComputeType::kFast, ComputeType::kF32}) {
    const auto engine = Engine::Load(
        {.model_path = model_, .adapter_path = options.adapter_directory, .threads = 1, .compute = compute});
    EXPECT_GT(engine->info().decision_cost, 0);
    const auto ids = engine->Encode("in the end there are things on the line and in the box", false, false);
    const ScoreResult dense = engine->Score(ids, {});
    const ScoreResult gated = engine->Score(ids, {.prefill = 0.2, .decode = 0.2});
    EXPECT_EQ(dense.saving.branches_skipped, 0U);
    EXPECT_LE(dense.saving.net, 0);
    EXPECT_GT(gated.saving.branches_skipped, 0U);
    EXPECT_GT(gated.saving.net, dense.saving.net);
    EXPECT_TRUE(variant.scope == GateScope::kBranch || gated.saving.branches_skipped % 2 == 0);
    for (const float p : gated.log_probs) EXPECT_TRUE(std::isfinite(p));
    GenerateOptions generate;
    generate.max_tokens = 8;
    generate.ignore_eos = true;
    generate.budget = {.prefill = 0.2, .decode = 0.2};
    EXPECT_EQ(engine->Generate(ids, generate).token_ids.size(), 8U);
    generate.budget.policy = Policy::kRandom;
    EXPECT_EQ(engine->Generate(ids, generate).token_ids.size(), 8U);
  }
}

// Every two values of two columns meet in some row.
std::vector<Variant> Variants() {
  std::vector<Variant> variants;
  for (size_t k = 0; k < std::size(kGateKinds); ++k) {
    for (size_t p = 0; p < std::size(kGateProducts); ++p) {
      variants.push_back({kGateKinds[k].first, kGateProducts[p].first, (k + p) % 2 == 0,
                          (k / 2 + p) % 2 == 0 ? GateScope::kBranch : GateScope::kLayer});
    }
  }
  return variants;
}

std::string NameOf(const ::testing::TestParamInfo<Variant>& info) {
  const Variant& v = info.param;
  return fmt::format("{}_{}_{}{}", NameIn(kGateKinds, v.kind), NameIn(kGateProducts, v.product),
                     NameIn(kGateScopes, v.scope), v.shared ? "_shared" : "");
}

INSTANTIATE_TEST_SUITE_P(Variants, VariantRunTest, ::testing::ValuesIn(Variants()), NameOf);

}  // namespace
}  // namespace gateskip::testing
