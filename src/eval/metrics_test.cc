// SPDX-License-Identifier: Apache-2.0
// Expected numbers are worked out by hand from the definitions in metrics.h.
#include "eval/metrics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "gateskip/error.h"

namespace gateskip {
namespace {

TEST(FilterTest, RegexSelectsAsPythonsFindall) {
  const FilterSpec strict = {"strict", {{FilterKind::kRegex, R"(#### (\-?[0-9\.\,]+))", 0, "[invalid]"}}};
  EXPECT_EQ(ApplyFilter(strict, "so 3.\n#### 1,234 and #### 7"), "1,234");
  EXPECT_EQ(ApplyFilter(strict, "no number"), "[invalid]");
  const FilterSpec last = {"flexible", {{FilterKind::kRegex, R"((-?[$0-9.,]{2,})|(-?[0-9]+))", -1, "[invalid]"}}};
  EXPECT_EQ(ApplyFilter(last, "first $12.50, then 7"), "7");
  EXPECT_EQ(ApplyFilter(last, "costs $12.50"), "$12.50");
  EXPECT_EQ(ApplyFilter({"l", {{FilterKind::kRemoveWhitespace}, {FilterKind::kLowercase}}}, " \nYes "), "yes ");
  // An empty match does not hang, and an index beyond the matches falls back.
  EXPECT_EQ(ApplyFilter({"e", {{FilterKind::kRegex, "x*", 5, "none"}}}, "ab"), "none");
  EXPECT_THROW(ApplyFilter({"bad", {{FilterKind::kRegex, "(", 0, ""}}}, "a"), Error);
}

TEST(ExactMatchTest, IgnoresWhatItIsTold) {
  EXPECT_EQ(ExactMatch({"exact_match"}, "A", "a"), 0);
  EXPECT_EQ(ExactMatch({.metric = "exact_match", .ignore_case = true}, "A", "a"), 1);
  EXPECT_EQ(ExactMatch({.metric = "exact_match", .ignore_punctuation = true}, "a.b!", "ab"), 1);
  // gsm8k's own: the reference is a whole solution.
  const MetricSpec gsm8k = {"exact_match", true, false, {",", "\\$", "(?s).*#### ", "\\.$"}};
  EXPECT_EQ(ExactMatch(gsm8k, "1,260.", "20 and\nmore\n#### 1260"), 1);
  EXPECT_EQ(ExactMatch(gsm8k, "126", "#### 1260"), 0);
}

TEST(SquadTest, NormalisesAndTakesTheBestReference) {
  EXPECT_EQ(NormalizeAnswer(" The  cat, an  Owl!\n"), "cat owl");
  EXPECT_EQ(SquadExact("the cat", {"dog", "Cat."}), 1);
  EXPECT_EQ(SquadExact("", {}), 1) << "no answer, and none given";
  EXPECT_EQ(SquadF1("something", {}), 0);
  // Two of three words right, two of four references found: P = 2/3, R = 1/2.
  EXPECT_NEAR(SquadF1("big red dog", {"dog", "red dog in house"}), 2 * (2.0 / 3) * 0.5 / (2.0 / 3 + 0.5), 1e-12);
}

TEST(AggregateTest, MeansPerplexitiesAndTheirErrors) {
  const std::vector<MetricValue> acc = {{"acc", 1}, {"acc", 0}, {"acc", 1}, {"acc", 1}};
  const MetricResult mean = AggregateMetric("acc", acc);
  EXPECT_NEAR(mean.value, 0.75, 1e-12);
  EXPECT_NEAR(*mean.standard_error, std::sqrt(0.25) / 2, 1e-12);  // s^2 = (3 * 0.0625 + 0.5625) / 3 = 0.25
  EXPECT_FALSE(AggregateMetric("acc", std::span(acc).first(1)).standard_error);
  EXPECT_EQ(AggregateMetric("acc", {}).count, 0);
  const std::vector<MetricValue> sums = {{"p", -10, 4}, {"p", -20, 6}};
  EXPECT_NEAR(AggregateMetric("perplexity", sums).value, std::exp(15.0), 1e-6);
  EXPECT_NEAR(AggregateMetric("word_perplexity", sums).value, std::exp(3.0), 1e-12);
  EXPECT_NEAR(AggregateMetric("bits_per_byte", sums).value, 3.0 / std::log(2.0), 1e-12);
  EXPECT_FALSE(AggregateMetric("word_perplexity", sums).higher_is_better);
}

TEST(CountCharactersTest, CountsCodePoints) { EXPECT_EQ(CountCharacters("na\u00efve \u4f60"), 7U); }

}  // namespace
}  // namespace gateskip
