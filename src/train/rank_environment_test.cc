// SPDX-License-Identifier: Apache-2.0
#include "train/rank_environment.h"

#include <gtest/gtest.h>

#include <map>

#include "io/testing/expect_error.h"

namespace gateskip::train {
namespace {

using gateskip::testing::ExpectError;
using Variables = std::map<std::string, std::string>;

RankEnvironment Read(const Variables& variables) {
  return RankEnvironment::Read([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

const Variables kTwoRanks = {
    {"RANK", "1"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "0"}, {"MASTER_ADDR", "host-a"}, {"MASTER_PORT", "29500"}};

Variables With(const std::string& name, const std::string& value) {
  Variables variables = kTwoRanks;
  variables[name] = value;
  return variables;
}

Variables Without(const std::string& name) {
  Variables variables = kTwoRanks;
  variables.erase(name);
  return variables;
}

TEST(RankEnvironment, OneProcessUnlessThereAreSeveral) {
  EXPECT_EQ(Read({}).size, 1);
  EXPECT_EQ(Read({{"RANK", "3"}}).size, 1);
  EXPECT_EQ(Read({{"WORLD_SIZE", "1"}, {"RANK", "0"}}).rank, 0);
}

TEST(RankEnvironment, WhatTorchrunSets) {
  const RankEnvironment environment = Read(kTwoRanks);
  EXPECT_EQ(environment.rank, 1);
  EXPECT_EQ(environment.size, 2);
  EXPECT_EQ(environment.local_rank, 0);
  EXPECT_EQ(environment.address, "host-a");
  EXPECT_EQ(environment.port, 29500);
  EXPECT_EQ(environment.token, "");
  EXPECT_EQ(environment.listener, -1);
  EXPECT_EQ(Read(Without("LOCAL_RANK")).local_rank, 1);
  // torchrun's own store sits on MASTER_PORT.
  EXPECT_EQ(Read(With("TORCHELASTIC_USE_AGENT_STORE", "True")).port, 29501);
  EXPECT_EQ(Read(With("TORCHELASTIC_USE_AGENT_STORE", "False")).port, 29500);
  // A listener is rank 0's alone.
  EXPECT_EQ(Read(With(kListenerVariable, "7")).listener, -1);
  Variables first = With(kListenerVariable, "7");
  first["RANK"] = "0";
  EXPECT_EQ(Read(first).listener, 7);
}

TEST(RankEnvironment, WhatIsWrongIsNamed) {
  const auto refuse = [](const Variables& variables, std::string_view words) {
    ExpectError([&] { Read(variables); }, ErrorCode::kInvalidArgument, words);
  };
  for (const char* bad : {"", "0", "-1", "two", "2x", " 2", "1025", "99999999999999999999"}) {
    refuse(With("WORLD_SIZE", bad), "WORLD_SIZE");
  }
  for (const char* bad : {"2", "-1", "x", "0x1"}) refuse(With("RANK", bad), "RANK");
  refuse(With("LOCAL_RANK", "2"), "LOCAL_RANK");
  for (const char* bad : {"0", "65536", "http"}) refuse(With("MASTER_PORT", bad), "MASTER_PORT");
  for (const char* name : {"RANK", "MASTER_ADDR", "MASTER_PORT"}) refuse(Without(name), name);
  refuse(With("MASTER_ADDR", ""), "MASTER_ADDR");
  Variables first = With(kListenerVariable, "stdin");
  first["RANK"] = "0";
  refuse(first, kListenerVariable);
}

}  // namespace
}  // namespace gateskip::train
