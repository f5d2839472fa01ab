// SPDX-License-Identifier: Apache-2.0
// Decision rule `exit`: the layers above the one that is drawn neither run nor learn, the budget is met, and what is
// written is an adapter without gates, which the runtime loads. That the masked forward pass is the runtime's is law
// L10 (tests/laws/training_forward_test.cc).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "gateskip/engine.h"
#include "io/adapter.h"
#include "io/gguf.h"
#include "io/testing/expect_error.h"
#include "support/training_run.h"

namespace gateskip::testing {
namespace {

class ExitRuleTest : public TrainingRunTest {
 protected:
  TrainOptions ExitOptions(const std::string& run) const {
    TrainOptions o = Options(run);
    o.model_path = WriteModel("f32.gguf", TinyGguf({.dtype = DType::kF32}));
    o.decision_rule = DecisionRule::kExit;
    o.prior = false;
    o.skip_rank = -1;
    o.train_base = "blk\\..*";
    o.trained_model_path = directory_ / (run + ".gguf");
    o.trained_model_type = TrainedModelType::kF32;
    o.base_learning_rate = 1e-3;
    o.float32 = true;
    o.dense_every = 0;
    return o;
  }
};

std::vector<std::byte> Bytes(const GgufFile& file, const std::string& name) {
  const TensorView* view = file.FindTensor(name);
  return {view->data.begin(), view->data.end()};
}

// Half of the four layers, and no row that runs them all: nothing reaches the upper two, not even K/V, which no row
// attends to. Without weight decay they stay what they were, bit for bit.
TEST_F(ExitRuleTest, LayersAboveTheExitNeitherRunNorLearn) {
  TrainOptions options = ExitOptions("half");
  options.lora_rank = 0;
  options.always_run_positions = 0;
  options.kv_rule = KvRule::kDrop;  // then two of four layers are half of the cost
  options.min_budget = options.max_budget = 0.5;
  options.weight_decay = 0;
  Observer observer;
  ASSERT_EQ(Train(options, observer), TrainOutcome::kFinished);
  for (const TrainProgress& step : observer.steps) EXPECT_NEAR(step.realised_saving, 0.5, 1e-12);
  const auto before = GgufFile::Open(options.model_path);
  const auto after = GgufFile::Open(options.trained_model_path);
  for (int layer = 0; layer < 4; ++layer) {
    for (const char* matrix : {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down", "ffn_norm"}) {
      const std::string name = fmt::format("blk.{}.{}.weight", layer, matrix);
      EXPECT_EQ(Bytes(*before, name) == Bytes(*after, name), layer >= 2) << name;
    }
  }
}

// Budgets between two exits are met by drawing both; the first position of each document, which always runs, is made
// up for. Masked packing puts several documents into a sequence.
TEST_F(ExitRuleTest, MeetsItsBudgetsOnAverage) {
  TrainOptions options = ExitOptions("budgets");
  options.min_budget = 0.1;
  options.max_budget = 0.4;
  options.steps = 60;
  options.base_learning_rate = 0;
  options.loss_on_prompts = true;  // a micro-step without a target would be left out
  Observer observer;
  ASSERT_EQ(Train(options, observer), TrainOutcome::kFinished);
  double requested = 0;
  double realised = 0;
  for (const TrainProgress& step : observer.steps) {
    requested += step.requested_saving / options.steps;
    realised += step.realised_saving / options.steps;
  }
  // A draw is off by at most a layer, 0.25, evenly to both sides: sigma <= 0.125 for one of 240 sequences, and 3 sigma
  // of their mean are 0.024. LoRA's cost is no saving, and not in the draw: 2 rows of 64 + 64 and 64 + 128 in 36,864.
  EXPECT_NEAR(realised, requested, 0.024 + 0.021);
  EXPECT_NEAR(requested, 0.25, 0.01);
}

TEST_F(ExitRuleTest, WritesAnAdapterWithoutGates) {
  TrainOptions options = ExitOptions("adapter");
  options.heldout_sources = options.sources;
  options.eval_sequences = 2;
  options.eval_budgets = {0.2, 0.5};
  options.sample_prompts = {"in the end"};
  options.sample_tokens = 4;
  Observer observer;
  ASSERT_EQ(Train(options, observer), TrainOutcome::kFinished);
  const TrainEvaluation& last = observer.evaluations.back();
  EXPECT_GT(last.net_saving[1], 0.1) << "the fixed exit that reaches 20 %, less what the first positions cost";
  EXPECT_GT(last.net_saving[2], last.net_saving[1]);
  EXPECT_NE(last.nll[1], last.nll[0]);

  const Adapter adapter = ReadAdapter(options.adapter_directory);
  EXPECT_EQ(std::ranges::count(adapter.config.gated, true), 0);
  for (const auto& [name, tensor] : adapter.tensors) EXPECT_NE(name.find("lora"), std::string::npos) << name;
  for (const bool lora : {true, false}) {
    TrainOptions other = ExitOptions(lora ? "lora" : "bare");
    if (!lora) other.lora_rank = 0;  // then no tensor is left at all
    Observer unused;
    ASSERT_EQ(Train(other, unused), TrainOutcome::kFinished);
    const auto engine = Engine::Load({.model_path = other.trained_model_path, .adapter_path = other.adapter_directory});
    EXPECT_EQ(engine->info().max_budget, 0);
    const auto ids = engine->Encode("the box", engine->adds_bos(), false);
    EXPECT_EQ(engine->Score(ids, {}).log_probs.size(), ids.size() - 1);
  }
}

TEST_F(ExitRuleTest, RefusesWhatGatesAloneCanUse) {
  const auto refused = [&](const std::function<void(TrainOptions&)>& change) {
    TrainOptions options = ExitOptions("refused");
    change(options);
    Observer unused;
    ExpectError([&] { Train(options, unused); }, ErrorCode::kInvalidArgument, "early-exit");
  };
  refused([](TrainOptions& o) { o.prior = true; });
  refused([](TrainOptions& o) { o.skip_rank = 0; });
  refused([](TrainOptions& o) { o.gate_product = GateProduct::kOutput; });
}

}  // namespace
}  // namespace gateskip::testing
