// SPDX-License-Identifier: Apache-2.0
// Exported models are the model: a GGUF with the deltas merged and the gates inside decides as the base with its
// adapter does and gives its logits; a model that goes through safetensors and another layout of its rotations stays
// itself.
#include "laws/variants.h"
#include "support/export_case.h"

namespace gateskip::testing {
namespace {

constexpr size_t kTokens = 29;

class ExportLaw : public VariantTest {
 protected:
  WrittenModel Write(const std::string& path, ModelFormat format, std::optional<DType> dtype) const {
    const ModelSource source = MakeModelSource(file_);
    const EmbeddedAdapter embedded = {adapter_, false, {}};
    WriteModelOptions options;
    options.format = format;
    options.dtype = dtype;
    options.adapter = &embedded;
    return WriteModel(source, MergeDeltas(adapter_, source, "adapter"), options, path);
  }

  TempDirectory directory_;
};

TEST_P(ExportLaw, MergedGgufDecidesAndAnswersAsBaseAndAdapter) {
  const std::string path = directory_ / "merged.gguf";
  EXPECT_FALSE(Write(path, ModelFormat::kGguf, DType::kF32).requantized);
  const auto merged = GgufFile::Open(path);
  Adapter inside = ReadEmbeddedAdapter(*merged).adapter;
  EXPECT_EQ(inside.config.lora_rank, 0);
  EXPECT_EQ(inside.config.base_fingerprint, file_->Fingerprint()) << "it says what it was trained for";
  inside.config.base_fingerprint = merged->Fingerprint();

  const auto ids = TinyTokens(kTokens, 81);
  ModelRunner before(file_, &adapter_, /*exact=*/true, 2);
  ModelRunner after(merged, &inside, /*exact=*/true, 2);
  const double tolerance = ExportTolerance(ReadConfig(*file_));
  for (const double budget : {0.0, 0.2, 0.4}) {
    const RunResult expected = before.RunOne(ids, Gates(budget));
    const RunResult found = after.RunOne(ids, GatesPlan(inside.config, budget));
    for (size_t b = 0; b < expected.events.size(); ++b) {
      for (size_t t = 0; t < kTokens; ++t) {
        ASSERT_EQ(found.events[b][t], expected.events[b][t]) << "branch " << b << " position " << t;
      }
    }
    EXPECT_EQ(CountEvents(expected, kRan) < static_cast<uint64_t>(branches_) * kTokens, budget > 0);
    for (size_t t = 0; t < kTokens; ++t) {
      for (size_t v = 0; v < expected.logits[t].size(); ++v) {
        ASSERT_NEAR(found.logits[t][v], expected.logits[t][v], tolerance) << "position " << t << " token " << v;
      }
    }
  }
}

// The way users go: a path and a budget, no adapter directory.
TEST_P(ExportLaw, EngineFindsTheGatesInside) {
  const std::string base = WriteTiny(directory_, bytes_);
  const std::string adapter = directory_ / "adapter";
  WriteAdapter(adapter_, adapter, /*half_precision=*/false);
  const std::string path = directory_ / "merged.gguf";
  Write(path, ModelFormat::kGguf, DType::kF32);
  const auto ids = TinyTokens(kTokens, 82);
  const double tolerance = ExportTolerance(ReadConfig(*file_));
  for (const double budget : {0.0, 0.4}) {
    const ScoreResult expected = ScoreModel(base, adapter, ids, budget);
    const ScoreResult found = ScoreModel(path, "", ids, budget);
    EXPECT_EQ(found.saving.branches_run, expected.saving.branches_run);
    for (size_t t = 0; t < expected.log_probs.size(); ++t) {
      ASSERT_NEAR(found.log_probs[t], expected.log_probs[t], 2 * tolerance) << "position " << t;  // of two logits
    }
  }
}

TEST_P(ExportLaw, SafetensorsAnswerAsTheGguf) {
  const std::string base = WriteTiny(directory_, bytes_);
  const std::string adapter = directory_ / "adapter";
  WriteAdapter(adapter_, adapter, /*half_precision=*/false);
  const std::string path = directory_ / "hub";
  Write(path, ModelFormat::kSafetensors, DType::kF32);
  const auto ids = TinyTokens(kTokens, 83);
  const double tolerance = ExportTolerance(ReadConfig(*file_));
  for (const double budget : {0.0, 0.4}) {
    const ScoreResult expected = ScoreModel(base, adapter, ids, budget);
    const ScoreResult found = ScoreModel(path, path + "/gateskip", ids, budget);
    EXPECT_EQ(found.saving.branches_run, expected.saving.branches_run);
    for (size_t t = 0; t < expected.log_probs.size(); ++t) {
      ASSERT_NEAR(found.log_probs[t], expected.log_probs[t], 2 * tolerance) << "position " << t;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, ExportLaw, ::testing::ValuesIn(AllVariants()), VariantName);

}  // namespace
}  // namespace gateskip::testing
