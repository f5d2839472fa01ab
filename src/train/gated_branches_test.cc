// SPDX-License-Identifier: Apache-2.0
// Which branches get gates, by the training options.
#include <gtest/gtest.h>

#include "io/testing/expect_error.h"
#include "train/train.h"

namespace gateskip {
namespace {

using testing::ExpectError;
using Gated = std::vector<bool>;

TrainOptions Valid() {
  TrainOptions options;
  options.model_path = "model.gguf";
  options.run_directory = "run";
  options.sources = {{"text.txt"}};
  return options;
}

Gated Branches(const std::string& branches, const std::string& layers, const std::string& always) {
  TrainOptions options = Valid();
  options.gated_branches = branches;
  options.gated_layers = layers;
  options.always_run_layers = always;
  EXPECT_NO_THROW(ValidateTrainOptions(options));
  return GatedBranches(options, 3);
}

TEST(GatedBranches, FollowTheOptions) {
  EXPECT_EQ(Branches("all", ":", ""), (Gated{1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(Branches("attn", ":", ""), (Gated{1, 0, 1, 0, 1, 0}));
  EXPECT_EQ(Branches("mlp", ":", ""), (Gated{0, 1, 0, 1, 0, 1}));
  EXPECT_EQ(Branches("all", "::2", ""), (Gated{1, 1, 0, 0, 1, 1}));
  EXPECT_EQ(Branches("all", ":", "0,-1"), (Gated{0, 0, 1, 1, 0, 0}));
  EXPECT_EQ(Branches("mlp", "1:", "2"), (Gated{0, 0, 0, 1, 0, 0}));
}

TEST(GatedBranches, RefusesWhatCannotBe) {
  const auto refuse = [](const std::string& branches, const std::string& layers, const std::string& always,
                         GateScope scope, const char* words) {
    TrainOptions options = Valid();
    options.gated_branches = branches;
    options.gated_layers = layers;
    options.always_run_layers = always;
    options.gate_scope = scope;
    ExpectError(
        [&] {
          ValidateTrainOptions(options);
          GatedBranches(options, 3);
        },
        ErrorCode::kInvalidArgument, words);
  };
  constexpr auto kBranch = GateScope::kBranch;
  refuse("both", ":", "", kBranch, "[train] gated_branches: expected all, attn or mlp, found both");
  refuse("", ":", "", kBranch, "expected all, attn or mlp");
  refuse("attn", ":", "", GateScope::kLayer, "expected all where a gate decides for the layer, found attn");
  refuse("all", "x", "", kBranch, "[gated_layers] layers: expected an index or a slice, found 'x'");
  refuse("all", ":", "0:x", kBranch, "[always_run_layers] layers: expected an index");
  refuse("all", "3", "", kBranch, "[gated_layers] layers: expected a layer from 0 to 2");
  refuse("all", ":", "-4", kBranch, "[always_run_layers] layers: expected a layer from 0 to 2");
  refuse("all", "", "", kBranch, "found none without any");
  refuse("all", "1", "0:2", kBranch, "found 1 without 0:2");
  refuse("all", "2:1", ":", kBranch, "found 2:1 without :");
}

}  // namespace
}  // namespace gateskip
