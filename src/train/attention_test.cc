// SPDX-License-Identifier: Apache-2.0
// Causal attention of the trainer: grouped heads, windows and rows that are not attended to, against a plain double
// precision form and finite differences.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "train/ops.h"
#include "train/testing/gradient_check.h"

namespace gateskip::train {
namespace {

using testing::CheckGradients;
using testing::ExpectNear;
using testing::Normal;
using Inputs = std::vector<Tensor>;

constexpr int64_t kBatch = 2, kLength = 5, kHeads = 4, kKvHeads = 2, kHeadDim = 3;
constexpr double kScale = 0.6;

AttentionShape Shape(int64_t window) { return {kBatch, kLength, kHeads, kKvHeads, kHeadDim, kScale, window}; }

// seen [batch, length, length]: 1 where row t attends to j.
Tensor Masked(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& seen) {
  const auto heads = [](const Tensor& x) {  // [batch, heads, length, head_dim], K and V once per query head
    const int64_t count = x.size(0) / kBatch;
    return x.view({kBatch, count, kLength, kHeadDim}).repeat_interleave(kHeads / count, 1);
  };
  const Tensor mask = seen.log().unsqueeze(1);
  const Tensor p = at::softmax(at::matmul(heads(q), heads(k).transpose(2, 3)) * kScale + mask, 3);
  return at::matmul(p, heads(v)).transpose(1, 2).reshape({kBatch * kLength, kHeads * kHeadDim});
}

Tensor Plain(const Tensor& q, const Tensor& k, const Tensor& v, int64_t window, const Tensor& visible) {
  Tensor seen = at::zeros({kBatch, kLength, kLength}, at::kDouble);
  for (int64_t s = 0; s < kBatch; ++s) {
    for (int64_t t = 0; t < kLength; ++t) {
      for (int64_t j = 0; j <= t; ++j) {
        if (window > 0 && t - j >= window) continue;
        const bool shown = !visible.defined() || visible.data_ptr<uint8_t>()[s * kLength + j] != 0;
        if (shown || j == t) seen[s][t][j] = 1;
      }
    }
  }
  return Masked(q, k, v, seen);
}

Inputs QueriesKeysValues() {
  return {Normal({kBatch * kHeads, kLength, kHeadDim}, 1), Normal({kBatch * kKvHeads, kLength, kHeadDim}, 2),
          Normal({kBatch * kKvHeads, kLength, kHeadDim}, 3)};
}

class CausalAttentionTest : public ::testing::TestWithParam<int64_t> {
 protected:
  void Check(const Tensor& visible) const {
    const int64_t window = GetParam();
    CheckGradients(
        [&](const Inputs& in) {
          return CausalAttention(in[0], in[1], in[2], Shape(window), {visible, {}});
        },
        [&](const Inputs& in) { return Plain(in[0], in[1], in[2], window, visible); }, QueriesKeysValues());
  }
};

TEST_P(CausalAttentionTest, AllVisible) { Check(Tensor()); }

TEST_P(CausalAttentionTest, SomeRowsAreSeenByThemselvesOnly) {
  Check(at::tensor({1, 0, 1, 0, 0, /* the second sequence */ 0, 1, 1, 0, 1}, at::kByte));
}

TEST_P(CausalAttentionTest, NoneVisibleIsAttentionToOneself) {
  const Tensor none = at::zeros({kBatch * kLength}, at::kByte);
  Check(none);
  const Inputs in = QueriesKeysValues();
  const Tensor own = in[2].view({kBatch, kKvHeads, kLength, kHeadDim}).repeat_interleave(kHeads / kKvHeads, 1);
  const Tensor out = CausalAttention(in[0], in[1], in[2], Shape(GetParam()), {none, {}});
  EXPECT_TRUE(at::equal(out, own.transpose(1, 2).reshape_as(out)));
}

INSTANTIATE_TEST_SUITE_P(Windows, CausalAttentionTest, ::testing::Values(0, 1, 2, 4, 5, 9));

// Documents packed into one sequence: as if each were alone.
TEST(CausalAttention, NeverCrossesADocument) {
  const Inputs in = QueriesKeysValues();
  const Tensor starts = at::tensor({0, 0, 2, 2, 2, /* the second sequence */ 0, 1, 1, 1, 4}, at::kInt);
  for (const int64_t window : {0, 2}) {
    CheckGradients(
        [&](const Inputs& x) {
          return CausalAttention(x[0], x[1], x[2], Shape(window), {{}, starts});
        },
        [&](const Inputs& x) {
          Tensor visible_to = at::zeros({kBatch, kLength, kLength}, at::kDouble);
          for (int64_t s = 0; s < kBatch; ++s) {
            for (int64_t t = 0; t < kLength; ++t) {
              for (int64_t j = starts.data_ptr<int32_t>()[s * kLength + t]; j <= t; ++j) {
                if (window == 0 || t - j < window) visible_to[s][t][j] = 1;
              }
            }
          }
          return Masked(x[0], x[1], x[2], visible_to);
        },
        in);
  }
}

TEST(CausalAttention, LaterTokensChangeNothing) {
  const Inputs in = QueriesKeysValues();
  Inputs changed;
  for (const Tensor& x : in) {
    changed.push_back(x.clone());
    changed.back().slice(1, kLength - 1).fill_(3.0F);
  }
  const auto before = [](const Inputs& x) {
    return CausalAttention(x[0], x[1], x[2], Shape(0), {})
        .view({kBatch, kLength, kHeads * kHeadDim})
        .slice(1, 0, kLength - 1);
  };
  EXPECT_TRUE(at::equal(before(in), before(changed)));
}

// Large scores: the softmax is taken relative to the largest of those that count.
TEST(CausalAttention, LargeScoresDoNotOverflow) {
  const Inputs in = QueriesKeysValues();
  const Tensor visible = at::tensor({1, 0, 1, 0, 1, 0, 0, 1, 1, 1}, at::kByte);
  const Tensor q = in[0] * 1e4F;
  const Tensor out = CausalAttention(q, in[1], in[2], Shape(0), {visible, {}});
  const Tensor expected = Plain(q.to(at::kDouble), in[1].to(at::kDouble), in[2].to(at::kDouble), 0, visible);
  // Scores of some 1e4 carry an absolute error of 1e4 * 2^-24 * 4, and so a probability a relative one of that size.
  ExpectNear(out, expected, 4e4 * 0x1p-24, "large scores");
}

// In bf16 the scores, the probabilities and the context are rounded, 2^-9 each; scores here are below 6.
TEST(CausalAttention, WorksInTheComputeType) {
  Inputs leaves;
  Inputs wide;
  for (const Tensor& x : QueriesKeysValues()) {
    leaves.push_back(x.to(at::kBFloat16).set_requires_grad(true));
    wide.push_back(leaves.back().detach().to(at::kDouble).set_requires_grad(true));
  }
  const Tensor visible = at::tensor({1, 0, 1, 0, 1, 0, 0, 1, 1, 1}, at::kByte);
  const Tensor out = CausalAttention(leaves[0], leaves[1], leaves[2], Shape(3), {visible, {}});
  const Tensor expected = Plain(wide[0], wide[1], wide[2], 3, visible);
  EXPECT_EQ(out.scalar_type(), at::kBFloat16);
  constexpr double kTolerance = (6 + 2) * 0x1p-9;
  ExpectNear(out, expected, kTolerance, "forward");
  const Tensor weights = Normal(out.sizes(), 4).to(at::kBFloat16);
  out.backward(weights);
  expected.backward(weights.to(at::kDouble));
  for (size_t i = 0; i < leaves.size(); ++i) ExpectNear(leaves[i].grad(), wide[i].grad(), 2 * kTolerance, "gradient");
}

}  // namespace
}  // namespace gateskip::train
