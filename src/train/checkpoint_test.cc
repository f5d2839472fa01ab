// SPDX-License-Identifier: Apache-2.0
// Checkpoints: what is written comes back bit for bit, whatever is damaged is passed over for the one before, and one
// trainer at a time. What happens when writing fails or is cut short is in checkpoint_crash_test.cc.
#include "train/checkpoint.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>

#include "base/sha256.h"
#include "io/testing/allocation_meter.h"
#include "io/testing/expect_error.h"
#include "io/testing/temp_directory.h"
#include "train/checkpoint_manifest.h"
#include "train/testing/small_checkpoint.h"

namespace gateskip::train::testing {
namespace {

namespace fs = std::filesystem;
using ::gateskip::testing::AllocationMeter;
using ::gateskip::testing::ExpectError;
using ::gateskip::testing::ReadBack;
using ::gateskip::testing::TempDirectory;
using Names = std::set<std::string>;

constexpr const char* kFiles[] = {kManifestFile, kTensorFile, kStateFile};

void Write(const SmallCheckpoint& checkpoint, const TempDirectory& directory, Retention retention) {
  WriteCheckpoint(checkpoint.View(), directory.path(), retention);
}

TEST(Checkpoint, ComesBackBitForBit) {
  const TempDirectory directory;
  SmallCheckpoint written = Sample(12);
  written.state_json = "{\"text\": \"\xC3\xA9\"}\n";
  written.tensors["empty"] = {{0, 4}, {}};
  written.tensors["scalar"] = {{}, {3}};
  written.tensors["odd"] = {{6},
                            {-0.0F, std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::max(),
                             std::numeric_limits<float>::infinity(), std::nanf("7"), 1.0F / 3}};
  Write(written, directory, {.keep = 3});
  EXPECT_EQ(directory.Names(), (Names{"LATEST", "step-12"}));
  EXPECT_EQ(ReadBack(directory / "LATEST"), "step-12\n");
  const Newest read(directory.path());
  ASSERT_TRUE(read.checkpoint);
  EXPECT_TRUE(read.messages.empty());
  EXPECT_EQ(Load(*read.checkpoint), written);
}

// Written by the first version of this file; docs and tools may rely on reading it for ever.
TEST(Checkpoint, TheFirstFormatIsRead) {
  const TempDirectory directory;
  fs::copy(GATESKIP_TEST_DATA "/checkpoint/v1", directory.path(), fs::copy_options::recursive);
  SmallCheckpoint expected = Sample(2);
  expected.state_json = "{\n \"seed\": 1,\n \"step\": 2,\n \"text\": \"\xC3\xA9\"\n}";
  expected.tensors["empty"] = {{0, 4}, {}};
  expected.tensors["odd"] = {
      {4}, {-0.0F, std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::max(), 1.0F / 3}};
  const Newest read(directory.path());
  ASSERT_TRUE(read.checkpoint);
  EXPECT_EQ(Load(*read.checkpoint), expected);
}

TEST(Checkpoint, AVersionToComeIsRefused) {
  const std::string a(64, 'a');
  const std::string b(64, 'b');
  const std::string now = SerializeManifest({7, {1, a}, {2, b}});
  const Manifest parsed = ParseManifest(now, "m");
  EXPECT_EQ(parsed.step, 7);
  EXPECT_EQ(parsed.tensors.sha256 + parsed.state.sha256, a + b);
  std::string later = now;
  later.replace(later.find("\"format_version\": 1"), 19, "\"format_version\": 2");
  ExpectError([&] { ParseManifest(later, "m"); }, ErrorCode::kUnsupported, "format version 1, found 2");
}

// Some hundred megabytes stand for the gigabytes of a full model: neither side may hold more than a piece of them.
TEST(Checkpoint, NeitherWritingNorReadingCopiesTheTensors) {
  const TempDirectory directory;
  constexpr int64_t kRows = 3000;
  std::vector<float> values(kRows * 4099);  // 49 MB, and no multiple of a piece
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  constexpr size_t kAllowed = 4U << 20;
  {
    const Checkpoint big = {1,
                            "{}",
                            {{"big", {kRows, 4099}, [&] { return std::span<const float>(values); }},
                             {"again", {kRows, 4099}, [&] { return std::span<const float>(values); }}}};
    const AllocationMeter meter;
    WriteCheckpoint(big, directory.path(), {});
    EXPECT_LT(meter.PeakBytes(), kAllowed);
  }
  std::vector<float> back(values.size());
  const AllocationMeter meter;
  const Newest read(directory.path());
  ASSERT_TRUE(read.checkpoint);
  read.checkpoint->Read("again", {kRows, 4099}, back);
  EXPECT_LT(meter.PeakBytes(), kAllowed);
  EXPECT_TRUE(back == values);
}

TEST(Checkpoint, ReadingAnotherShapeOrNameIsAMismatch) {
  const TempDirectory directory;
  Write(Sample(1), directory, {});
  const SavedCheckpoint saved(directory.path(), 1);
  std::vector<float> values(6);
  ExpectError([&] { saved.Read("adam_m.blk.0.attn.gate.weight", {6}, values); }, ErrorCode::kMismatch,
              "expected shape [6], found [2, 3]");
  ExpectError([&] { saved.Read("absent", {6}, values); }, ErrorCode::kMismatch, "found none of this name");
  ExpectError([&] { SavedCheckpoint(directory.path(), 2); }, ErrorCode::kNotFound, "step-2");
}

TEST(Checkpoint, AFileThatShrinksAfterItWasOpenedIsAnError) {
  const TempDirectory directory;
  Write(Sample(1), directory, {});
  const SavedCheckpoint saved(directory.path(), 1);
  fs::resize_file(directory / "step-1/model.safetensors", 100);
  std::vector<float> values(6);
  ExpectError(
      [&] {
        saved.Read("adam_m.blk.0.attn.gate.weight", {2, 3}, values);
      },
      ErrorCode::kCorruptData, "it is truncated");
}

TEST(Checkpoint, NoneInAnEmptyOrAbsentDirectory) {
  const TempDirectory directory;
  EXPECT_EQ(Newest(directory.path()).step(), -1);
  EXPECT_EQ(Newest(directory / "absent").step(), -1);
  EXPECT_FALSE(HasCheckpoints(directory.path()));
  EXPECT_FALSE(HasCheckpoints(directory / "absent"));
}

TEST(Checkpoint, TheNewestIsTheHighestStep) {
  const TempDirectory directory;
  for (const int step : {0, 9, 10, 100}) Write(Sample(step), directory, {.keep = 10});
  EXPECT_EQ(Load(*Newest(directory.path()).checkpoint), Sample(100));
  fs::remove_all(directory / "step-100");
  EXPECT_EQ(Newest(directory.path()).step(), 10) << "by number, not by name, whatever LATEST says";
  fs::remove_all(directory / "step-10");
  fs::remove_all(directory / "step-9");
  EXPECT_EQ(Newest(directory.path()).step(), 0);
  EXPECT_TRUE(HasCheckpoints(directory.path()));
}

TEST(Checkpoint, OtherNamesAreNoCheckpoints) {
  const TempDirectory directory;
  Write(Sample(3), directory, {});
  for (const char* name :
       {"step-", "step-x", "step-4x", "step--4", "step-03", "step-99999999999999999999", "stop-4", ".step-4.tmp-1"}) {
    fs::copy(directory / "step-3", directory / name, fs::copy_options::recursive);
  }
  directory.Write("step-5", "a file");
  const Newest read(directory.path());
  EXPECT_EQ(read.step(), 3);
  EXPECT_TRUE(read.messages.empty());
}

class Damaged : public ::testing::Test {
 protected:
  Damaged() {
    Write(Sample(1), directory_, {.keep = 5});
    Write(Sample(2), directory_, {.keep = 5});
  }
  void ExpectPassedOver(const std::string& what) {
    SCOPED_TRACE(what);
    const Newest read(directory_.path());
    ASSERT_TRUE(read.checkpoint);
    EXPECT_EQ(Load(*read.checkpoint), Sample(1));
    ASSERT_EQ(read.messages.size(), 1U);
    EXPECT_TRUE(read.messages[0].starts_with("checkpoint of step 2 left out: [")) << read.messages[0];
    EXPECT_NE(read.messages[0].find("expected"), std::string::npos) << read.messages[0];
  }
  void SetByte(const std::string& name, size_t at, int value) {
    std::fstream file(directory_ / name, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(at)).put(static_cast<char>(value));
    ASSERT_TRUE(file.flush().good());
  }
  void ExpectRestored() { EXPECT_EQ(Newest(directory_.path()).step(), 2) << "restored"; }

  TempDirectory directory_;
};

TEST_F(Damaged, TruncatedLongerMissingOrNoFileAtAll) {
  for (const char* name : kFiles) {
    const std::string inside = fmt::format("step-2/{}", name);
    const std::string path = directory_ / inside;
    const std::string good = ReadBack(path);
    ASSERT_GT(good.size(), 8U);
    for (size_t size = good.size(); size-- > 0;) {
      fs::resize_file(path, size);
      ExpectPassedOver(fmt::format("{}: {} of {} bytes", name, size, good.size()));
    }
    for (const char* more : {" ", "\n", "}"}) {
      directory_.Write(inside, good + more);
      ExpectPassedOver(fmt::format("{}: longer", name));
    }
    directory_.Write(inside, std::string(good.size(), '\0'));
    ExpectPassedOver(fmt::format("{}: zeros", name));
    fs::remove(path);
    ExpectPassedOver(fmt::format("{} missing", name));
    fs::create_directory(path);
    ExpectPassedOver(fmt::format("{} is a directory", name));
    fs::remove(path);
    for (const char* target : {"/dev/zero", "nowhere", ".", name}) {
      fs::create_symlink(target, path);
      ExpectPassedOver(fmt::format("{} is a link to {}", name, target));
      fs::remove(path);
    }
    ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
    ExpectPassedOver(fmt::format("{} is a pipe", name));
    fs::remove(path);
    directory_.Write(inside, good);
    ExpectRestored();
  }
}

TEST_F(Damaged, EveryByteFlippedIsNoticed) {
  for (const char* name : kFiles) {
    const std::string inside = fmt::format("step-2/{}", name);
    const std::string good = ReadBack(directory_ / inside);
    for (size_t i = 0; i < good.size(); ++i) {
      for (const int flip : {0x01, 0x20, 0x80}) {  // 0x20 turns letters into their other case
        SetByte(inside, i, good[i] ^ flip);
        ExpectPassedOver(fmt::format("{}: byte {} flipped by {:#x}", name, i, flip));
      }
      SetByte(inside, i, good[i]);
    }
    ExpectRestored();
  }
}

TEST_F(Damaged, AThousandRandomFlipsAreNoticed) {
  std::mt19937 random(17);
  std::vector<std::string> good;
  size_t total = 0;
  for (const char* name : kFiles) {
    good.push_back(ReadBack(directory_ / fmt::format("step-2/{}", name)));
    total += good.back().size();
  }
  for (int i = 0; i < 1000; ++i) {
    size_t at = random() % total;
    size_t file = 0;
    while (at >= good[file].size()) at -= good[file++].size();
    const auto flip = static_cast<int>(1 + random() % 255);
    const std::string inside = fmt::format("step-2/{}", kFiles[file]);
    SetByte(inside, at, good[file][at] ^ flip);
    ExpectPassedOver(fmt::format("seed 17, flip {}: {} byte {}", i, kFiles[file], at));
    SetByte(inside, at, good[file][at]);
  }
  ExpectRestored();
}

TEST_F(Damaged, ManifestsOfOtherShapes) {
  for (const char* manifest :
       {"[]", "{}", "1", "null", "{\"step\": 2}", "{\"step\": 2, \"files\": []}", "{\"step\": 2, \"files\": {}}",
        "{\"step\": 2, \"files\": 3}", "{\"step\": 2, \"files\": {\"model.safetensors\": 1}}",
        "{\"step\": 2, \"files\": {\"model.safetensors\": {\"bytes\": -1, \"sha256\": \"\"}}}",
        "{\"step\": 1e300, \"files\": {}}", "{\"step\": 99999999999, \"files\": {}}", "[[[[[[[[[["}) {
    directory_.Write("step-2/manifest.json", manifest);
    ExpectPassedOver(manifest);
  }
  directory_.Write("step-2/manifest.json", std::string(1 << 20, ' '));
  ExpectPassedOver("a megabyte");
}

// The manifest verifies, and yet what it vouches for cannot be used.
TEST_F(Damaged, FilesThatVerifyButCannotBeRead) {
  const auto vouch = [&](const std::string& tensors, const std::string& state) {
    const auto entry = [](const std::string& text) {
      return ManifestEntry{text.size(), Sha256Hex(std::as_bytes(std::span<const char>(text)))};
    };
    directory_.Write("step-2/model.safetensors", tensors);
    directory_.Write("step-2/state.json", state);
    directory_.Write("step-2/manifest.json", SerializeManifest({2, entry(tensors), entry(state)}));
  };
  const std::string tensors = ReadBack(directory_ / "step-2/model.safetensors");
  for (const char* state : {"", "{", "{\"a\": 1, \"a\": 2}", "\xFF"}) {
    vouch(tensors, state);
    ExpectPassedOver(fmt::format("state {}", state));
  }
  for (const std::string& bytes : {std::string(), std::string("1234567"), std::string(8, '\xFF'), std::string(8, '\0'),
                                   std::string("\x02\0\0\0\0\0\0\0{}x", 11)}) {
    vouch(bytes, "{}");
    ExpectPassedOver("tensors");
  }
  vouch(tensors, "{}");
  ExpectRestored();
}

TEST(Checkpoint, ARenamedOneIsNotTheStepItSays) {
  const TempDirectory directory;
  Write(Sample(1), directory, {.keep = 5});
  fs::copy(directory / "step-1", directory / "step-7", fs::copy_options::recursive);
  fs::create_directory_symlink("step-1", directory / "step-8");
  fs::create_directory_symlink("nowhere", directory / "step-9");
  fs::create_directory_symlink("step-10", directory / "step-10");
  const Newest read(directory.path());
  EXPECT_EQ(read.step(), 1);
  EXPECT_EQ(read.messages.size(), 2U) << "links to nowhere are nothing";
}

// Files of one checkpoint in the directory of another, as a copy that was cut short and gone on with leaves them.
TEST(Checkpoint, AMixtureOfTwoIsRefused) {
  const TempDirectory directory;
  for (const int step : {1, 2}) Write(Sample(step), directory, {.keep = 5});
  for (const char* name : kFiles) {
    const std::string inside = fmt::format("step-2/{}", name);
    const std::string good = ReadBack(directory / inside);
    directory.Write(inside, ReadBack(directory / fmt::format("step-1/{}", name)));
    EXPECT_EQ(Newest(directory.path()).step(), 1) << name;
    directory.Write(inside, good);
  }
  EXPECT_EQ(Newest(directory.path()).step(), 2);
}

TEST(Checkpoint, NothingValidIsNone) {
  const TempDirectory directory;
  for (const int step : {1, 2, 3}) {
    Write(Sample(step), directory, {.keep = 5});
    fs::remove(directory / fmt::format("step-{}/manifest.json", step));
  }
  const Newest read(directory.path());
  EXPECT_FALSE(read.checkpoint);
  EXPECT_EQ(read.messages.size(), 3U);
}

TEST(Retention, KeepsTheNewest) {
  const TempDirectory directory;
  directory.Write("log.jsonl", "x");
  for (const int step : {5, 8, 10, 11}) Write(Sample(step), directory, {.keep = 2});
  EXPECT_EQ(directory.Names(), (Names{"LATEST", "log.jsonl", "step-10", "step-11"}));
  Write(Sample(20), directory, {.keep = 1});
  EXPECT_EQ(directory.Names(), (Names{"LATEST", "log.jsonl", "step-20"}));
  EXPECT_EQ(HintedBestStep(directory.path()), std::nullopt);
}

TEST(Retention, TheBestStaysHoweverOldItIs) {
  const TempDirectory directory;
  Write(Sample(1), directory, {.keep = 2, .best_step = 1});
  for (const int step : {2, 3, 4, 5}) Write(Sample(step), directory, {.keep = 2, .best_step = 2});
  EXPECT_EQ(directory.Names(), (Names{"BEST", "LATEST", "step-2", "step-4", "step-5"}));
  EXPECT_EQ(ReadBack(directory / "BEST"), "step-2\n");
  EXPECT_EQ(HintedBestStep(directory.path()), 2);
  // One within the newest counts as one of them; the one before is the best no longer.
  Write(Sample(6), directory, {.keep = 2, .best_step = 6});
  EXPECT_EQ(directory.Names(), (Names{"BEST", "LATEST", "step-5", "step-6"}));
  Write(Sample(7), directory, {.keep = 1, .best_step = 6});
  EXPECT_EQ(directory.Names(), (Names{"BEST", "LATEST", "step-6", "step-7"}));
  fs::remove_all(directory / "step-6");
  EXPECT_EQ(HintedBestStep(directory.path()), std::nullopt);
  for (const char* text : {"", "step-7x\n", "nonsense", "step-99999999999999999999"}) {
    directory.Write("BEST", text);
    EXPECT_EQ(HintedBestStep(directory.path()), std::nullopt) << text;
  }
  fs::remove(directory / "BEST");
  fs::create_directory(directory / "BEST");
  EXPECT_NO_THROW(Write(Sample(8), directory, {.keep = 1, .best_step = 7})) << "only a hint";
  EXPECT_EQ(directory.Names(), (Names{"BEST", "LATEST", "step-7", "step-8"}));
}

// A run that resumed before a damaged checkpoint writes steps below it: these must not make room for the damaged one.
TEST(Retention, NeverPrunesWhatItJustWrote) {
  const TempDirectory directory;
  for (const int step : {10, 20}) Write(Sample(step), directory, {.keep = 2});
  directory.Write("step-20/model.safetensors", "damaged");
  EXPECT_EQ(Newest(directory.path()).step(), 10);
  Write(Sample(15), directory, {.keep = 1});
  EXPECT_EQ(Newest(directory.path()).step(), 15);
  Write(Sample(20), directory, {.keep = 1});
  EXPECT_EQ(Load(*Newest(directory.path()).checkpoint), Sample(20));
  EXPECT_EQ(directory.Names(), (Names{"LATEST", "step-20"}));
}

TEST(Retention, ATruncatedOneDoesNotCountAsKept) {
  const TempDirectory directory;
  for (const int step : {1, 2}) Write(Sample(step), directory, {.keep = 5});
  directory.Write("step-2/model.safetensors", "damaged");
  Write(Sample(3), directory, {.keep = 2});
  EXPECT_EQ(directory.Names(), (Names{"LATEST", "step-1", "step-2", "step-3"}));
  Write(Sample(4), directory, {.keep = 2});
  EXPECT_EQ(directory.Names(), (Names{"LATEST", "step-3", "step-4"}));
}

TEST(Retention, RemovesNothingThatIsNotACheckpoint) {
  const TempDirectory directory;
  const TempDirectory elsewhere;
  fs::create_directories(directory / "step-1/mine");
  elsewhere.Write("precious", "x");
  Write(Sample(2), elsewhere, {});
  fs::create_directory_symlink(elsewhere / "step-2", directory / "step-2");
  directory.Write("step-3", "a file");
  for (const int step : {4, 5}) Write(Sample(step), directory, {.keep = 1});
  EXPECT_EQ(directory.Names(), (Names{"LATEST", "step-1", "step-3", "step-5"})) << "the link is gone, not its target";
  EXPECT_TRUE(fs::is_directory(directory / "step-1/mine"));
  EXPECT_EQ(elsewhere.Names(), (Names{"LATEST", "precious", "step-2"}));
  EXPECT_EQ(Load(*Newest(elsewhere.path()).checkpoint), Sample(2));
}

TEST(Checkpoint, TheSameStepIsReplacedWhole) {
  const TempDirectory directory;
  Write(Sample(4), directory, {.keep = 2});
  directory.Write("step-4/stray", "x");
  SmallCheckpoint other = Sample(4);
  other.tensors.erase(other.tensors.begin());
  other.state_json = "{}";
  Write(other, directory, {.keep = 2});
  EXPECT_EQ(Load(*Newest(directory.path()).checkpoint), other);
  EXPECT_FALSE(fs::exists(directory / "step-4/stray"));
}

TEST(Checkpoint, WhatCouldNotBeReadAgainIsNotWritten) {
  const TempDirectory directory;
  Checkpoint checkpoint = {1, "{}", {{"t", {2}, [] { return std::span<const float>(); }}}};
  EXPECT_THROW(WriteCheckpoint(checkpoint, directory.path(), {}), Error) << "fewer values than its shape";
  checkpoint.tensors.clear();
  for (const int step : {-1, -5, 1000000000}) {
    checkpoint.step = step;
    EXPECT_THROW(WriteCheckpoint(checkpoint, directory.path(), {}), Error) << step;
  }
  checkpoint.step = 1;
  checkpoint.state_json = "{";
  EXPECT_THROW(WriteCheckpoint(checkpoint, directory.path(), {}), Error);
  EXPECT_EQ(directory.Names(), Names{});
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
  Write(Sample(3), directory, {.keep = 2});
  const auto copy = [&](const char* to) {
    fs::copy(directory / "step-3", directory / to, fs::copy_options::recursive);
  };
  copy(".step-4.tmp-0123456789abcdef");
  copy(".step-3.old-0123456789abcdef");
  directory.Write(".LATEST.tmp-0123456789abcdef", "half");
  directory.Write("log.jsonl", "x");
  directory.Write(".notes.tmp-mine", "x");
  EXPECT_EQ(Newest(directory.path()).step(), 3) << "an unfinished directory counts for nothing";
  const RunLock lock(directory.path());
  EXPECT_EQ(directory.Names(), (Names{".notes.tmp-mine", "LATEST", "lock", "log.jsonl", "step-3"}));
  EXPECT_EQ(Newest(directory.path()).step(), 3);
}

// Where the file system cannot swap two directories, replacing one takes two renames; a kill between them.
TEST(RunLock, PutsBackWhatADeadWriterHadSetAside) {
  const TempDirectory directory;
  Write(Sample(3), directory, {.keep = 2});
  fs::rename(directory / "step-3", directory / ".step-3.old-0123456789abcdef");
  EXPECT_EQ(Newest(directory.path()).step(), -1);
  const RunLock lock(directory.path());
  EXPECT_EQ(Load(*Newest(directory.path()).checkpoint), Sample(3));
}

TEST(RunLock, NeedsADirectory) {
  const TempDirectory directory;
  ExpectError([&] { RunLock lock(directory.Write("file", "x")); }, ErrorCode::kIo, "expected to create a lock file");
}

}  // namespace
}  // namespace gateskip::train::testing
