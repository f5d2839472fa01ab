// SPDX-License-Identifier: Apache-2.0
// The real models against independent f32 outputs (tests/data/README.md says where they come from).
//
// Tolerances. f32 path: both sides round every product and sum to 2^-24; over L layers of depth-K reductions the
// errors add like sqrt(L K) 2^-24 relative to the residual's size, here about sqrt(30 * 1536) * 6e-8 = 1.3e-5 of
// logits of size ~30, times the gain of the norms (about 10): 4e-3. The per-token NLL must be within 1e-3.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>

#include "io/json.h"
#include "support/model_runner.h"

namespace gateskip::testing {
namespace {

constexpr float kLogitTolerance = 4e-3F;
constexpr double kNllTolerance = 1e-3;

struct OracleModel {
  const char* file;
  const char* oracle;
  double fast_kl;  // bound on the mean KL of the fast kernels: what the peer's own 8-bit activations give, rounded up
};

double LogSumExp(const std::vector<float>& logits) {
  const float largest = *std::ranges::max_element(logits);
  double sum = 0;
  for (float v : logits) sum += std::exp(static_cast<double>(v) - largest);
  return largest + std::log(sum);
}

class OracleTest : public ::testing::TestWithParam<OracleModel> {
 protected:
  void SetUp() override {
    const char* directory = std::getenv("GATESKIP_MODELS");
    if (directory == nullptr) GTEST_SKIP() << "set GATESKIP_MODELS to a directory with the real models";
    const std::string path = std::string(directory) + "/" + GetParam().file;
    if (!std::ifstream(path)) GTEST_SKIP() << path << " is not there";
    file_ = GgufFile::Open(path);
    std::ifstream stream(std::string(GATESKIP_TEST_DATA) + "/" + GetParam().oracle);
    std::stringstream text;
    text << stream.rdbuf();
    oracle_ = ParseJson(text.str(), GetParam().oracle);
  }

  std::shared_ptr<const GgufFile> file_;
  nlohmann::json oracle_;
};

TEST_P(OracleTest, F32LogitsNllAndGreedyTextAreThoseOfTransformers) {
  ModelRunner runner(file_, nullptr, true, 2);
  float worst_logit = 0;
  double worst_nll = 0;
  for (const nlohmann::json& c : oracle_["cases"]) {
    const auto ids = c["ids"].get<std::vector<int32_t>>();
    const auto greedy = c["greedy_32"].get<std::vector<int32_t>>();
    // Prompt and continuation in one teacher-forced pass: every greedy token is the argmax at its place.
    std::vector<int32_t> all = ids;
    all.insert(all.end(), greedy.begin(), greedy.end());
    const RunResult run = runner.RunOne(all, DensePlan());
    for (size_t t = 0; t < ids.size(); ++t) {
      for (size_t k = 0; k < 4; ++k) {
        const float expected = c["top_logits"][t][k].get<float>();
        const float found = run.logits[t][c["top_ids"][t][k].get<size_t>()];
        worst_logit = std::max(worst_logit, std::fabs(found - expected));
        EXPECT_NEAR(found, expected, kLogitTolerance) << "case " << c["case"] << " token " << t;
      }
      if (t + 1 < ids.size()) {
        const double nll = LogSumExp(run.logits[t]) - run.logits[t][static_cast<size_t>(ids[t + 1])];
        worst_nll = std::max(worst_nll, std::fabs(nll - c["nll"][t].get<double>()));
        EXPECT_NEAR(nll, c["nll"][t].get<double>(), kNllTolerance) << "case " << c["case"] << " token " << t;
      }
    }
    for (size_t i = 0; i < greedy.size(); ++i) {
      const std::vector<float>& logits = run.logits[ids.size() - 1 + i];
      const float largest = *std::ranges::max_element(logits);
      // A near-tie may fall either way: within the rounding of both sides.
      EXPECT_GE(logits[static_cast<size_t>(greedy[i])], largest - 2 * kLogitTolerance)
          << "case " << c["case"] << " greedy token " << i;
    }
  }
  std::cout << GetParam().file << ": worst logit difference " << worst_logit << ", worst NLL difference " << worst_nll
            << "\n";
}

// Over the tokens of all cases: the mean KL divergence from p to q in nats, and both mean NLLs.
struct Divergence {
  double kl = 0, nll_p = 0, nll_q = 0;
  size_t tokens = 0;
};

Divergence Compare(const nlohmann::json& cases, ModelRunner& p_runner, ModelRunner& q_runner) {
  Divergence sum;
  for (const nlohmann::json& c : cases) {
    const auto ids = c["ids"].get<std::vector<int32_t>>();
    const RunResult p = p_runner.RunOne(ids, DensePlan());
    const RunResult q = q_runner.RunOne(ids, DensePlan());
    for (size_t t = 0; t + 1 < ids.size(); ++t, ++sum.tokens) {
      const double lp = LogSumExp(p.logits[t]);
      const double lq = LogSumExp(q.logits[t]);
      for (size_t v = 0; v < p.logits[t].size(); ++v) {
        const double log_p = p.logits[t][v] - lp;
        sum.kl += std::exp(log_p) * (log_p - (q.logits[t][v] - lq));
      }
      sum.nll_p += lp - p.logits[t][static_cast<size_t>(ids[t + 1])];
      sum.nll_q += lq - q.logits[t][static_cast<size_t>(ids[t + 1])];
    }
  }
  const auto n = static_cast<double>(sum.tokens);
  return {sum.kl / n, sum.nll_p / n, sum.nll_q / n, sum.tokens};
}

std::ostream& operator<<(std::ostream& out, const Divergence& d) {
  return out << d.kl << ", perplexity " << std::exp(d.nll_p) << " -> " << std::exp(d.nll_q) << " over " << d.tokens
             << " tokens";
}

TEST_P(OracleTest, FastKernelsStayCloseToF32) {
  ModelRunner exact(file_, nullptr, true, 2);
  ModelRunner fast(file_, nullptr, false, 2);
  const Divergence found = Compare(oracle_["cases"], exact, fast);
  std::cout << GetParam().file << ": mean KL(f32 || fast) " << found << "\n";
  EXPECT_LT(found.kl, GetParam().fast_kl);
}

// 8-bit keys and values may cost as much as 8-bit activations.
TEST_P(OracleTest, TheEightBitCacheStaysCloseToTheHalfPrecisionOne) {
  ModelRunner half(file_, nullptr, false, 2);
  ModelRunner eight(file_, nullptr, false, 2, kernels::KvType::kQ8);
  const Divergence found = Compare(oracle_["cases"], half, eight);
  std::cout << GetParam().file << ": mean KL(f16 cache || q8_0 cache) " << found << "\n";
  EXPECT_GT(found.kl, 0) << "the cache is not the one asked for";
  EXPECT_LT(found.kl, GetParam().fast_kl);
}

INSTANTIATE_TEST_SUITE_P(Models, OracleTest,
                         ::testing::Values(OracleModel{"SmolLM2-135M-Instruct.Q4_1.gguf", "oracle_smollm2.json", 0.02},
                                           OracleModel{"gemma-3-270m-q4_k_m.gguf", "oracle_gemma3.json", 0.02}));

}  // namespace
}  // namespace gateskip::testing
