// SPDX-License-Identifier: Apache-2.0
#include "terminal.h"

#include <gtest/gtest.h>

namespace gateskip::cli {
namespace {

const std::vector<std::string> kParts = {"loss 0.6931", "net 26.8 of 26.3 %", "607 tok/s", "grad 0.643", "lr 0.05"};

TEST(ProgressLineTest, WideTerminalsShowAllOfIt) {
  EXPECT_EQ(ProgressLine("training", 0.5, "12m03s", kParts, 140),
            "training [###############...............]  50 %  ETA 12m03s  loss 0.6931  net 26.8 of 26.3 %  607 tok/s  "
            "grad 0.643  lr 0.05");
}

TEST(ProgressLineTest, NarrowOnesDropTheLastPartsAndTheBarTakesWhatIsLeft) {
  EXPECT_EQ(ProgressLine("training", 0.5, "12m03s", kParts, 80),
            "training  50 %  ETA 12m03s  loss 0.6931  net 26.8 of 26.3 %  607 tok/s");
  EXPECT_EQ(ProgressLine("training", 0.5, "12m03s", kParts, 40), "training  50 %  ETA 12m03s  loss 0.6931");
  EXPECT_EQ(ProgressLine("training", 0.5, "12m03s", kParts, 39), "training [####.....]  50 %  ETA 12m03s");
  EXPECT_EQ(ProgressLine("training", 0.5, "", {}, 40), "training [###########...........]  50 %");
}

TEST(ProgressLineTest, IsNarrowerThanTheTerminalWhateverItsWidth) {
  for (size_t columns = 0; columns < 160; ++columns) {
    for (const double share : {0.0, 0.3, 1.0}) {
      const std::string line = ProgressLine("training", share, "12m03s", kParts, columns);
      EXPECT_LE(line.size(), columns == 0 ? 0 : columns - 1);
      if (columns > 40) {
        EXPECT_NE(line.find("ETA 12m03s"), std::string::npos) << columns;
      }
    }
  }
}

TEST(ProgressBarTest, TheTimeToGoCountsFromTheRestart) {
  ProgressBar bar("x");
  bar.Restart(450);
  EXPECT_EQ(bar.Eta(450, 500), "");
  EXPECT_EQ(bar.Eta(500, 500), "0s");
  EXPECT_EQ(bar.Eta(501, 500), "");
}

}  // namespace
}  // namespace gateskip::cli
