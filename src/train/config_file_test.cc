// SPDX-License-Identifier: Apache-2.0
#include "train/config_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "base/nearest_name.h"

namespace gateskip {
namespace {

using ::testing::HasSubstr;

std::string ErrorOf(const std::string& text) {
  TrainOptions options;
  try {
    ApplyConfigText(text, "c.toml", OptionTable(options));
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    return e.what();
  }
  return "none";
}

TEST(ConfigFile, SetsWhatItNamesAndNothingElse) {
  TrainOptions options;
  ApplyConfigText(
      "[optimizer]\ngate_lr = 1\nlr_schedule = \"linear\"\n[adapter]\nlora_targets = [\"attn_q\"]\ngate = \"vector\"\n"
      "[data]\ndata = [\"a.txt@2@0.5-1\", { path = \"b@c.txt\", weight = 3, begin = 0.25, end = 0.5 }]\n"
      "[run]\nseed = 18\neval_budgets = [0.1, 0.2]\nresume = true\n",
      "c.toml", OptionTable(options));
  EXPECT_EQ(options.gate_learning_rate, 1.0);
  EXPECT_EQ(options.schedule, LearningRateSchedule::kLinear);
  EXPECT_EQ(options.lora_targets, std::vector<std::string>{"attn_q"});
  EXPECT_EQ(options.gate_kind, GateKind::kVector);
  ASSERT_EQ(options.sources.size(), 2U);
  EXPECT_EQ(options.sources[0].path, "a.txt");
  EXPECT_EQ(options.sources[0].begin, 0.5);
  EXPECT_EQ(options.sources[1].path, "b@c.txt");
  EXPECT_EQ(options.sources[1].weight, 3.0);
  EXPECT_EQ(options.sources[1].end, 0.5);
  EXPECT_EQ(options.seed, 18U);
  EXPECT_EQ(options.eval_budgets, (std::vector<double>{0.1, 0.2}));
  EXPECT_TRUE(options.resume);
  EXPECT_EQ(options.steps, TrainOptions().steps);
}

// What is printed reads back as the same options, awkward strings included.
TEST(ConfigFile, PrintsWhatItReads) {
  TrainOptions options;
  options.model_path = "a \"model\"\\ \x01 \n.gguf";
  options.sample_prompts = {"one, two", "three\t"};
  options.gate_learning_rate = 0.1 + 0.2;
  options.lora_alpha = 1.0F / 3.0F;
  options.seed = (uint64_t{1} << 62) + 1;
  options.train_base = "blk\\.1\\..*";
  options.kv_rule = KvRule::kDrop;
  options.sources = {{"a@b.jsonl", 2.5, 0.25, 0.5, {.prompt = "q", .completion = "a"}}, {"plain.txt"}};
  const std::string text = PrintConfig(OptionTable(options));
  TrainOptions copy;
  ApplyConfigText(text, "printed", OptionTable(copy));
  EXPECT_EQ(PrintConfig(OptionTable(copy)), text);
  EXPECT_EQ(copy.model_path, options.model_path);
  EXPECT_EQ(copy.sample_prompts, options.sample_prompts);
  EXPECT_EQ(copy.gate_learning_rate, options.gate_learning_rate);
  EXPECT_EQ(copy.lora_alpha, options.lora_alpha);
  EXPECT_EQ(copy.seed, options.seed);
  ASSERT_EQ(copy.sources.size(), 2U);
  EXPECT_EQ(copy.sources[0].path, "a@b.jsonl");
  EXPECT_EQ(copy.sources[0].begin, 0.25);
  EXPECT_EQ(copy.sources[0].fields, options.sources[0].fields);
}

TEST(ConfigFile, EveryKeyIsKnownOnce) {
  TrainOptions options;
  std::vector<std::string> names;
  for (const TrainOption& option : OptionTable(options)) names.push_back(option.name);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

TEST(ConfigFile, SaysWhereAndWhatIsWrong) {
  EXPECT_THAT(ErrorOf("[optimizer]\n\ngate_ir = 1"),
              AllOf(HasSubstr("c.toml:3"), HasSubstr("gate_ir"), HasSubstr("did you mean 'gate_lr'")));
  EXPECT_THAT(ErrorOf("[optimiser]\ngate_lr = 1"), HasSubstr("did you mean 'optimizer'"));
  EXPECT_THAT(ErrorOf("steps = 5"), HasSubstr("section"));
  EXPECT_THAT(ErrorOf("optimizer = 5"), HasSubstr("[optimizer]"));
  EXPECT_THAT(ErrorOf("[adapter]\ngate_lr = 1"), HasSubstr("gate_lr"));  // of another section
  EXPECT_THAT(ErrorOf("[steps]\nsteps = 1.5"), HasSubstr("an integer"));
  EXPECT_THAT(ErrorOf("[steps]\nsteps = \"many\""), HasSubstr("an integer"));
  EXPECT_THAT(ErrorOf("[steps]\nsteps = -1"), HasSubstr("[0, 1000000000]"));
  EXPECT_THAT(ErrorOf("[steps]\nsteps = 4611686018427387904"), HasSubstr("an integer"));
  EXPECT_THAT(ErrorOf("[steps]\nnoise = nan"), HasSubstr("a number"));
  EXPECT_THAT(ErrorOf("[steps]\nmin_budget = [0.1]"), HasSubstr("a number"));
  EXPECT_THAT(ErrorOf("[adapter]\ngate = \"matrix\""), HasSubstr("scalar, low_rank"));
  EXPECT_THAT(ErrorOf("[adapter]\nprior = true"), HasSubstr("prior"));
  EXPECT_THAT(ErrorOf("[model]\nf32 = 1"), HasSubstr("true or false"));
  EXPECT_THAT(ErrorOf("[data]\ndata = [1]"), HasSubstr("a string"));
  EXPECT_THAT(ErrorOf("[data]\ndata = [{ path = \"a\", wieght = 1 }]"), HasSubstr("did you mean 'weight'"));
  EXPECT_THAT(ErrorOf("[data]\ndata = [{ weight = 1 }]"), HasSubstr("a path"));
  EXPECT_THAT(ErrorOf("[data]\ndata = [\"a@x\"]"), HasSubstr("weight"));
  EXPECT_THAT(ErrorOf("[data\n"), AllOf(HasSubstr("c.toml:1"), HasSubstr("TOML")));
  EXPECT_THAT(ErrorOf(std::string(100'000, '[')), HasSubstr("TOML"));
  EXPECT_THAT(ErrorOf("a = \"\xff\xfe\""), HasSubstr("TOML"));
  // Letters that toml++ 3.3 must not see (io/toml_text.h).
  EXPECT_THAT(ErrorOf("[steps]\n\u03C3 = 1"), AllOf(HasSubstr("c.toml:2"), HasSubstr("ASCII")));
}

TEST(Presets, ReadAndDiffer) {
  for (const std::string& name : PresetNames()) {
    TrainOptions options;
    EXPECT_NO_THROW(ApplyConfigText(PresetText(name), name, OptionTable(options))) << name;
    options.model_path = "model.gguf";
    options.sources = {{"text.txt"}};
    options.run_directory = "run";
    if (!options.train_base.empty()) options.trained_model_path = "trained.gguf";
    EXPECT_NO_THROW(ValidateTrainOptions(options)) << name;
  }
  EXPECT_THROW(PresetText("fast"), Error);
  TrainOptions paper;
  ApplyConfigText(PresetText("paper"), "paper", OptionTable(paper));
  // arXiv 2510.13876 and its code's defaults.
  EXPECT_EQ(paper.steps, 6800);
  EXPECT_EQ(paper.warmup_steps, 1000);
  EXPECT_EQ(paper.base_learning_rate, 3e-6);
  EXPECT_EQ(paper.gate_l2, 1.0);
  EXPECT_EQ(paper.max_budget, 0.2);
  EXPECT_EQ(paper.gate_kind, GateKind::kVector);
  EXPECT_FALSE(paper.straight_through);
}

TEST(NearestName, IsNearOrNothing) {
  const std::vector<std::string> names = {"gate_lr", "base_lr"};
  EXPECT_EQ(NearestName(names, "gat_lr"), "gate_lr");
  EXPECT_EQ(NearestName(names, "something"), "");
  EXPECT_EQ(NearestName(names, std::string(1000, 'a')), "");
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3U);
  EXPECT_EQ(EditDistance("", "abc"), 3U);
}

}  // namespace
}  // namespace gateskip
