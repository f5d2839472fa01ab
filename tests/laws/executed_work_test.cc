// SPDX-License-Identifier: Apache-2.0
// "Really skipped", counted: the weight bytes the kernels read are exactly those of the branches that ran, of K and V
// for rows that only keep up the cache, of skip paths and of the head; and the reported saving is what these counts
// say.
#include <algorithm>

#include "gate/branch.h"
#include "laws/variants.h"
#include "model/measured_cost.h"

namespace gateskip::testing {
namespace {

class ExecutedWorkTest : public ::testing::TestWithParam<KvRule> {
 protected:
  void SetUp() override {
    bytes_ = TinyGguf({.arch = TinyArch::kLlama});
    file_ = OpenTiny(bytes_);
    adapter_ = TinyAdapter(*file_, {.kind = GateKind::kScalar, .kv_rule = GetParam()});
    runner_ = std::make_unique<ModelRunner>(file_, &adapter_, false, 2);
  }

  // Bytes a step of rows [first, last) must read: every matrix once per product, however many rows it has.
  uint64_t ExpectedBytes(const RunResult& run, size_t first, size_t last) const {
    const ModelWeights& weights = runner_->model().weights;
    uint64_t bytes = weights.head.bytes;
    for (size_t b = 0; b < run.events.size(); ++b) {
      uint8_t seen = 0;
      for (size_t t = first; t < last; ++t) seen |= run.events[b][t];
      const LayerWeights& layer = weights.layers[b / 2];
      if (KindOfBranch(static_cast<int>(b)) == BranchKind::kMlp) {
        if (seen & kRan) bytes += layer.gate.bytes + layer.up.bytes + layer.down.bytes;
      } else {
        if (seen & kRan) bytes += layer.q.bytes + layer.k.bytes + layer.v.bytes + layer.o.bytes;
        if (seen & kKvOnly) bytes += layer.k.bytes + layer.v.bytes;
      }
    }
    return bytes;
  }

  std::vector<std::byte> bytes_;
  std::shared_ptr<const GgufFile> file_;
  Adapter adapter_;
  std::unique_ptr<ModelRunner> runner_;
};

TEST_P(ExecutedWorkTest, DecodeReadsOnlyTheBranchesThatRun) {
  const auto ids = TinyTokens(24, 3);
  uint64_t dense_bytes = 0;
  for (const SkipPlanPtr& plan : {DensePlan(), GatesPlan(adapter_.config, 0.2), GatesPlan(adapter_.config, 0.4)}) {
    const uint64_t before = kernels::WeightBytesRead();
    const RunResult run = runner_->Run({{.ids = ids, .plan = plan, .chunks = {1}}})[0];
    const uint64_t read = kernels::WeightBytesRead() - before;
    uint64_t expected = 0;
    for (size_t t = 0; t < ids.size(); ++t) expected += ExpectedBytes(run, t, t + 1);
    EXPECT_EQ(read, expected);
    if (plan->kind == SkipPlan::Kind::kDense) {
      dense_bytes = read;
      EXPECT_EQ(CountEvents(run, kRan), run.events.size() * ids.size());
    } else {
      EXPECT_LT(read, dense_bytes);
      EXPECT_LT(CountEvents(run, kRan), run.events.size() * ids.size());
    }
    // Under `copy` the first layer has none to copy from, and projects; under `drop` nobody does.
    const bool gates = plan->kind == SkipPlan::Kind::kGates;
    const bool first_layer = std::ranges::any_of(run.events[0], [](uint8_t event) { return (event & kKvOnly) != 0; });
    const bool second_layer = std::ranges::any_of(run.events[2], [](uint8_t event) { return (event & kKvOnly) != 0; });
    EXPECT_EQ(first_layer, gates && GetParam() != KvRule::kDrop);
    EXPECT_EQ(second_layer, gates && GetParam() == KvRule::kCompute);
  }
}

TEST_P(ExecutedWorkTest, PrefillReadsEachMatrixOnceAndNoneThatNobodyRuns) {
  const auto ids = TinyTokens(24, 4);
  auto plan = std::make_shared<SkipPlan>();
  plan->kind = SkipPlan::Kind::kMask;
  plan->mask.assign(8, std::vector<uint8_t>(ids.size(), 0));
  plan->mask[0].assign(ids.size(), 1);
  for (size_t t = 0; t < ids.size(); t += 5) plan->mask[3][t] = 1;
  const uint64_t before = kernels::WeightBytesRead();
  const RunResult run = runner_->RunOne(ids, plan);
  EXPECT_EQ(kernels::WeightBytesRead() - before, ExpectedBytes(run, 0, ids.size()));
  EXPECT_EQ(CountEvents(run, kRan), ids.size() + 5);
}

TEST_P(ExecutedWorkTest, NetSavingIsTheExecutedShareOfTheWeights) {
  const auto ids = TinyTokens(24, 5);
  const RunResult run = runner_->RunOne(ids, GatesPlan(adapter_.config, 0.4));
  SkipCounts counts(static_cast<int>(run.events.size()));
  for (size_t b = 0; b < run.events.size(); ++b) {
    for (const uint8_t event : run.events[b]) {
      ++((event & kRan) ? counts.run : counts.skipped)[b];
      counts.kv_only[b] += (event & kKvOnly) != 0;
      counts.decided[b] += (event & kDecided) != 0;
    }
  }
  // By hand, from the shapes: d 64, 4 heads of 16, 2 of K and V, ffn 128; a decision costs d.
  constexpr double kAttention = 64 * 64 * 2 + 64 * 32 * 2;
  constexpr double kKv = 64 * 32 * 2;
  constexpr double kMlp = 64 * 128 * 3;
  double executed = 0;
  double dense = 0;
  for (size_t b = 0; b < run.events.size(); ++b) {
    const double branch = b % 2 == 0 ? kAttention : kMlp;
    executed += static_cast<double>(counts.run[b]) * branch + static_cast<double>(counts.kv_only[b]) * kKv +
                static_cast<double>(counts.decided[b]) * 64;
    dense += static_cast<double>(ids.size()) * branch;
  }
  const CostModel cost(DimsOf(ReadConfig(*file_)), adapter_.config);
  EXPECT_NEAR(cost.NetSaving(counts), 1.0 - executed / dense, 1e-12);
}

// The saving that is reported is what the kernels' own count says, deltas, skip paths, decisions and products included.
TEST_P(ExecutedWorkTest, MeasuredNetSavingIsTheBytesNotRead) {
  constexpr auto kLayer = GateScope::kLayer;
  const TinyAdapterOptions variants[] = {
      {.kind = GateKind::kScalar},
      {.kind = GateKind::kScalar, .product = GateProduct::kInput},
      {.kind = GateKind::kLowRank},
      {.kind = GateKind::kLowRank, .product = GateProduct::kOutput},
      {.kind = GateKind::kVector, .product = GateProduct::kOutput},
      {.kind = GateKind::kVector, .product = GateProduct::kInput, .shared = true},
      {.kind = GateKind::kMlp, .product = GateProduct::kInput},
      {.kind = GateKind::kMlp, .shared = true, .scope = kLayer},
      {.kind = GateKind::kMlp, .product = GateProduct::kOutput, .scope = kLayer},
      {.kind = GateKind::kVector, .product = GateProduct::kInput, .scope = kLayer},
  };
  for (TinyAdapterOptions options : variants) {
    SCOPED_TRACE(::testing::Message() << NameIn(kGateKinds, options.kind) << " "
                                      << NameIn(kGateProducts, options.product) << " "
                                      << NameIn(kGateScopes, options.scope));
    options.kv_rule = GetParam();
    options.skip_rank = 4;
    options.lora_rank = 4;
    const Adapter adapter = TinyAdapter(*file_, options);
    ModelRunner runner(file_, &adapter, false, 1);
    runner.set_record_importance(false);  // it would evaluate every gate
    const auto ids = TinyTokens(24, 6);
    const uint64_t before = kernels::WeightBytesRead();
    const RunResult run = runner.Run({{.ids = ids, .plan = GatesPlan(adapter.config, 0.4), .chunks = {1}}})[0];
    auto read = static_cast<double>(kernels::WeightBytesRead() - before);
    read -= static_cast<double>(ids.size() * runner.model().weights.head.bytes);
    SkipCounts counts(static_cast<int>(run.events.size()));
    for (size_t b = 0; b < run.events.size(); ++b) {
      // Vectors of f32 are not matrices and not in the kernels' count: dot products that decide, biases.
      const BranchGate& gate = runner.model().adapter->gates[b];
      const auto bytes = [](std::span<const float> values) { return static_cast<double>(values.size_bytes()); };
      for (const uint8_t event : run.events[b]) {
        const bool ran = (event & kRan) != 0;
        const bool evaluated = (event & (kDecided | kGateValue)) != 0;
        ++(ran ? counts.run : counts.skipped)[b];
        counts.kv_only[b] += (event & kKvOnly) != 0;
        counts.decided[b] += evaluated;
        if (!ran) read += bytes(gate.skip_bias);
        if (evaluated && gate.weights) read += bytes(gate.decision_weight());
        const bool wants_vector = options.kind == GateKind::kVector && ran;
        if (GateHasRank(options.kind) ? evaluated : wants_vector) read += bytes(gate.bias);
      }
    }
    EXPECT_GT(CountEvents(run, kRan), 0U);
    EXPECT_LT(CountEvents(run, kRan), run.events.size() * ids.size());
    EXPECT_EQ(CountEvents(run, kGateValue) > 0,
              options.product != GateProduct::kNone && options.kind != GateKind::kVector);
    const double dense = static_cast<double>(ids.size() * runner.model().weights.branch_bytes());
    const CostModel cost = MeasureCost(runner.model().weights, &*runner.model().adapter);
    EXPECT_NEAR(cost.NetSaving(counts), 1.0 - read / dense, 1e-12);
  }
}

// Shared matrices are in memory once.
TEST_P(ExecutedWorkTest, SharedMatricesAreHeldOnce) {
  for (const GateKind kind : {GateKind::kScalar, GateKind::kLowRank, GateKind::kVector, GateKind::kMlp}) {
    const Adapter adapter = TinyAdapter(*file_, {.kind = kind, .kv_rule = GetParam(), .shared = true});
    const ModelRunner runner(file_, &adapter, false, 1);
    const std::vector<BranchGate>& gates = runner.model().adapter->gates;
    for (size_t b = 0; b < gates.size(); ++b) EXPECT_EQ(gates[b].weights.get(), gates[b % 2].weights.get());
    EXPECT_NE(gates[0].weights.get(), gates[1].weights.get());
  }
}

std::string RuleName(const ::testing::TestParamInfo<KvRule>& info) {
  return info.param == KvRule::kCompute ? "Compute" : info.param == KvRule::kCopy ? "Copy" : "Drop";
}
INSTANTIATE_TEST_SUITE_P(KvRules, ExecutedWorkTest, ::testing::Values(KvRule::kCompute, KvRule::kCopy, KvRule::kDrop),
                         RuleName);

}  // namespace
}  // namespace gateskip::testing
