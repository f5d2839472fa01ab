// SPDX-License-Identifier: Apache-2.0
// Training the base's own parameters: which ones move, that the model written is the model trained, and that activation
// checkpointing changes memory and nothing else.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>

#include "io/adapter.h"
#include "io/gguf.h"
#include "io/json.h"
#include "io/testing/expect_error.h"
#include "model/model_source.h"
#include "support/training_run.h"
#include "tensor/dequantize.h"
#include "train/checkpoint.h"
#include "train/training_forward.h"

namespace gateskip::testing {
namespace {

namespace fs = std::filesystem;

class TrainBaseTest : public TrainingRunTest {
 protected:
  TrainOptions Full(const std::string& run) const {
    TrainOptions o = Options(run);
    o.model_path = WriteModel("f32.gguf", TinyGguf({.dtype = DType::kF32}));
    o.train_base = "all";
    o.trained_model_path = directory_ / (run + ".gguf");
    o.trained_model_type = TrainedModelType::kF32;
    o.base_learning_rate = 1e-3;
    o.float32 = true;
    o.steps = 4;
    return o;
  }
  static TrainOutcome Go(const TrainOptions& options, Observer* observer) { return Train(options, *observer); }
};

std::vector<float> Values(const std::string& path, const std::string& name) {
  const auto file = GgufFile::Open(path);
  const TensorView* view = file->FindTensor(name);
  std::vector<float> values(static_cast<size_t>(view->num_elements()));
  Dequantize(view->dtype, view->data, values);
  return values;
}

TEST_F(TrainBaseTest, WritesTheModelItTrained) {
  TrainOptions options = Full("full");
  // One document of exactly one sequence, so that the evaluation's loss can be worked out from the files alone.
  const std::string text = "the thing in the box and the ant on";
  options.heldout_sources = {{directory_.Write("held.jsonl", "{\"text\": \"" + text + "\"}\n")}};
  options.packing = Packing::kNone;
  options.sequence_length = 40;
  options.eval_sequences = 1;
  options.eval_budgets = {};
  Observer observer;
  ASSERT_EQ(Go(options, &observer), TrainOutcome::kFinished);
  const Adapter adapter = ReadAdapter(options.adapter_directory);
  const ModelSource source = OpenModelSource(options.trained_model_path);
  EXPECT_EQ(adapter.config.base_fingerprint, source.fingerprint);

  const auto tokenizer = Tokenizer::FromGguf(*source.gguf);
  std::vector<int32_t> ids = tokenizer->Encode(text, false);
  if (tokenizer->add_bos()) ids.insert(ids.begin(), *tokenizer->bos());
  if (tokenizer->eos()) ids.push_back(*tokenizer->eos());
  const TrainingForward forward = RunTrainingForward(source, adapter, ids, {});
  double nll = 0;
  for (size_t t = 0; t + 1 < ids.size(); ++t) {
    double sum = 0;
    for (const float x : forward.logits[t]) sum += std::exp(static_cast<double>(x));
    nll += std::log(sum) - static_cast<double>(forward.logits[t][static_cast<size_t>(ids[t + 1])]);
  }
  nll /= static_cast<double>(ids.size() - 1);
  // The adapter is stored in f16: relative 2^-11 of deltas that four steps have moved by at most 4 x 1e-3 from zero.
  EXPECT_NEAR(observer.evaluations.back().nll[0], nll, 1e-4);
  EXPECT_GT(std::abs(observer.evaluations.front().nll[0] - nll), 1e-2) << "nothing was learned";
}

TEST_F(TrainBaseTest, TrainsWhatTheExpressionNames) {
  TrainOptions options = Full("some");
  options.train_base = "blk\\.[02]\\.ffn_(up|norm)\\.weight|output_norm\\.weight";
  Observer observer;
  ASSERT_EQ(Go(options, &observer), TrainOutcome::kFinished);
  for (const char* name : {"blk.0.ffn_up.weight", "blk.2.ffn_norm.weight", "output_norm.weight"}) {
    EXPECT_NE(Values(options.model_path, name), Values(options.trained_model_path, name)) << name;
  }
  for (const char* name :
       {"blk.1.ffn_up.weight", "blk.0.ffn_down.weight", "token_embd.weight", "blk.0.attn_norm.weight"}) {
    EXPECT_EQ(Values(options.model_path, name), Values(options.trained_model_path, name)) << name;
  }
  const auto refused = [&](const std::string& expression, const char* words) {
    TrainOptions other = Full("refused");
    other.train_base = expression;
    Observer unused;
    ExpectError([&] { Train(other, unused); }, ErrorCode::kInvalidArgument, words);
  };
  refused("blk\\.9.*", "found none that");
  refused("blk(", "regular expression");
}

// The prior takes the gates of essential branches away; what is left of the parameters still trains the tensors it is
// named after. At a rate of 0 the gated model that skips nothing stays the base.
TEST_F(TrainBaseTest, EssentialBranchesLeaveTheBaseAlone) {
  TrainOptions options = Full("essential");
  options.heldout_sources = options.sources;
  options.eval_sequences = 2;
  options.base_learning_rate = 0;
  options.lora_rank = 0;
  options.steps = 2;
  // The median rise of the tiny model's branches, so that some stay gated whatever the machine.
  options.essential_rise = 1e9;
  Observer unused;
  ASSERT_EQ(Go(options, &unused), TrainOutcome::kFinished);
  std::ifstream log(options.run_directory + "/log.jsonl");
  std::string line;
  std::getline(log, line);
  std::vector<double> rises = ParseJson(line, "log")["rise"];
  std::ranges::nth_element(rises, rises.begin() + static_cast<ptrdiff_t>(rises.size() / 2));

  options.essential_rise = rises[rises.size() / 2];
  options.run_directory = directory_ / "essential-half";
  options.adapter_directory = directory_ / "essential-half-adapter";
  options.trained_model_path = directory_ / "essential-half.gguf";
  Observer observer;
  ASSERT_EQ(Go(options, &observer), TrainOutcome::kFinished);
  const Adapter adapter = ReadAdapter(options.adapter_directory);
  ASSERT_LT(std::ranges::count(adapter.config.gated, true), std::ssize(adapter.config.gated));
  for (const TrainEvaluation& e : observer.evaluations) EXPECT_EQ(e.nll[0], e.base_nll);
}

// Law L9 with the base's parameters in the checkpoint.
TEST_F(TrainBaseTest, L9ResumesBitForBit) {
  TrainOptions options = Full("straight");
  options.float32 = false;
  options.steps = 8;
  const Hashes straight = Straight(options);
  TrainOptions cut = options;
  cut.run_directory = directory_ / "cut";
  cut.adapter_directory = directory_ / "cut-adapter";
  cut.trained_model_path = directory_ / "cut.gguf";
  Observer first;
  first.cancel_at = 3;
  ASSERT_EQ(Go(cut, &first), TrainOutcome::kCancelled);
  cut.resume = true;
  Observer second;
  ASSERT_EQ(Go(cut, &second), TrainOutcome::kFinished);
  EXPECT_EQ(Result(cut), straight);
  EXPECT_EQ(Sha256File(cut.trained_model_path), Sha256File(options.trained_model_path));
}

// A layer run twice gives the same bits, and every parameter the same gradient: two whole runs end alike, under every
// K/V rule (`copy` hands entries from layer to layer), with penalties and with gates of the kind that has a head.
TEST_F(TrainBaseTest, ActivationCheckpointingChangesNoBit) {
  for (const KvRule rule : {KvRule::kCompute, KvRule::kCopy, KvRule::kDrop}) {
    const auto run = [&](const std::string& name, bool checkpointing) {
      TrainOptions options = Full(name);
      options.kv_rule = rule;
      options.gate_kind = GateKind::kVector;
      options.gate_product = GateProduct::kOutput;
      options.gate_l2 = 0.1;
      options.gate_kl = 0.1;
      options.penalty_layers = "1:";
      options.steps = 3;
      options.activation_checkpointing = checkpointing;
      Observer observer;
      EXPECT_EQ(Go(options, &observer), TrainOutcome::kFinished);
      return Sha256File(options.run_directory + "/step-3/model.safetensors");
    };
    const std::string prefix = "rule" + std::to_string(static_cast<int>(rule));
    EXPECT_EQ(run(prefix + "kept", false), run(prefix + "again", true)) << prefix;
  }
}

// The paper's way of training, at the tiny model's size.
TEST_F(TrainBaseTest, QuantilesOnALinearScheduleWithoutStraightThrough) {
  TrainOptions options = Full("paper");
  options.gate_kind = GateKind::kVector;
  options.gate_product = GateProduct::kOutput;
  options.decision_rule = DecisionRule::kQuantile;
  options.budget_schedule = BudgetSchedule::kLinear;
  options.min_budget = 0;
  options.max_budget = 0.4;
  options.dense_every = 0;
  options.straight_through = false;
  options.noise = 0;
  options.prior = false;
  options.skip_rank = -1;
  options.lora_rank = 0;
  options.kl_weight = 0;
  options.ce_weight = 1;
  options.gate_l2 = 1;
  options.steps = 5;
  Observer observer;
  ASSERT_EQ(Go(options, &observer), TrainOutcome::kFinished);
  ASSERT_EQ(observer.steps.size(), 5U);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_NEAR(observer.steps[i].requested_saving, 0.1 * static_cast<double>(i), 1e-12);
    // A quantile skips its share of every branch's rows; net of the gates, of K/V still computed and of the row that
    // never skips, it is less.
    EXPECT_LE(observer.steps[i].realised_saving, 0.1 * static_cast<double>(i));
  }
  EXPECT_GT(observer.steps[4].realised_saving, observer.steps[1].realised_saving);
}

}  // namespace
}  // namespace gateskip::testing
