// SPDX-License-Identifier: Apache-2.0
// Smaller models against the ones they were made of: without heads and neurons it is the whole model with their weights
// zeroed, without layers the whole model under a static plan; activations are what norms and zeroed columns say; the
// formats of a quantised model are those that were decided.
#include <algorithm>
#include <cmath>

#include "eval/activations.h"
#include "eval/model_difference.h"
#include "io/testing/expect_error.h"
#include "model/prune.h"
#include "model/quantize_plan.h"
#include "runtime/loaded_model.h"
#include "support/export_case.h"
#include "support/model_runner.h"

namespace gateskip::testing {
namespace {

class Compress : public ::testing::TestWithParam<TinyArch> {
 protected:
  void SetUp() override {
    bytes_ = TinyGguf({.arch = GetParam(), .dtype = DType::kF32});
    file_ = OpenTiny(bytes_);
    source_ = MakeModelSource(file_);
    base_ = WriteTiny(directory_, bytes_);
  }

  std::string Prune(const PruneSelection& selection) const {
    CheckSelection(source_, selection);
    WriteModel(source_, nullptr, PruneOptions(source_, selection, {}), directory_ / "pruned.gguf");
    return directory_ / "pruned.gguf";
  }

  std::unique_ptr<LoadedModel> Load(const std::string& path) const {
    EngineOptions options;
    options.model_path = path;
    options.threads = 2;
    options.compute = ComputeType::kF32;
    return LoadModel(options);
  }

  TokenWindows Windows() const { return {TinyTokens(40, 11), TinyTokens(24, 12)}; }

  TempDirectory directory_;
  std::vector<std::byte> bytes_;
  std::shared_ptr<const GgufFile> file_;
  ModelSource source_;
  std::string base_;
};

INSTANTIATE_TEST_SUITE_P(All, Compress, ::testing::Values(TinyArch::kLlama, TinyArch::kGemma3),
                         [](const auto& arch) { return arch.param == TinyArch::kLlama ? "Llama" : "Gemma3"; });

// Heads differ from layer to layer, and so do neurons; what goes has large weights, so that its absence shows.
TEST_P(Compress, WithoutHeadsAndNeuronsItIsTheModelWithTheirWeightsZeroed) {
  const ModelConfig& c = source_.config;
  PruneSelection selection = WholeModel(c);
  const auto group = static_cast<size_t>(c.num_heads / c.num_kv_heads);
  for (size_t l = 0; l < selection.layers.size(); ++l) {
    std::erase_if(selection.heads[l], [&](size_t h) { return h % group == l % group; });
    std::erase_if(selection.neurons[l], [&](size_t n) { return n % 4 == l % 4; });
  }
  const auto gone = [&](const std::vector<size_t>& kept, size_t i) { return !std::ranges::binary_search(kept, i); };
  const WeightUpdates zero = [&](const std::string& name) -> RowUpdate {
    const auto block = ParseBlockTensor(name);
    if (!block || (block->rest != "attn_output.weight" && block->rest != "ffn_down.weight")) return nullptr;
    const auto layer = static_cast<size_t>(block->layer);
    const bool attention = block->rest == "attn_output.weight";
    return [&, layer, attention](size_t, std::span<float> row) {
      for (size_t col = 0; col < row.size(); ++col) {
        const bool zeroed = attention ? gone(selection.heads[layer], col / static_cast<size_t>(c.head_dim))
                                      : gone(selection.neurons[layer], col);
        if (zeroed) row[col] = 0.0F;
      }
    };
  };
  WriteModel(source_, zero, {}, directory_ / "zeroed.gguf");
  const std::string pruned = Prune(selection);
  const auto file = GgufFile::Open(pruned);
  EXPECT_LT(file->FindTensor("blk.0.ffn_down.weight")->data.size(),
            file_->FindTensor("blk.0.ffn_down.weight")->data.size());
  const auto ids = TinyTokens(48, 31);
  const ScoreResult expected = ScoreModel(directory_ / "zeroed.gguf", "", ids, 0);
  const ScoreResult found = ScoreModel(pruned, "", ids, 0);
  const ScoreResult whole = ScoreModel(base_, "", ids, 0);
  double moved = 0;
  for (size_t t = 0; t < expected.log_probs.size(); ++t) {
    // Terms of 0 change the order in which the others are summed.
    ASSERT_NEAR(found.log_probs[t], expected.log_probs[t], 2 * ExportTolerance(c)) << "position " << t;
    moved += std::fabs(static_cast<double>(whole.log_probs[t]) - static_cast<double>(found.log_probs[t]));
  }
  EXPECT_GT(moved, 1.0);
}

// A KV group goes with its query heads.
TEST_P(Compress, WithoutAKvGroupItIsTheModelWithItsHeadsZeroed) {
  const ModelConfig& c = source_.config;
  if (c.num_kv_heads == 1) {
    PruneSelection selection = WholeModel(c);
    for (auto& kv_heads : selection.kv_heads) kv_heads.clear();
    ExpectError([&] { CheckSelection(source_, selection); }, ErrorCode::kInvalidArgument, "KV groups");
    return;
  }
  PruneSelection selection = WholeModel(c);
  for (size_t l = 0; l < selection.layers.size(); ++l) {
    selection.kv_heads[l] = {l % 2};
    selection.heads[l] = {2 * (l % 2), 2 * (l % 2) + 1};
  }
  const WeightUpdates zero = [&](const std::string& name) -> RowUpdate {
    const auto block = ParseBlockTensor(name);
    if (!block || block->rest != "attn_output.weight") return nullptr;
    const size_t kept = static_cast<size_t>(block->layer) % 2;
    return [&c, kept](size_t, std::span<float> row) {
      for (size_t col = 0; col < row.size(); ++col) {
        if (col / static_cast<size_t>(2 * c.head_dim) != kept) row[col] = 0.0F;
      }
    };
  };
  WriteModel(source_, zero, {}, directory_ / "zeroed.gguf");
  const auto ids = TinyTokens(48, 32);
  const ScoreResult expected = ScoreModel(directory_ / "zeroed.gguf", "", ids, 0);
  const ScoreResult found = ScoreModel(Prune(selection), "", ids, 0);
  for (size_t t = 0; t < expected.log_probs.size(); ++t) {
    ASSERT_NEAR(found.log_probs[t], expected.log_probs[t], 2 * ExportTolerance(c)) << "position " << t;
  }
}

// Bit for bit: a skipped branch adds nothing, and a layer's weights do not know its number.
TEST_P(Compress, WithoutLayersItIsTheModelUnderAStaticPlan) {
  PruneSelection selection = WholeModel(source_.config);
  // Gemma's last layer of 7 has a sliding window as the one before the global one has.
  if (GetParam() == TinyArch::kLlama) {
    selection.layers = {0, 3};
  } else {
    selection.layers.pop_back();
  }
  std::vector<uint8_t> runs(static_cast<size_t>(source_.config.num_branches()), 0);
  for (const size_t l : selection.layers) runs[2 * l] = runs[2 * l + 1] = 1;
  const auto ids = TinyTokens(48, 33);
  ModelRunner whole(file_, nullptr, /*exact=*/true, 2);
  ModelRunner pruned(GgufFile::Open(Prune(selection)), nullptr, /*exact=*/true, 2);
  EXPECT_EQ(pruned.model().config.num_layers, static_cast<int>(selection.layers.size()));
  EXPECT_EQ(pruned.RunOne(ids, DensePlan()).logits, whole.RunOne(ids, StaticPlan(runs, 0)).logits);
  EXPECT_NE(pruned.RunOne(ids, DensePlan()).logits, whole.RunOne(ids, DensePlan()).logits);
}

TEST_P(Compress, AllOfTheModelIsTheModel) {
  const PruneSelection all = WholeModel(source_.config);
  const auto file = GgufFile::Open(Prune(all));
  ASSERT_EQ(file->tensors().size(), file_->tensors().size());
  for (const TensorView& tensor : file->tensors()) {
    EXPECT_TRUE(std::ranges::equal(tensor.data, file_->FindTensor(tensor.name)->data)) << tensor.name;
  }
}

TEST_P(Compress, RefusesTensorsItDoesNotKnow) {
  GgufWriter writer;
  for (const std::string_view key : file_->Keys()) writer.CopyValue(*file_, key);
  for (const TensorView& t : file_->tensors()) writer.AddTensor(t.name, t.dtype, t.shape, t.data);
  writer.AddTensor("blk.0.attn_q.bias", DType::kF32, {4}, std::vector<std::byte>(16));
  writer.WriteFile(directory_ / "odd.gguf");
  const ModelSource odd = OpenModelSource(directory_ / "odd.gguf");
  ExpectError([&] { PruneOptions(odd, WholeModel(odd.config), {}); }, ErrorCode::kUnsupported, "blk.0.attn_q.bias");
}

// After a norm with weights w the mean of (x / w)^2 over columns is 1, up to the norm's epsilon.
TEST_P(Compress, NormedActivationsHaveUnitSize) {
  const auto model = Load(base_);
  const ModelConfig& c = model->transformer->config;
  size_t reported = 0;
  const ActivationSquares squares = MeasureActivations(*model, Windows(), *DensePlan(), [&](size_t done, size_t total) {
    EXPECT_EQ(total, 64U);
    reported = done;
  });
  EXPECT_EQ(reported, 64U);
  EXPECT_EQ(squares.tokens, 64U);
  const auto mean = [](const std::vector<float>& columns, const std::vector<float>& weight) {
    double sum = 0;
    for (size_t i = 0; i < columns.size(); ++i) {
      sum += static_cast<double>(columns[i]) / (static_cast<double>(weight[i]) * static_cast<double>(weight[i]));
    }
    return sum / static_cast<double>(columns.size());
  };
  // eps over the mean square of the residual stream, which is of order 1 and not below 0.01 here; f32 sums besides.
  const double tolerance = 1e-5 / 0.01 + 1e-4;
  ASSERT_EQ(squares.layers.size(), static_cast<size_t>(c.num_layers));
  for (size_t l = 0; l < squares.layers.size(); ++l) {
    const LayerWeights& weights = model->transformer->weights.layers[l];
    EXPECT_NEAR(mean(squares.layers[l].attention, weights.attn_norm), 1.0, tolerance) << l;
    EXPECT_NEAR(mean(squares.layers[l].mlp, weights.ffn_norm), 1.0, tolerance) << l;
  }
  EXPECT_NEAR(mean(squares.head, model->transformer->weights.output_norm), 1.0, tolerance);

  EXPECT_EQ(&squares.Of("blk.2.attn_k.weight", true), &squares.layers[2].attention);
  EXPECT_EQ(&squares.Of("blk.2.attn_output.weight", true), &squares.layers[2].attended);
  EXPECT_EQ(&squares.Of("blk.3.ffn_up.weight", true), &squares.layers[3].mlp);
  EXPECT_EQ(&squares.Of("blk.3.ffn_down.weight", true), &squares.layers[3].activated);
  EXPECT_EQ(&squares.Of("token_embd.weight", true), &squares.head);
  EXPECT_TRUE(squares.Of("token_embd.weight", false).empty());
  EXPECT_TRUE(squares.Of("blk.2.attn_norm.weight", true).empty());
  EXPECT_EQ(squares.layers[1].attended.size(), static_cast<size_t>(c.query_size()));
  EXPECT_EQ(squares.layers[1].activated.size(), static_cast<size_t>(c.ffn_size));
}

// A neuron whose gate row is zero is never active, and is the only one.
TEST_P(Compress, DeadNeuronsHaveNoActivation) {
  const WeightUpdates kill = [](const std::string& name) -> RowUpdate {
    if (name != "blk.1.ffn_up.weight") return nullptr;
    return [](size_t r, std::span<float> row) {
      if (r == 5 || r == 77) std::ranges::fill(row, 0.0F);
    };
  };
  WriteModel(source_, kill, {}, directory_ / "dead.gguf");
  const auto model = Load(directory_ / "dead.gguf");
  const ActivationSquares squares = MeasureActivations(*model, Windows(), *DensePlan(), nullptr);
  for (size_t n = 0; n < squares.layers[1].activated.size(); ++n) {
    EXPECT_EQ(squares.layers[1].activated[n] == 0.0F, n == 5 || n == 77) << n;
  }
}

TEST_P(Compress, AModelDoesNotDifferFromItself) {
  const auto model = Load(base_);
  const ModelDifference same = CompareModels(*model, *model, Windows(), nullptr);
  EXPECT_EQ(same.tokens, 62U);
  EXPECT_EQ(same.kl, 0.0);
  EXPECT_EQ(same.same_top, 1.0);
  EXPECT_EQ(same.nll, same.nll_reference);
  double nll = 0;
  for (const auto& window : Windows()) {
    for (const float log_prob : ScoreModel(base_, "", window, 0).log_probs) nll -= static_cast<double>(log_prob);
  }
  EXPECT_NEAR(same.nll, nll / 62, 1e-5);
}

// Scaling the head's rows scales logits: the divergence from softmax(z) to softmax(a z) is known from the logits.
TEST_P(Compress, DivergenceIsWhatItsFormulaSays) {
  constexpr double kScale = 1.0 / 64;  // Gemma's logits are large: less leaves hardly any divergence
  const WeightUpdates scale = [](const std::string& name) -> RowUpdate {
    if (name != "output_norm.weight") return nullptr;
    return [](size_t, std::span<float> row) {
      for (float& w : row) w *= static_cast<float>(kScale);
    };
  };
  WriteModel(source_, scale, {}, directory_ / "scaled.gguf");
  const TokenWindows windows = {Windows()[0]};
  const ModelDifference found = CompareModels(*Load(base_), *Load(directory_ / "scaled.gguf"), windows, nullptr);
  ModelRunner runner(file_, nullptr, /*exact=*/true, 2);
  const RunResult run = runner.RunOne(windows[0], DensePlan());
  double kl = 0;
  for (size_t t = 0; t + 1 < windows[0].size(); ++t) {
    double p_sum = 0;
    double q_sum = 0;
    for (const float z : run.logits[t]) {
      p_sum += std::exp(static_cast<double>(z));
      q_sum += std::exp(kScale * static_cast<double>(z));
    }
    for (const float logit : run.logits[t]) {
      const auto z = static_cast<double>(logit);
      kl += std::exp(z) / p_sum * ((z - std::log(p_sum)) - (kScale * z - std::log(q_sum)));
    }
  }
  kl /= static_cast<double>(found.tokens);
  EXPECT_GT(kl, 0.01);
  EXPECT_NEAR(found.kl, kl, 1e-4 * kl + 1e-6);
  EXPECT_EQ(found.same_top, 1.0);
  EXPECT_GT(found.kl_error, 0.0);
}

TEST_P(Compress, TypesAreDecidedByRulesTheLastFirst) {
  QuantizeChoice choice;
  choice.type = &FindQuantizeType("q4_0");
  choice.tensor_types = {{"*ffn*", DType::kQ5_1}, {"blk.1.*", DType::kQ6_K}};
  for (const TensorDecision& d : DecideTypes(source_, choice)) {
    const std::string& name = d.tensor->name;
    const bool one = name.starts_with("blk.1.");
    const DType expected = one || name == "token_embd.weight"      ? DType::kQ8_0  // for Q6_K: rows of 64 and 128
                           : name.find("ffn") != std::string::npos ? DType::kQ5_1
                                                                   : DType::kQ4_0;
    EXPECT_EQ(d.dtype, expected) << name;
    EXPECT_EQ(d.wanted.has_value(), expected == DType::kQ8_0) << name;
  }
  choice.tensor_types = {{"nothing*", DType::kQ8_0}};
  ExpectError([&] { DecideTypes(source_, choice); }, ErrorCode::kInvalidArgument, "'nothing*'");
  choice.tensor_types.clear();
  choice.embedding = DType::kQ8_0;
  ExpectError([&] { DecideTypes(source_, choice); }, ErrorCode::kInvalidArgument, "found them tied");
}

TEST(QuantizePlan, Patterns) {
  for (const auto& [pattern, name] :
       std::vector<std::pair<const char*, const char*>>{{"*", ""},
                                                        {"*", "x"},
                                                        {"", ""},
                                                        {"abc", "abc"},
                                                        {"a*c", "ac"},
                                                        {"a*c", "abbc"},
                                                        {"*b*", "abc"},
                                                        {"a?c", "abc"},
                                                        {"*.*.weight", "blk.3.ffn_up.weight"},
                                                        {"**x", "yx"},
                                                        {"a*b*c", "axbxbxc"}}) {
    EXPECT_TRUE(MatchesPattern(pattern, name)) << pattern << " " << name;
  }
  for (const auto& [pattern, name] : std::vector<std::pair<const char*, const char*>>{{"", "x"},
                                                                                      {"?", ""},
                                                                                      {"abc", "ab"},
                                                                                      {"ab", "abc"},
                                                                                      {"a*c", "ab"},
                                                                                      {"*x", "xy"},
                                                                                      {"a?c", "ac"},
                                                                                      {"a*b*c", "axcxb"}}) {
    EXPECT_FALSE(MatchesPattern(pattern, name)) << pattern << " " << name;
  }
  // Backtracking is bounded by the last star: no blow-up.
  EXPECT_FALSE(MatchesPattern("*a*a*a*a*a*a*a*a*a*b", std::string(4000, 'a')));
}

TEST(QuantizePlan, NamesItsTypes) {
  for (const QuantizeType& type : QuantizeTypes()) {
    EXPECT_EQ(&FindQuantizeType(type.name), &type);
    if (!type.mixed) {
      EXPECT_EQ(FindDType(type.name), type.layers);
    }
  }
  ExpectError([] { FindQuantizeType("q4_k_n"); }, ErrorCode::kInvalidArgument, "did you mean");
  EXPECT_FALSE(FindDType("q9"));
  EXPECT_FALSE(FindDType(""));
}

}  // namespace
}  // namespace gateskip::testing
