// SPDX-License-Identifier: Apache-2.0
// Sampling: validation, determinism, order of the chain, degenerate logits, and that draws follow the
// distribution (chi-square with fixed seeds).
#include "runtime/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <set>

namespace gateskip {
namespace {

using ::testing::ElementsAre;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

SamplingOptions Open(float temperature = 1.0F) {  // every filter off
  SamplingOptions options;
  options.temperature = temperature;
  options.top_k = 0;
  options.top_p = 1.0F;
  return options;
}

// Logits that look like a model's: a few likely tokens over a bulk of noise. Own generator: fixed everywhere.
std::vector<float> NoisyLogits(size_t count, uint64_t seed) {
  std::vector<float> logits(count);
  for (float& value : logits) {
    float sum = 0;
    for (int i = 0; i < 4; ++i) {
      seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
      sum += static_cast<float>(seed >> 40) * 0x1p-24F - 0.5F;
    }
    value = sum * 6.0F;
  }
  return logits;
}

std::vector<std::pair<int32_t, float>> DistributionOf(const SamplingOptions& options, std::vector<float> logits,
                                                      std::vector<int32_t> recent = {}) {
  Sampler sampler(options);
  std::vector<std::pair<int32_t, float>> result;
  for (const TokenProbability& t : sampler.Distribution(logits, recent)) result.emplace_back(t.id, t.probability);
  return result;
}

std::vector<int32_t> Draws(const SamplingOptions& options, const std::vector<float>& logits, int count) {
  Sampler sampler(options);
  std::vector<int32_t> draws;
  for (int i = 0; i < count; ++i) {
    std::vector<float> scratch = logits;
    draws.push_back(sampler.Sample(scratch, {}));
  }
  return draws;
}

ErrorCode CodeOf(const std::function<void()>& call, std::string* message = nullptr) {
  try {
    call();
  } catch (const Error& e) {
    if (message != nullptr) *message = e.what();
    return e.code();
  }
  ADD_FAILURE() << "no Error";
  return ErrorCode::kInternal;
}

TEST(SamplerTest, RefusesEveryFieldOutOfRangeByName) {
  struct Case {
    const char* field;
    std::function<void(SamplingOptions&)> spoil;
  };
  const std::vector<Case> cases = {
      {"temperature", [](SamplingOptions& o) { o.temperature = kNaN; }},
      {"temperature", [](SamplingOptions& o) { o.temperature = kInf; }},
      {"presence_penalty", [](SamplingOptions& o) { o.presence_penalty = 2.1F; }},
      {"presence_penalty", [](SamplingOptions& o) { o.presence_penalty = kNaN; }},
      {"frequency_penalty", [](SamplingOptions& o) { o.frequency_penalty = -2.1F; }},
      {"logit_bias",
       [](SamplingOptions& o) {
         o.logit_bias = {{0, 100.5F}};
       }},
      {"logit_bias",
       [](SamplingOptions& o) {
         o.logit_bias = {{0, kNaN}};
       }},
      {"logit_bias",
       [](SamplingOptions& o) {
         o.logit_bias.assign(1025, {0, 0.0F});
       }},
      {"temperature", [](SamplingOptions& o) { o.temperature = -0.1F; }},
      {"temperature", [](SamplingOptions& o) { o.temperature = 100.5F; }},
      {"top_k", [](SamplingOptions& o) { o.top_k = -1; }},
      {"top_p", [](SamplingOptions& o) { o.top_p = 0.0F; }},
      {"top_p", [](SamplingOptions& o) { o.top_p = 1.01F; }},
      {"top_p", [](SamplingOptions& o) { o.top_p = kNaN; }},
      {"min_p", [](SamplingOptions& o) { o.min_p = 1.0F; }},
      {"min_p", [](SamplingOptions& o) { o.min_p = -0.01F; }},
      {"min_p", [](SamplingOptions& o) { o.min_p = kNaN; }},
      {"repeat_penalty", [](SamplingOptions& o) { o.repeat_penalty = 0.0F; }},
      {"repeat_penalty", [](SamplingOptions& o) { o.repeat_penalty = kInf; }},
      {"repeat_penalty", [](SamplingOptions& o) { o.repeat_penalty = kNaN; }},
      {"repeat_window", [](SamplingOptions& o) { o.repeat_window = -1; }},
  };
  for (const Case& c : cases) {
    SamplingOptions options;
    c.spoil(options);
    std::string message;
    EXPECT_EQ(CodeOf([&] { Sampler sampler(options); }, &message), ErrorCode::kInvalidArgument) << c.field;
    EXPECT_THAT(message, testing::HasSubstr(std::string("[sampling] ") + c.field + ": expected "));
  }
}

TEST(SamplerTest, GreedyTakesTheLargestAndTheLowestIdAmongEquals) {
  EXPECT_EQ(Draws(Open(0), {1, 7, 3, 7}, 1).front(), 1);
  EXPECT_EQ(Draws(Open(0), {2, 2, 2}, 1).front(), 0);
  EXPECT_EQ(Draws(Open(0), {-kInf, -5, -kInf}, 1).front(), 1);
}

TEST(SamplerTest, ProbabilitiesMatchSoftmax) {
  const std::vector<float> logits = {0.5F, -1.0F, 2.0F, 0.0F};
  const auto found = DistributionOf(Open(0.7F), logits);
  ASSERT_EQ(found.size(), logits.size());
  double total = 0;
  for (const float l : logits) total += std::exp(static_cast<double>(l) / 0.7);
  // exp() here has a relative error below 1e-6, f32 rounding of the quotient adds 2^-23 each.
  for (const auto& [id, p] : found) {
    const double expected = std::exp(static_cast<double>(logits[static_cast<size_t>(id)]) / 0.7) / total;
    EXPECT_NEAR(p, expected, 3e-6 * expected);
  }
}

// OpenAI's formula: logit[id] + bias[id] - (c > 0) * presence - c * frequency, c = times drawn before by this sampler.
TEST(SamplerTest, BiasAndPenaltiesOfWhatWasDrawn) {
  SamplingOptions options;
  options.presence_penalty = 1.0F;
  options.frequency_penalty = 0.25F;
  options.logit_bias = {{2, 2.0F}, {3, -100.0F}, {-1, 5.0F}, {99, 5.0F}};  // ids beyond the vocabulary do nothing
  Sampler sampler(options);
  const std::vector<float> logits = {3.0F, 2.9F, 0.0F, 9.0F};
  // Biased: 3, 2.9, 2, -91. Each draw costs the first time 1.25, then 0.25.
  const std::vector<int32_t> prompt = {1, 1, 1};
  std::vector<int32_t> drawn;
  std::vector<float> shifted;
  for (int i = 0; i < 6; ++i) {
    shifted = logits;
    drawn.push_back(sampler.Sample(shifted, prompt));
  }
  EXPECT_THAT(drawn, ElementsAre(0, 1, 2, 0, 1, 0));
  // What the last draw saw: 0 was drawn twice, 1 twice, 2 once.
  EXPECT_THAT(shifted, ElementsAre(3.0F - 1.5F, 2.9F - 1.5F, 2.0F - 1.25F, 9.0F - 100.0F));
}

TEST(SamplerTest, NegativePenaltiesRepeat) {
  SamplingOptions options;
  options.frequency_penalty = -2.0F;
  options.logit_bias = {{1, 0.5F}};
  Sampler sampler(options);
  const std::vector<float> first = {0.0F, 0.0F};
  const std::vector<float> then = {1.5F, 0.0F};
  std::vector<float> scratch = first;
  EXPECT_EQ(sampler.Sample(scratch, {}), 1);
  scratch = then;
  EXPECT_EQ(sampler.Sample(scratch, {}), 1);
}

TEST(SamplerTest, DistributionSumsToOneForManyOptions) {
  for (const size_t vocab : {1UL, 2UL, 37UL, 5000UL}) {
    for (const int top_k : {0, 1, 40, 100000}) {
      for (const float top_p : {0.01F, 0.9F, 1.0F}) {
        for (const float min_p : {0.0F, 0.1F, 0.99F}) {
          for (const float temperature : {1e-30F, 0.1F, 1.0F, 100.0F}) {
            SamplingOptions options{temperature, top_k, top_p, min_p, 1.3F, 8, 0};
            const auto found = DistributionOf(options, NoisyLogits(vocab, vocab), {0, 1, 0});
            ASSERT_FALSE(found.empty());
            double sum = 0;
            std::set<int32_t> ids;
            for (const auto& [id, p] : found) {
              sum += p;
              ids.insert(id);
              ASSERT_TRUE(p >= 0 && id >= 0 && static_cast<size_t>(id) < vocab);
            }
            EXPECT_EQ(ids.size(), found.size());
            // Each probability is rounded to f32: an error of at most 2^-24 relative, so of the sum too.
            EXPECT_NEAR(sum, 1.0, 1e-7);
          }
        }
      }
    }
  }
}

TEST(SamplerTest, ChiSquareOfDrawsIsOrdinary) {
  const std::vector<float> logits = {0.0F, 1.0F, 2.0F, -1.0F, 0.5F};
  constexpr int kDraws = 20000;
  for (const uint64_t seed : {0ULL, 1ULL, 42ULL}) {
    SamplingOptions options = Open();
    options.seed = seed;
    std::vector<double> expected(logits.size());
    for (const auto& [id, p] : DistributionOf(options, logits)) expected[static_cast<size_t>(id)] = p * kDraws;
    std::vector<double> count(logits.size());
    for (const int32_t id : Draws(options, logits, kDraws)) ++count[static_cast<size_t>(id)];
    double chi_square = 0;
    for (size_t i = 0; i < count.size(); ++i) {
      chi_square += (count[i] - expected[i]) * (count[i] - expected[i]) / expected[i];
    }
    EXPECT_LT(chi_square, 18.47);  // 4 degrees of freedom, exceeded with probability 0.001
    EXPECT_GT(chi_square, 0.01);   // and not suspiciously exact
  }
}

TEST(SamplerTest, SameSeedSameDrawsOtherSeedOthers) {
  SamplingOptions options = Open();
  const std::vector<float> logits = NoisyLogits(1000, 3);
  options.seed = 7;
  const auto first = Draws(options, logits, 50);
  EXPECT_EQ(first, Draws(options, logits, 50));
  options.seed = 8;
  EXPECT_NE(first, Draws(options, logits, 50));
}

// Pins the generator and its seeding: a seed must go on meaning the same draws in later versions.
TEST(SamplerTest, SeedZeroDrawsArePinned) {
  SamplingOptions options = Open();
  EXPECT_EQ(Draws(options, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 12),
            (std::vector<int32_t>{6, 7, 1, 4, 7, 9, 4, 5, 8, 9, 1, 0}));
}

TEST(SamplerTest, TopKKeepsTheLargestLowestIdsFirst) {
  SamplingOptions options = Open();
  options.top_k = 3;
  const auto found = DistributionOf(options, {1, 5, 2, 5, 2, 2});
  std::vector<int32_t> ids;
  for (const auto& [id, p] : found) ids.push_back(id);
  EXPECT_EQ(ids, (std::vector<int32_t>{1, 3, 2}));
}

// The partial selection against a plain one: sort everything, then cut.
TEST(SamplerTest, TopPAndMinPMatchAFullSort) {
  for (const size_t vocab : {100UL, 3000UL}) {
    for (const float spread : {0.001F, 1.0F, 4.0F}) {
      std::vector<float> logits = NoisyLogits(vocab, vocab + 5);
      for (float& l : logits) l *= spread;
      std::vector<int32_t> order(vocab);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
      });
      double total = 0;
      for (const float l : logits) total += std::exp(static_cast<double>(l));
      const double max_p = std::exp(static_cast<double>(logits[static_cast<size_t>(order[0])])) / total;
      for (const float top_p : {0.05F, 0.5F, 0.95F, 1.0F}) {
        for (const float min_p : {0.0F, 0.02F, 0.5F}) {
          std::vector<int32_t> expected;
          double cumulative = 0;
          for (const int32_t id : order) {
            const double p = std::exp(static_cast<double>(logits[static_cast<size_t>(id)])) / total;
            if (p < min_p * max_p) break;
            expected.push_back(id);
            cumulative += p;
            if (top_p < 1.0F && cumulative >= top_p) break;
          }
          SamplingOptions options = Open();
          options.top_p = top_p;
          options.min_p = min_p;
          std::vector<int32_t> found;
          for (const auto& [id, p] : DistributionOf(options, logits)) found.push_back(id);
          std::sort(expected.begin(), expected.end());
          std::sort(found.begin(), found.end());
          // The two sums round differently, so the last token of the nucleus may differ by one place.
          EXPECT_LE(found.size(), expected.size() + 1);
          EXPECT_GE(found.size() + 1, expected.size());
          std::vector<int32_t> difference;
          std::set_symmetric_difference(found.begin(), found.end(), expected.begin(), expected.end(),
                                        std::back_inserter(difference));
          EXPECT_LE(difference.size(), 1U) << vocab << " " << spread << " " << top_p << " " << min_p;
        }
      }
    }
  }
}

// Temperature comes last: it changes probabilities, never which tokens survive.
TEST(SamplerTest, TemperatureDoesNotChangeTheNucleus) {
  SamplingOptions options = Open();
  options.top_p = 0.6F;
  const std::vector<float> logits = NoisyLogits(500, 9);
  const size_t at_one = DistributionOf(options, logits).size();
  options.temperature = 50;
  EXPECT_EQ(DistributionOf(options, logits).size(), at_one);
}

TEST(SamplerTest, RepeatPenaltyMovesBothSignsAndOnlyTheWindow) {
  SamplingOptions options = Open(0);
  options.repeat_penalty = 2.0F;
  options.repeat_window = 2;
  Sampler sampler(options);
  std::vector<float> logits = {4, -4, 4, 4};
  const std::vector<int32_t> recent = {3, 0, 1, -7, 99};  // the window holds -7 and 99: outside the vocabulary
  EXPECT_EQ(sampler.Sample(logits, recent), 0);
  EXPECT_THAT(logits, testing::ElementsAre(4, -4, 4, 4));
  const std::vector<int32_t> seen = {1, 0};
  EXPECT_EQ(sampler.Sample(logits, seen), 2);
  EXPECT_THAT(logits, testing::ElementsAre(2, -8, 4, 4));
  const std::vector<int32_t> twice = {3, 3};  // a token is penalised once, however often it was seen
  sampler.Sample(logits, twice);
  EXPECT_THAT(logits, testing::ElementsAre(2, -8, 4, 2));
}

TEST(SamplerTest, ExtremePenaltyStaysFinite) {
  SamplingOptions options = Open();
  options.repeat_penalty = 1e-38F;
  EXPECT_EQ(DistributionOf(options, {5, -5, 1}, {0}).size(), 3U);
}

TEST(SamplerTest, DegenerateLogits) {
  for (const int top_k : {0, 2}) {
    for (const float temperature : {0.0F, 1.0F}) {
      SamplingOptions options = Open(temperature);
      options.top_k = top_k;
      options.top_p = 0.9F;
      EXPECT_THAT(Draws(options, {-kInf, -kInf, 3, -kInf}, 20), testing::Each(2));
      EXPECT_THAT(Draws(options, {-1e30F}, 1), testing::Each(0));
      for (const float bad : {kNaN, kInf}) {
        for (const size_t place : {0UL, 1UL, 3UL}) {
          std::vector<float> logits = {1, 2, 3, 4};
          logits[place] = bad;
          EXPECT_EQ(CodeOf([&] { Draws(options, logits, 1); }), ErrorCode::kCorruptData);
        }
      }
      EXPECT_EQ(CodeOf([&] { Draws(options, {-kInf, -kInf}, 1); }), ErrorCode::kCorruptData);
      EXPECT_EQ(CodeOf([&] { Draws(options, {}, 1); }), ErrorCode::kCorruptData);
    }
  }
  const auto equal = DistributionOf(Open(), std::vector<float>(64, 2.5F));
  ASSERT_EQ(equal.size(), 64U);
  for (const auto& [id, p] : equal) EXPECT_FLOAT_EQ(p, 1.0F / 64.0F);
}

TEST(SamplerTest, TokensOfZeroProbabilityAreNeverDrawn) {
  SamplingOptions options = Open(0.01F);
  EXPECT_THAT(Draws(options, {0, 10, 0}, 200), testing::Each(1));
}

}  // namespace
}  // namespace gateskip
