// SPDX-License-Identifier: Apache-2.0
#include "gate/layer_list.h"

#include <gtest/gtest.h>

#include "io/testing/expect_error.h"

namespace gateskip {
namespace {

std::vector<int> Picked(const std::string& text, int num_layers) {
  std::vector<int> layers;
  const std::vector<bool> picked = ParseLayers(text, num_layers, "--layers");
  EXPECT_EQ(picked.size(), static_cast<size_t>(num_layers));
  for (size_t l = 0; l < picked.size(); ++l) {
    if (picked[l]) layers.push_back(static_cast<int>(l));
  }
  return layers;
}

using Layers = std::vector<int>;

TEST(ParseLayers, ReadsIndicesAndSlicesAsPythonDoes) {
  EXPECT_EQ(Picked("", 4), Layers());
  EXPECT_EQ(Picked(":", 4), (Layers{0, 1, 2, 3}));
  EXPECT_EQ(Picked("::2", 5), (Layers{0, 2, 4}));
  EXPECT_EQ(Picked("1::2", 5), (Layers{1, 3}));
  EXPECT_EQ(Picked("0,3,5:9", 12), (Layers{0, 3, 5, 6, 7, 8}));
  EXPECT_EQ(Picked("3,0,3", 4), (Layers{0, 3}));
  EXPECT_EQ(Picked("-1,-4", 4), (Layers{0, 3}));
  EXPECT_EQ(Picked("-2:", 4), (Layers{2, 3}));
  EXPECT_EQ(Picked(":-3", 4), (Layers{0}));
  EXPECT_EQ(Picked("1:3:", 4), (Layers{1, 2}));
  EXPECT_EQ(Picked("::", 2), (Layers{0, 1}));
  EXPECT_EQ(Picked("2:1", 4), Layers());
  EXPECT_EQ(Picked("-9:99", 3), (Layers{0, 1, 2})) << "slices are cut to what is there";
  EXPECT_EQ(Picked("1::2147483647", 3), (Layers{1}));
  EXPECT_EQ(Picked("-2147483648:2147483647:2147483647", 3), (Layers{0}));
}

TEST(ParseLayers, RefusesEverythingElse) {
  for (const char* bad : {"x",
                          ",",
                          "1,",
                          ",1",
                          "1,,2",
                          " 1",
                          "1 ",
                          "+1",
                          "1.0",
                          "0x1",
                          "1-2",
                          "1:2:3:4",
                          "::x",
                          "a:b",
                          "--1",
                          "1e1",
                          "99999999999999999999",
                          ":99999999999999999999",
                          "\x80",
                          "1\n"}) {
    testing::ExpectError([&] { ParseLayers(bad, 8, "--layers"); }, ErrorCode::kInvalidArgument, "[--layers] layers: ");
  }
  for (const char* bad : {"::0", "::-1", "3:1:-2147483648"}) {
    testing::ExpectError([&] { ParseLayers(bad, 8, "x"); }, ErrorCode::kInvalidArgument, "a step of at least 1");
  }
  for (const char* bad : {"8", "-9", "0,8", "2147483647", "-2147483648"}) {
    testing::ExpectError([&] { ParseLayers(bad, 8, "x"); }, ErrorCode::kInvalidArgument, "a layer from 0 to 7");
  }
  const std::string nul("1\0", 2);
  testing::ExpectError([&] { ParseLayers(nul, 8, "x"); }, ErrorCode::kInvalidArgument,
                       "an index or a slice, found '1?'");
  const std::string huge(1 << 20, '7');
  testing::ExpectError([&] { ParseLayers(huge, 8, "x"); }, ErrorCode::kInvalidArgument, "777' and more;");
}

}  // namespace
}  // namespace gateskip
