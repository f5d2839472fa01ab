// SPDX-License-Identifier: Apache-2.0
// A whole sweep on the tiny model: what it writes, that an interrupted one and one in parts end in the same samples,
// and that the samples of something else are refused.
#include "eval/sweep.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "analysis/sweep_report.h"
#include "analysis/sweep_results.h"
#include "io/json.h"
#include "io/testing/temp_directory.h"
#include "support/tiny_model.h"

namespace gateskip::testing {
namespace {

using nlohmann::json;

constexpr const char* kTask = R"(
task = "tiny"
output_type = "multiple_choice"
doc_to_text = "in the {{a}}"
doc_to_choice = "{{[b, c]}}"
doc_to_target = "label"
metric_list = [{metric = "acc"}]
)";

class Watcher : public SweepObserver {
 public:
  size_t stop_after = SIZE_MAX;
  size_t done = 0, total = 0;
  void OnProgress(const std::string&, size_t now, size_t all) override {
    done = now;
    total = all;
  }
  bool Cancelled() override { return done >= stop_after; }
};

class SweepTest : public ::testing::Test {
 protected:
  SweepTest() {
    const std::vector<std::byte> bytes = TinyGguf({});
    options_.model_path = directory_.Write("tiny.gguf", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    Adapter adapter = TinyAdapter(*OpenTiny(bytes), {.skip_rank = 4});
    WriteAdapter(adapter, directory_ / "adapter", false);
    std::string lines;
    const char* words[] = {"end", "box", "line", "things", "there"};
    for (int i = 0; i < 20; ++i) {
      lines +=
          json({{"a", words[i % 5]}, {"b", words[(i * 3 + 1) % 5]}, {"c", words[(i * 2 + 2) % 5]}, {"label", i % 2}})
              .dump() +
          "\n";
    }
    TaskOptions task;
    task.data_path = directory_.Write("docs.jsonl", lines);
    options_.tasks = {{ParseTask(kTask, "test"), task}};
    options_.arms = {
        {"gates", "gates", directory_ / "adapter"}, {"random", "random-unprotected", ""}, {"exit", "early-exit", ""}};
    options_.budgets = {0, 0.2, 0.4, 0.9};
    options_.threads = 2;
    options_.output = directory_ / "out";
  }

  // Per cell file, instance -> response and work.
  static std::map<std::string, std::map<int64_t, std::string>> Samples(const std::string& output) {
    std::map<std::string, std::map<int64_t, std::string>> samples;
    for (const auto& file : std::filesystem::recursive_directory_iterator(output)) {
      if (file.path().extension() != ".jsonl") continue;
      std::string name = file.path().parent_path().filename().string() + "/" + file.path().filename().string();
      name = name.substr(0, name.find(".jsonl"));
      if (const size_t part = name.find("-of-"); part != std::string::npos)
        name = name.substr(0, name.rfind('+', part));
      std::istringstream lines(ReadBack(file.path().string()));
      for (std::string line; std::getline(lines, line);) {
        const json object = json::parse(line);
        if (object.contains("instance")) samples[name][object["instance"].get<int64_t>()] = object.dump();
      }
    }
    return samples;
  }

  TempDirectory directory_;
  SweepOptions options_;
};

TEST_F(SweepTest, EveryCellIsRunAndCanBeShown) {
  Watcher watcher;
  const json results = RunSweep(options_, watcher);
  EXPECT_EQ(watcher.done, watcher.total);
  // original at 0; gates at 0, 0.2, 0.4, 0.9; two arms at 0.2, 0.4, 0.9.
  EXPECT_EQ(results["results"].size(), 11U);
  std::set<std::string> unreachable;
  for (const json& result : results["results"]) {
    if (result.contains("unreachable")) {
      unreachable.insert(result["arm"].get<std::string>() + " " + result["requested"].dump());
      continue;
    }
    EXPECT_EQ(result["instances"], 20);
    EXPECT_EQ(result["metrics"][0]["count"], 20);
    EXPECT_GT(result["bytes_per_token"].get<double>(), 0);
    if (result["arm"] == "original") {
      EXPECT_EQ(result["saving"]["net"], 0.0);
    }
    if (result["arm"] == "random" && result["requested"] == 0.4) {
      // 20 documents of few rows: four standard deviations of a share of some 500 throws.
      EXPECT_NEAR(result["saving"]["net"].get<double>(), 0.4, 0.09);
    }
  }
  // The adapter's grid ends at 0.4; the others cannot save 90 % with K and V still computed.
  EXPECT_TRUE(unreachable.contains("gates 0.9"));
  const SweepResults read = ReadSweepResults({options_.output + "/results.json"});
  EXPECT_NE(RenderSweepPage(read).find("random"), std::string::npos);
  EXPECT_NE(RenderSweepMarkdown(read).find("tiny"), std::string::npos);
}

TEST_F(SweepTest, InterruptedOrInPartsItEndsInTheSameSamples) {
  Watcher whole;
  RunSweep(options_, whole);
  const auto expected = Samples(options_.output);
  ASSERT_GE(expected.size(), 8U);

  options_.output = directory_ / "interrupted";
  size_t rounds = 0;
  for (size_t stop = 7;; stop += 23, ++rounds) {
    Watcher watcher;
    watcher.stop_after = stop;
    try {
      RunSweep(options_, watcher);
      break;
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ErrorCode::kCancelled) << error.what();
    }
    // A crash in the middle of a line costs that line only.
    for (const auto& file : std::filesystem::recursive_directory_iterator(options_.output + "/samples")) {
      if (file.path().extension() == ".jsonl" && file.file_size() > 400 && rounds % 2 == 0) {
        std::filesystem::resize_file(file.path(), file.file_size() - 5);
      }
    }
    ASSERT_LT(rounds, 60U);
  }
  EXPECT_GT(rounds, 3U);
  EXPECT_EQ(Samples(options_.output), expected);

  options_.output = directory_ / "parts";
  options_.shards = 3;
  for (options_.shard = 2; options_.shard >= 0; --options_.shard) {
    Watcher watcher;
    RunSweep(options_, watcher);
  }
  EXPECT_FALSE(std::filesystem::exists(options_.output + "/results.json"));
  options_.shards = 1;
  options_.shard = 0;
  Watcher last;
  const json results = RunSweep(options_, last);
  EXPECT_EQ(Samples(options_.output), expected);
  EXPECT_EQ(results["results"].size(), 11U);
}

TEST_F(SweepTest, SamplesOfSomethingElseAreRefused) {
  Watcher watcher;
  RunSweep(options_, watcher);
  options_.tasks[0].options.num_fewshot = 0;
  options_.seed = 5;
  try {
    RunSweep(options_, watcher);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kMismatch);
    EXPECT_NE(std::string(error.what()).find("choose another --output"), std::string::npos);
  }
}

TEST_F(SweepTest, BadOptionsAreNamed) {
  Watcher watcher;
  const auto refused = [&](auto&& change) {
    SweepOptions bad = options_;
    change(bad);
    try {
      RunSweep(bad, watcher);
    } catch (const Error& error) {
      return error.code() == ErrorCode::kInvalidArgument || error.code() == ErrorCode::kNotFound;
    }
    return false;
  };
  EXPECT_TRUE(refused([](SweepOptions& o) { o.tasks.clear(); }));
  EXPECT_TRUE(refused([](SweepOptions& o) { o.tasks.push_back(o.tasks[0]); }));
  EXPECT_TRUE(refused([](SweepOptions& o) { o.budgets = {0.4, 0.2}; }));
  EXPECT_TRUE(refused([](SweepOptions& o) { o.arms[1].policy = "randon"; }));
  EXPECT_TRUE(refused([](SweepOptions& o) { o.arms[1].name = "gates"; }));
  EXPECT_TRUE(refused([](SweepOptions& o) { o.arms[0].adapter = ""; }));
  EXPECT_TRUE(refused([](SweepOptions& o) { o.arms[1].policy = "shortgpt"; }));  // without a text
  EXPECT_TRUE(refused([](SweepOptions& o) { o.shard = 3; }));
  EXPECT_TRUE(refused([](SweepOptions& o) { o.tasks[0].options.data_path = "/absent"; }));
}

}  // namespace
}  // namespace gateskip::testing
