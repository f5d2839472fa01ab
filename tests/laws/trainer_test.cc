// SPDX-License-Identifier: Apache-2.0
// Whole training runs: what is learned, steps without a finite gradient, adapters of every kind. That runs resume bit
// for bit is law L9 (tests/laws/resume_test.cc).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>

#include "io/adapter.h"
#include "io/testing/expect_error.h"
#include "support/training_run.h"
#include "train/checkpoint.h"

namespace gateskip::testing {
namespace {

namespace fs = std::filesystem;

TEST_F(TrainingRunTest, StartsAsTheBaseModelAndLearnsAShortText) {
  TrainOptions options = Options("run");
  options.steps = 30;
  options.float32 = true;
  options.min_budget = options.max_budget = 0.3;
  options.dense_every = 0;
  options.ce_weight = 0;
  options.lora_learning_rate = 5e-3;
  options.sources = {{directory_.Write("short.txt", "the thing in the box and the ant on it")}};  // one sequence
  options.heldout_sources = options.sources;
  options.eval_sequences = 1;
  options.eval_budgets = {0.3};
  Observer observer;
  ASSERT_EQ(Train(options, observer), TrainOutcome::kFinished);
  ASSERT_EQ(observer.evaluations.size(), 2U);
  const TrainEvaluation& start = observer.evaluations[0];
  EXPECT_EQ(start.budgets, (std::vector<double>{0, 0.3}));
  EXPECT_EQ(start.nll[0], start.base_nll) << "deltas start at zero, and at budget 0 everything runs";
  EXPECT_EQ(observer.evaluations[1].base_nll, start.base_nll);
  EXPECT_EQ(observer.evaluations[1].step, 30);
  double early = 0;
  double late = 0;
  double saving = 0;
  for (size_t i = 0; i < 5; ++i) {
    early += observer.steps[i].loss / 5;
    late += observer.steps[25 + i].loss / 5;
    saving += observer.steps[25 + i].realised_saving / 5;
    EXPECT_NEAR(observer.steps[i].requested_saving, 0.3, 1e-12);
  }
  EXPECT_LT(late, 0.5 * early);    // a tenth of it, when this was written
  EXPECT_NEAR(saving, 0.3, 0.05);  // one row of a branch is 0.007
}

// A file whose token 'Z', and no other, makes the first layer's MLP overflow: h_0 is 0 for every other token, since the
// embedding and what attention adds are, and the norm's weight for it is so large that Z's is infinite. The MLP's
// columns for it are zero, so that no derivative passes the norm elsewhere.
std::vector<std::byte> OverflowingAtZ() {
  std::vector<std::byte> bytes = TinyGguf({.dtype = DType::kF32});
  const auto file = OpenTiny(bytes);
  const auto at = [&](const char* name, int64_t index) {
    const TensorView* view = file->FindTensor(name);
    float* values = reinterpret_cast<float*>(bytes.data() + (view->data.data() - bytes.data()));
    return values + index;
  };
  const int64_t d = 64;
  for (int64_t token = 0; token < 264; ++token) *at("token_embd.weight", token * d) = token == 'Z' ? 8.0F : 0.0F;
  for (int64_t i = 0; i < d; ++i) *at("blk.0.attn_output.weight", i) = 0.0F;
  for (int64_t r = 0; r < 128; ++r) *at("blk.0.ffn_gate.weight", r * d) = *at("blk.0.ffn_up.weight", r * d) = 0.0F;
  *at("blk.0.ffn_norm.weight", 0) = 3e38F;
  return bytes;
}

class BadStepTest : public TrainingRunTest {
 protected:
  // One document of plain bytes, sequences of 16 in order; those in `bad` hold a Z. One sequence is one step.
  TrainOptions BadOptions(const std::vector<int>& bad) const {
    std::string text;
    for (int i = 0; i < 16 * 8; ++i) text += "bcdfg"[i * i % 5];
    for (const int n : bad) text[static_cast<size_t>(16 * n + 5)] = 'Z';
    TrainOptions o = Options("run");
    o.model_path = WriteModel("overflow.gguf", OverflowingAtZ());
    o.sources = {{directory_.Write("z.txt", text)}};
    o.float32 = true;
    o.skip_rank = -1;
    o.lora_rank = 0;
    o.fit_sequences = o.prior_sequences = o.batch_sequences = o.accumulation_steps = 1;
    o.sequence_length = 16;
    o.packing = Packing::kJoined;
    o.loss_positions = 1;
    o.checkpoint_every = 1;
    o.keep_checkpoints = 10;
    return o;
  }
  std::string ModelAt(const TrainOptions& options, int step) const {
    return Sha256File(options.run_directory + fmt::format("/step-{}/model.safetensors", step));
  }
};

TEST_F(BadStepTest, AStepWithoutFiniteGradientChangesNoParameter) {
  TrainOptions options = BadOptions({4, 6});
  options.max_bad_steps = 2;  // in a row
  Observer observer;
  ASSERT_EQ(Train(options, observer), TrainOutcome::kFinished);
  ASSERT_EQ(observer.steps.size(), 8U);
  const int bad_so_far[] = {0, 0, 0, 0, 1, 1, 2, 2};
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(observer.steps[i].bad_steps, bad_so_far[i]) << "step " << i + 1;
    const bool bad = i == 4 || i == 6;
    EXPECT_EQ(std::isfinite(observer.steps[i].gradient_norm), !bad) << "step " << i + 1;
    if (i > 0) {
      EXPECT_EQ(ModelAt(options, static_cast<int>(i)) == ModelAt(options, static_cast<int>(i + 1)), bad)
          << "step " << i + 1;
    }
  }
  EXPECT_NO_THROW(ReadAdapter(options.adapter_directory));
}

TEST_F(BadStepTest, TooManyInARowEndTheRunAndCheckpointsRemain) {
  TrainOptions options = BadOptions({3, 4, 5});
  options.max_bad_steps = 2;
  options.checkpoint_every = 2;
  Observer observer;
  ExpectError([&] { Train(options, observer); }, ErrorCode::kInternal, "step 5: expected a good loss and gradient");
  EXPECT_EQ(observer.steps.size(), 4U);
  EXPECT_FALSE(fs::exists(options.adapter_directory));
  const auto newest = train::OpenNewestCheckpoint(options.run_directory, [](const std::string&) { FAIL(); });
  ASSERT_TRUE(newest);
  EXPECT_EQ(newest->step(), 4);
  for (const auto& [name, shape] : newest->shapes()) {
    const auto elements = std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
    std::vector<float> values(static_cast<size_t>(elements));
    newest->Read(name, shape, values);
    for (const float value : values) ASSERT_TRUE(std::isfinite(value)) << name;
  }
  // Resumed, the count of bad steps in a row goes on.
  options.resume = true;
  Observer again;
  ExpectError([&] { Train(options, again); }, ErrorCode::kInternal, "step 5: expected a good loss and gradient");
}

// Without anything to learn no evaluation is better than the first.
TEST_F(TrainingRunTest, StopsEarlyAndShowsSamples) {
  TrainOptions options = Options("early");
  options.gate_learning_rate = options.gate_bias_learning_rate = 0;
  options.skip_learning_rate = options.lora_learning_rate = 0;
  options.heldout_sources = {{text_}};
  options.eval_sequences = 1;
  options.eval_every = 2;
  options.early_stop = 2;
  options.sample_prompts = {"in the end"};
  options.sample_tokens = 3;
  class Listener : public Observer {
   public:
    std::vector<TrainSample> samples;
    void OnSample(const TrainSample& sample) override { samples.push_back(sample); }
  } observer;
  ASSERT_EQ(Train(options, observer), TrainOutcome::kFinished);
  EXPECT_EQ(observer.steps.size(), 4U);
  EXPECT_NE(observer.messages.find("stopped early"), std::string::npos) << observer.messages;
  EXPECT_TRUE(fs::exists(options.adapter_directory));
  ASSERT_EQ(observer.samples.size(), observer.evaluations.size());
  EXPECT_EQ(observer.samples[1].step, 2);
  EXPECT_EQ(observer.samples[0].text, observer.samples[1].text);
}

// The best checkpoint by held-out loss outlives those that keep_checkpoints drops.
TEST_F(TrainingRunTest, KeepsTheBestCheckpoint) {
  TrainOptions options = Options("best");
  options.heldout_sources = {{text_}};
  options.eval_sequences = 1;
  options.eval_every = 1;
  options.checkpoint_every = 3;
  options.keep_checkpoints = 1;
  options.lora_learning_rate = 0.05;  // learns, then breaks
  Observer observer;
  ASSERT_EQ(Train(options, observer), TrainOutcome::kFinished);
  const auto loss = [](const TrainEvaluation& e) { return std::accumulate(e.nll.begin(), e.nll.end(), 0.0); };
  const auto best = std::min_element(observer.evaluations.begin(), observer.evaluations.end(),
                                     [&](const auto& a, const auto& b) { return loss(a) < loss(b); });
  ASSERT_GT(best->step, 0) << "nothing was learned";
  EXPECT_TRUE(fs::exists(options.run_directory + fmt::format("/step-{}", best->step)));
  EXPECT_TRUE(fs::exists(options.run_directory + fmt::format("/step-{}", options.steps)));
}

struct Kind {
  GateKind gate;
  KvRule kv;
  GateProduct product;
  TinyArch arch;
  bool shared = false;
  GateScope scope = GateScope::kBranch;
};

class EveryKindTest : public TrainingRunTest, public ::testing::WithParamInterface<Kind> {};

TEST_P(EveryKindTest, TrainsAnAdapterTheReaderAccepts) {
  const Kind& kind = GetParam();
  TrainOptions options = Options("run");
  const std::vector<std::byte> bytes = TinyGguf({.arch = kind.arch});
  options.model_path = WriteModel("base.gguf", bytes);
  options.gate_kind = kind.gate;
  options.gate_rank = 3;
  options.kv_rule = kind.kv;
  options.gate_product = kind.product;
  options.gate_shared = kind.shared;
  options.gate_scope = kind.scope;
  options.lora_targets = {"attn_k", "ffn_gate"};
  options.steps = 2;
  options.dense_every = 0;
  options.warmup_steps = 0;
  Observer observer;
  ASSERT_EQ(Train(options, observer), TrainOutcome::kFinished);
  for (const TrainProgress& step : observer.steps) {
    EXPECT_TRUE(std::isfinite(step.loss));
    EXPECT_GT(step.gradient_norm, 0);
  }
  EXPECT_EQ(observer.steps.back().bad_steps, 0);
  const Adapter adapter = ReadAdapter(options.adapter_directory);
  const auto base = OpenTiny(bytes);
  EXPECT_EQ(adapter.config.base_fingerprint, base->Fingerprint());
  EXPECT_EQ(adapter.config.gate_kind, kind.gate);
  EXPECT_EQ(adapter.config.kv_rule, kind.kv);
  EXPECT_EQ(adapter.config.gate_product, kind.product);
  EXPECT_EQ(adapter.config.gate_shared, kind.shared);
  EXPECT_EQ(adapter.config.gate_scope, kind.scope);
  EXPECT_EQ(adapter.config.skip_rank, 2);
  EXPECT_EQ(adapter.config.lora_targets, options.lora_targets);
  EXPECT_EQ(adapter.config.budgets, std::vector<double>{0.0}) << "until it is calibrated, everything runs";
  // Gradients reached everything that starts at zero.
  const auto moved = [&](const std::string& suffix) {
    int count = 0;
    for (const auto& [name, tensor] : adapter.tensors) {
      count += name.ends_with(suffix) &&
               std::any_of(tensor.values.begin(), tensor.values.end(), [](float v) { return v != 0.0F; });
    }
    return count;
  };
  EXPECT_GT(moved(".lora_b"), 0);
  EXPECT_GT(moved(".skip.bias"), 0);
  switch (kind.gate) {
    case GateKind::kScalar:
      EXPECT_GT(moved(".gate.weight"), 0);
      break;
    case GateKind::kLowRank:
    case GateKind::kMlp:
      EXPECT_GT(moved(".gate.up"), 0);
      break;
    case GateKind::kVector:
      EXPECT_GT(moved(".decision.weight"), 0);
      break;
  }
}

std::vector<Kind> EveryKind() {
  std::vector<Kind> kinds;
  int n = 0;
  for (const GateKind gate : {GateKind::kScalar, GateKind::kLowRank, GateKind::kVector}) {
    for (const KvRule kv : {KvRule::kCompute, KvRule::kCopy, KvRule::kDrop}) {
      kinds.push_back({gate, kv, n % 2 == 1 ? GateProduct::kOutput : GateProduct::kNone,
                       n / 3 == n % 3 ? TinyArch::kGemma3 : TinyArch::kLlama});
      ++n;
    }
  }
  using enum KvRule;
  using enum GateProduct;
  constexpr auto kLayer = GateScope::kLayer;
  kinds.push_back({GateKind::kMlp, kCompute, kNone, TinyArch::kLlama});
  kinds.push_back({GateKind::kMlp, kDrop, kInput, TinyArch::kGemma3, true});
  kinds.push_back({GateKind::kScalar, kCopy, kInput, TinyArch::kLlama, true});
  kinds.push_back({GateKind::kVector, kCompute, kInput, TinyArch::kLlama, true});
  kinds.push_back({GateKind::kScalar, kCompute, kNone, TinyArch::kGemma3, false, kLayer});
  kinds.push_back({GateKind::kLowRank, kDrop, kOutput, TinyArch::kLlama, true, kLayer});
  kinds.push_back({GateKind::kVector, kCopy, kInput, TinyArch::kLlama, false, kLayer});
  return kinds;
}

INSTANTIATE_TEST_SUITE_P(GatesAndKvRules, EveryKindTest, ::testing::ValuesIn(EveryKind()));

TEST_F(TrainingRunTest, GatesOnlyTheBranchesAsked) {
  const auto gated = [&](const std::string& run, const std::string& branches, const std::string& layers,
                         const std::string& always, GateScope scope) {
    TrainOptions options = Options(run);
    options.gated_branches = branches;
    options.gated_layers = layers;
    options.always_run_layers = always;
    options.gate_scope = scope;
    options.gate_shared = true;  // of a kind of branch that has no gate there are no shared matrices either
    options.steps = 1;
    Observer observer;
    EXPECT_EQ(Train(options, observer), TrainOutcome::kFinished);
    return ReadAdapter(options.adapter_directory).config.gated;
  };
  using Gated = std::vector<bool>;
  EXPECT_EQ(gated("attn", "attn", ":", "", GateScope::kBranch), (Gated{1, 0, 1, 0, 1, 0, 1, 0}));
  EXPECT_EQ(gated("mlp", "mlp", ":", "0", GateScope::kBranch), (Gated{0, 0, 0, 1, 0, 1, 0, 1}));
  EXPECT_EQ(gated("second", "all", "1::2", "", GateScope::kBranch), (Gated{0, 0, 1, 1, 0, 0, 1, 1}));
  EXPECT_EQ(gated("layer", "all", ":", "-1", GateScope::kLayer), (Gated{1, 1, 1, 1, 1, 1, 0, 0}));
  TrainOptions options = Options("none");
  options.gated_layers = "4";
  Observer observer;
  ExpectError([&] { Train(options, observer); }, ErrorCode::kInvalidArgument, "a layer from 0 to 3");
}

// What the log says the run started from: by branch, the rise of the loss without it and its score.
struct Start {
  std::vector<double> rise, score;
};

Start StartOf(const TrainOptions& options) {
  Observer observer;
  EXPECT_EQ(Train(options, observer), TrainOutcome::kFinished);
  std::string line;
  std::ifstream log(options.run_directory + "/log.jsonl");
  EXPECT_TRUE(std::getline(log, line));
  const auto start = nlohmann::json::parse(line);
  return {start.at("rise").get<std::vector<double>>(), start.at("score").get<std::vector<double>>()};
}

// Where a gate decides for a layer, a layer is measured, given up and essential as a whole.
TEST_F(TrainingRunTest, ThePriorGivesUpWholeLayersWhereALayerIsTheScope) {
  TrainOptions options = Options("branches");
  options.steps = 1;
  const Start branches = StartOf(options);
  options.run_directory = directory_ / "layers";
  options.gate_scope = GateScope::kLayer;
  const Start layers = StartOf(options);
  std::vector<double> of_layer;
  for (size_t b = 0; b < 8; b += 2) {
    EXPECT_EQ(layers.rise[b], layers.rise[b + 1]);
    EXPECT_EQ(layers.score[b], layers.score[b + 1]);
    EXPECT_NE(layers.rise[b], branches.rise[b]) << "without the MLP, too";
    of_layer.push_back(layers.rise[b]);
  }
  std::ranges::sort(of_layer);

  options.run_directory = directory_ / "half";
  options.essential_rise = (of_layer[1] + of_layer[2]) / 2;
  StartOf(options);
  const Adapter adapter = ReadAdapter(options.adapter_directory);
  for (size_t b = 0; b < 8; ++b) EXPECT_EQ(adapter.config.gated[b], layers.rise[b] < options.essential_rise);
}

TEST_F(TrainingRunTest, GatesThatMultiplyStartOpenWhateverTheirScore) {
  for (const GateProduct product : {GateProduct::kNone, GateProduct::kInput}) {
    TrainOptions options = Options(product == GateProduct::kNone ? "none" : "input");
    options.gate_product = product;
    options.steps = 1;
    options.gate_bias_learning_rate = 0;
    const Start start = StartOf(options);
    const double open = product == GateProduct::kNone ? 0 : 5;
    const Adapter adapter = ReadAdapter(options.adapter_directory);
    for (int b = 0; b < 8; ++b) {
      const float bias = adapter.tensors.at(BranchPrefix(b) + "gate.bias").values[0];
      EXPECT_NEAR(bias, open + start.score[static_cast<size_t>(b)], 8 * 0x1p-11) << "stored as f16";
    }
  }
}

}  // namespace
}  // namespace gateskip::testing
