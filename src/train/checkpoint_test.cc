// SPDX-License-Identifier: Apache-2.0
// Checkpoints: what is written comes back bit for bit, whatever is damaged is passed over for the one before, and one
// trainer at a time.
#include "train/checkpoint.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <limits>

#include "io/testing/expect_error.h"
#include "io/testing/temp_directory.h"

namespace gateskip::train {
namespace {

namespace fs = std::filesystem;
using ::gateskip::testing::ExpectError;
using ::gateskip::testing::ReadBack;
using ::gateskip::testing::TempDirectory;
using Names = std::set<std::string>;

constexpr const char* kFiles[] = {"manifest.json", "model.safetensors", "state.json"};

Checkpoint Sample(int step) {
  Checkpoint checkpoint;
  checkpoint.step = step;
  checkpoint.state_json = fmt::format("{{\"step\": {}}}", step);
  checkpoint.tensors["blk.0.attn.gate.bias"] = {{1}, {static_cast<float>(step)}};
  checkpoint.tensors["adam_m.blk.0.attn.gate.weight"] = {{2, 3}, {1, -2, 3, -4, 5, 0.1F}};
  return checkpoint;
}

void ExpectEqual(const Checkpoint& a, const Checkpoint& b) {
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.state_json, b.state_json);
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (const auto& [name, tensor] : a.tensors) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(b.tensors.contains(name));
    const CheckpointTensor& other = b.tensors.at(name);
    EXPECT_EQ(tensor.shape, other.shape);
    ASSERT_EQ(tensor.values.size(), other.values.size());
    EXPECT_EQ(std::memcmp(tensor.values.data(), other.values.data(), 4 * tensor.values.size()), 0);
  }
}

struct Newest {
  std::optional<Checkpoint> checkpoint;
  std::vector<std::string> messages;
  int step() const { return checkpoint ? checkpoint->step : -1; }
};

Newest ReadNewest(const std::string& directory) {
  Newest result;
  result.checkpoint = ReadNewestCheckpoint(directory, [&](const std::string& m) { result.messages.push_back(m); });
  return result;
}

TEST(Checkpoint, ComesBackBitForBit) {
  const TempDirectory directory;
  Checkpoint written = Sample(12);
  written.state_json = "{\"text\": \"\xC3\xA9\"}\n";
  written.tensors["empty"] = {{0, 4}, {}};
  written.tensors["odd"] = {{6},
                            {-0.0F, std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::max(),
                             std::numeric_limits<float>::infinity(), std::nanf("7"), 1.0F / 3}};
  WriteCheckpoint(written, directory.path(), 3);
  EXPECT_EQ(directory.Names(), Names{"step-12"});
  const Newest read = ReadNewest(directory.path());
  ASSERT_TRUE(read.checkpoint);
  EXPECT_TRUE(read.messages.empty());
  ExpectEqual(written, *read.checkpoint);
}

TEST(Checkpoint, NoneInAnEmptyOrAbsentDirectory) {
  const TempDirectory directory;
  EXPECT_FALSE(ReadNewest(directory.path()).checkpoint);
  EXPECT_FALSE(ReadNewest(directory / "absent").checkpoint);
}

TEST(Checkpoint, TheNewestIsTheHighestStep) {
  const TempDirectory directory;
  for (const int step : {0, 9, 10, 100}) WriteCheckpoint(Sample(step), directory.path(), 10);
  ExpectEqual(*ReadNewest(directory.path()).checkpoint, Sample(100));
  fs::remove_all(directory / "step-100");
  EXPECT_EQ(ReadNewest(directory.path()).step(), 10) << "by number, not by name";
  fs::remove_all(directory / "step-10");
  fs::remove_all(directory / "step-9");
  EXPECT_EQ(ReadNewest(directory.path()).step(), 0);
}

TEST(Checkpoint, OtherNamesAreNoCheckpoints) {
  const TempDirectory directory;
  WriteCheckpoint(Sample(3), directory.path(), 1);
  for (const char* name :
       {"step-", "step-x", "step-4x", "step--4", "step-99999999999999999999", "stop-4", ".step-4.tmp-1"}) {
    fs::copy(directory / "step-3", directory / name, fs::copy_options::recursive);
  }
  directory.Write("step-5", "a file");
  const Newest read = ReadNewest(directory.path());
  EXPECT_EQ(read.step(), 3);
  EXPECT_TRUE(read.messages.empty());
}

// Every way to damage any of the three files of the newest checkpoint.
TEST(Checkpoint, ADamagedOneIsPassedOverForTheOneBefore) {
  const TempDirectory directory;
  WriteCheckpoint(Sample(1), directory.path(), 5);
  WriteCheckpoint(Sample(2), directory.path(), 5);
  const auto expect_passed_over = [&](const std::string& what) {
    SCOPED_TRACE(what);
    const Newest read = ReadNewest(directory.path());
    ASSERT_TRUE(read.checkpoint);
    ExpectEqual(Sample(1), *read.checkpoint);
    ASSERT_EQ(read.messages.size(), 1U);
    EXPECT_TRUE(read.messages[0].starts_with("checkpoint of step 2 left out: [")) << read.messages[0];
    EXPECT_NE(read.messages[0].find("expected"), std::string::npos) << read.messages[0];
  };
  for (const char* name : kFiles) {
    const std::string path = directory / fmt::format("step-2/{}", name);
    const std::string good = ReadBack(path);
    ASSERT_GT(good.size(), 8U);
    const auto damage = [&](const std::string& what, const std::string& bytes) {
      directory.Write(fmt::format("step-2/{}", name), bytes);
      expect_passed_over(fmt::format("{}: {}", name, what));
    };
    for (const size_t size : {size_t{0}, size_t{1}, good.size() / 2, good.size() - 1}) {
      damage("truncated", good.substr(0, size));
    }
    if (std::string_view(name) != "manifest.json") {  // which holds white space that says nothing
      damage("longer", good + " ");
      for (size_t i = 0; i < good.size(); i += 7) {
        std::string flipped = good;
        flipped[i] = static_cast<char>(flipped[i] ^ 0x10);
        damage(fmt::format("byte {} flipped", i), flipped);
      }
    }
    fs::remove(path);
    expect_passed_over(fmt::format("{} missing", name));
    fs::create_directory(path);
    expect_passed_over(fmt::format("{} is a directory", name));
    fs::remove(path);
    directory.Write(fmt::format("step-2/{}", name), good);
    EXPECT_EQ(ReadNewest(directory.path()).step(), 2) << "restored";
  }
  for (const char* manifest :
       {"[]", "{}", "{\"step\": 2}", "{\"step\": 2, \"files\": []}", "{\"step\": 2, \"files\": {}}",
        "{\"step\": 2, \"files\": {\"model.safetensors\": 1}}",
        "{\"step\": 2, \"files\": {\"model.safetensors\": {\"bytes\": -1, \"sha256\": \"\"}}}"}) {
    directory.Write("step-2/manifest.json", manifest);
    expect_passed_over(manifest);
  }
}

TEST(Checkpoint, ARenamedOneIsNotTheStepItSays) {
  const TempDirectory directory;
  WriteCheckpoint(Sample(1), directory.path(), 5);
  fs::copy(directory / "step-1", directory / "step-7", fs::copy_options::recursive);
  const Newest read = ReadNewest(directory.path());
  EXPECT_EQ(read.step(), 1);
  EXPECT_EQ(read.messages.size(), 1U);
}

TEST(Checkpoint, NothingValidIsNone) {
  const TempDirectory directory;
  for (const int step : {1, 2, 3}) {
    WriteCheckpoint(Sample(step), directory.path(), 5);
    fs::remove(directory / fmt::format("step-{}/manifest.json", step));
  }
  const Newest read = ReadNewest(directory.path());
  EXPECT_FALSE(read.checkpoint);
  EXPECT_EQ(read.messages.size(), 3U);
}

TEST(Checkpoint, KeepsTheNewest) {
  const TempDirectory directory;
  directory.Write("log.jsonl", "x");
  for (const int step : {5, 8, 10, 11}) WriteCheckpoint(Sample(step), directory.path(), 2);
  EXPECT_EQ(directory.Names(), (Names{"log.jsonl", "step-10", "step-11"}));
  WriteCheckpoint(Sample(20), directory.path(), 1);
  EXPECT_EQ(directory.Names(), (Names{"log.jsonl", "step-20"}));
}

// A run that resumed before a damaged checkpoint writes steps below it: these must not make room for the damaged one.
TEST(Checkpoint, NeverPrunesWhatItJustWrote) {
  const TempDirectory directory;
  for (const int step : {10, 20}) WriteCheckpoint(Sample(step), directory.path(), 2);
  directory.Write("step-20/model.safetensors", "damaged");
  EXPECT_EQ(ReadNewest(directory.path()).step(), 10);
  WriteCheckpoint(Sample(15), directory.path(), 1);
  EXPECT_EQ(ReadNewest(directory.path()).step(), 15);
  WriteCheckpoint(Sample(20), directory.path(), 1);
  ExpectEqual(Sample(20), *ReadNewest(directory.path()).checkpoint);
  EXPECT_EQ(directory.Names(), Names{"step-20"});
}

TEST(Checkpoint, TheSameStepIsReplacedWhole) {
  const TempDirectory directory;
  WriteCheckpoint(Sample(4), directory.path(), 2);
  directory.Write("step-4/stray", "x");
  Checkpoint other = Sample(4);
  other.tensors.erase(other.tensors.begin());
  other.state_json = "{}";
  WriteCheckpoint(other, directory.path(), 2);
  ExpectEqual(other, *ReadNewest(directory.path()).checkpoint);
  EXPECT_FALSE(fs::exists(directory / "step-4/stray"));
}

TEST(Checkpoint, CannotBeWrittenIsAnError) {
  const TempDirectory directory;
  ExpectError([&] { WriteCheckpoint(Sample(1), directory / "absent", 1); }, ErrorCode::kIo, "step-1");
}

TEST(RunLock, OneTrainerAtATime) {
  const TempDirectory directory;
  const std::string run = directory / "new/run";
  {
    const RunLock lock(run);
    EXPECT_TRUE(fs::is_directory(run));
    ExpectError([&] { RunLock second(run); }, ErrorCode::kIo, "another trainer");
    ExpectError([&] { RunLock third(run); }, ErrorCode::kIo, "another trainer");
    EXPECT_NO_THROW(RunLock(directory / "other"));
  }
  EXPECT_NO_THROW(RunLock{run}) << "free again";
}

TEST(RunLock, SweepsWhatADeadWriterLeft) {
  const TempDirectory directory;
  WriteCheckpoint(Sample(3), directory.path(), 2);
  fs::copy(directory / "step-3", directory / ".step-4.tmp-0123456789abcdef", fs::copy_options::recursive);
  directory.Write(".state.json.tmp-00", "half");
  directory.Write("log.jsonl", "x");
  EXPECT_EQ(ReadNewest(directory.path()).step(), 3) << "an unfinished directory counts for nothing";
  const RunLock lock(directory.path());
  EXPECT_EQ(directory.Names(), (Names{"lock", "log.jsonl", "step-3"}));
  EXPECT_EQ(ReadNewest(directory.path()).step(), 3);
}

TEST(RunLock, NeedsADirectory) {
  const TempDirectory directory;
  ExpectError([&] { RunLock lock(directory.Write("file", "x")); }, ErrorCode::kIo, "expected to create a lock file");
}

}  // namespace
}  // namespace gateskip::train
