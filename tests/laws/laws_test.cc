// SPDX-License-Identifier: Apache-2.0
// Laws L1, L2, L4, L5 and L6: what may not change a result. All comparisons are of bits: logits, importances and
// decisions, with the fast kernels (8-bit activations) that serve. Law L3 is reference_test.cc.
//
//   L1  gates off = the plain model
//   L2  budget 0 = the dense gated model
//   L4  a sequence alone = the same sequence among others, in any chunking, at any arrival, on any thread count
//   L5  later tokens never change earlier results
//   L6  one pass over a text = prefill and token-by-token decode
#include <algorithm>

#include "laws/variants.h"

namespace gateskip::testing {
namespace {

constexpr size_t kTokens = 37;

class LawsTest : public VariantTest {
 protected:
  ModelRunner Runner(const Adapter* adapter, int threads) const {
    return {file_, adapter, /*exact=*/false, threads, GetParam().kv_type};
  }
};

TEST_P(LawsTest, L1GatesOffIsThePlainModel) {
  const auto ids = TinyTokens(kTokens, 11);
  ModelRunner plain = Runner(nullptr, 2);
  ModelRunner gated = Runner(&adapter_, 2);
  const RunResult expected = plain.RunOne(ids, DensePlan());
  EXPECT_EQ(gated.RunOne(ids, DensePlan(), false), expected);
  EXPECT_EQ(gated.RunOne(ids, Gates(0.4), false), expected);
  EXPECT_EQ(CountEvents(expected, kRan), static_cast<uint64_t>(branches_) * kTokens);
}

TEST_P(LawsTest, L2BudgetZeroIsTheDenseGatedModel) {
  const auto ids = TinyTokens(kTokens, 12);
  ModelRunner gated = Runner(&adapter_, 2);
  const RunResult dense = gated.RunOne(ids, DensePlan());
  EXPECT_EQ(gated.RunOne(ids, Gates(0)), dense);
  EXPECT_EQ(CountEvents(dense, kRan), static_cast<uint64_t>(branches_) * kTokens);
  EXPECT_EQ(CountEvents(dense, kDecided), 0U);
  if (GetParam().adapter.product != GateProduct::kNone || GetParam().adapter.lora_rank > 0) return;
  // Gates that only decide leave the dense model bit for bit as it was.
  ModelRunner plain = Runner(nullptr, 2);
  EXPECT_EQ(dense.logits, plain.RunOne(ids, DensePlan()).logits);
}

TEST_P(LawsTest, L4NeitherCompanyNorChunksNorThreadsChangeASequence) {
  std::vector<RunRequest> requests = {
      {.ids = TinyTokens(kTokens, 21), .plan = Gates(0.3), .chunks = {7, 1, 1, 16, 3}, .start_step = 0},
      {.ids = TinyTokens(19, 22), .plan = Gates(0.4), .chunks = {19}, .start_step = 2},
      {.ids = TinyTokens(kTokens, 23), .plan = RandomMask(kTokens, 5), .chunks = {1}, .start_step = 1},
      {.ids = TinyTokens(11, 24), .plan = DensePlan(), .chunks = {2, 5, 1}, .start_step = 4},
      {.ids = TinyTokens(33, 25), .plan = Gates(0.15), .chunks = {33}, .start_step = 0}};
  std::vector<RunResult> alone;
  ModelRunner single = Runner(&adapter_, 1);
  for (const RunRequest& request : requests) alone.push_back(single.RunOne(request.ids, request.plan));
  EXPECT_LT(CountEvents(alone[0], kRan), static_cast<uint64_t>(branches_) * kTokens) << "nothing was skipped";
  for (int threads = 1; threads <= 4; ++threads) {
    ModelRunner runner = Runner(&adapter_, threads);
    EXPECT_EQ(runner.Run(requests), alone) << threads << " threads";
    // Another order in the batch, other arrivals.
    std::vector<RunRequest> reversed(requests.rbegin(), requests.rend());
    for (RunRequest& request : reversed) request.start_step = (request.start_step * 3 + 1) % 5;
    std::vector<RunResult> results = runner.Run(reversed);
    std::ranges::reverse(results);
    EXPECT_EQ(results, alone) << threads << " threads, reversed";
  }
  // Nor does the recording of importances, which evaluates gates that nothing else asks for.
  ModelRunner runner = Runner(&adapter_, 2);
  runner.set_record_importance(false);
  std::vector<RunResult> unrecorded = runner.Run(requests);
  for (size_t i = 0; i < alone.size(); ++i) unrecorded[i].importances = alone[i].importances;
  EXPECT_EQ(unrecorded, alone);
}

TEST_P(LawsTest, L5LaterTokensNeverChangeEarlierResults) {
  constexpr size_t kShared = 20;
  auto ids = TinyTokens(kTokens, 31);
  ModelRunner runner = Runner(&adapter_, 2);
  const RunResult first = runner.RunOne(ids, Gates(0.3));
  const auto other = TinyTokens(kTokens, 32);
  std::copy(other.begin() + kShared, other.end(), ids.begin() + kShared);
  const RunResult second = runner.RunOne(ids, Gates(0.3));
  for (size_t t = 0; t < kShared; ++t) {
    ASSERT_EQ(first.logits[t], second.logits[t]) << "position " << t;
    for (size_t b = 0; b < first.events.size(); ++b) {
      ASSERT_EQ(first.events[b][t], second.events[b][t]) << "branch " << b << " position " << t;
      ASSERT_EQ(first.importances[b][t], second.importances[b][t]) << "branch " << b << " position " << t;
    }
  }
  EXPECT_NE(first.logits[kTokens - 1], second.logits[kTokens - 1]);
}

TEST_P(LawsTest, L6OnePassIsPrefillAndDecode) {
  const auto ids = TinyTokens(kTokens, 41);
  ModelRunner runner = Runner(&adapter_, 2);
  const RunResult one_pass = runner.RunOne(ids, Gates(0.3));
  for (const std::vector<size_t>& chunks : {std::vector<size_t>{1}, {24, 1}, {5, 5, 5, 1}}) {
    EXPECT_EQ(runner.Run({{.ids = ids, .plan = Gates(0.3), .chunks = chunks}})[0], one_pass);
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, LawsTest, ::testing::ValuesIn(AllVariants()), VariantName);

}  // namespace
}  // namespace gateskip::testing
