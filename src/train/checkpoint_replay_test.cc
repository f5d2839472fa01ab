// SPDX-License-Identifier: Apache-2.0
// Power cuts: every prefix of the operations of several saves, with what was not synced lost in part, is a run
// directory that loads: the last checkpoint a save returned for, or the one being saved then, and never anything else.
// GATESKIP_CRASH_SAVES in the environment is how many saves (12).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "io/testing/crash_disk.h"
#include "io/testing/temp_directory.h"
#include "train/checkpoint.h"
#include "train/testing/small_checkpoint.h"

namespace gateskip::train::testing {
namespace {

namespace fs = std::filesystem;
using ::gateskip::testing::CrashDisk;
using ::gateskip::testing::CrashMode;
using ::gateskip::testing::DiskEvent;
using ::gateskip::testing::kNumCrashModes;
using ::gateskip::testing::RecordingOps;
using ::gateskip::testing::TempDirectory;

size_t NumSaves() {
  const char* wanted = std::getenv("GATESKIP_CRASH_SAVES");
  return wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : 12;
}

// Every fourth save is of the same step as the one before, with other content.
std::vector<SmallCheckpoint> Saves() {
  std::vector<SmallCheckpoint> saves;
  int step = 0;
  for (size_t i = 0; i < NumSaves(); ++i) {
    step += i % 4 == 3 ? 0 : 5;
    saves.push_back(Sample(step));
    saves.back().state_json = fmt::format("{{\"save\": {}}}", i);
  }
  return saves;
}

void Record(RecordingOps& ops, const std::string& run_directory, const std::vector<SmallCheckpoint>& saves) {
  const ScopedFileOps scoped(ops);
  int best = -1;
  for (size_t i = 0; i < saves.size(); ++i) {
    if (i % 5 == 0) best = saves[i].step;
    WriteCheckpoint(saves[i].View(), run_directory, {.keep = 1 + static_cast<int>(i % 3), .best_step = best});
    ops.Mark();
  }
}

// `done` saves have returned.
void ExpectLoads(const std::string& run_directory, const std::vector<SmallCheckpoint>& saves, size_t done) {
  const RunLock lock(run_directory);
  const Newest newest(run_directory);
  if (!newest.checkpoint) {
    ASSERT_EQ(done, 0U) << "a checkpoint that was promised is lost; " << fmt::format("{}", newest.messages.size())
                        << " were left out";
    return;
  }
  const SmallCheckpoint loaded = Load(*newest.checkpoint);
  const bool last = done > 0 && loaded == saves[done - 1];
  const bool next = done < saves.size() && loaded == saves[done];
  ASSERT_TRUE(last || next) << ::testing::PrintToString(loaded) << " after " << done << " saves";
  for (const auto& entry : fs::directory_iterator(run_directory)) {
    EXPECT_NE(entry.path().filename().string()[0], '.') << entry.path() << " was not swept";
  }
}

void ReplayEveryPrefix(const std::vector<DiskEvent>& events, const std::vector<SmallCheckpoint>& saves) {
  std::mt19937 random(11);
  std::set<std::pair<size_t, std::string>> seen;
  size_t done = 0;
  for (size_t count = 0; count <= events.size(); ++count) {
    if (count > 0 && events[count - 1].kind == DiskEvent::Kind::kMark) ++done;
    for (int i = 0; i < kNumCrashModes + 1; ++i) {  // the wildest one twice
      const auto mode = static_cast<CrashMode>(std::min(i, kNumCrashModes - 1));
      const CrashDisk disk(events, count, mode, random);
      if (!seen.emplace(done, disk.Description()).second) continue;
      SCOPED_TRACE(fmt::format("after {} of {} operations, mode {}", count, events.size(), static_cast<int>(mode)));
      const TempDirectory crashed;
      disk.WriteTo(crashed.path());
      ExpectLoads(crashed.path(), saves, done);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
  std::printf("%zu operations, %zu different disks\n", events.size(), seen.size());
  EXPECT_EQ(done, saves.size());
  EXPECT_GT(seen.size(), events.size());
}

TEST(CrashReplay, EveryPrefixOfTheOperationsLoads) {
  const TempDirectory directory;
  RecordingOps ops(directory.path());
  Record(ops, directory.path(), Saves());
  ReplayEveryPrefix(ops.events(), Saves());
}

TEST(CrashReplay, AlsoWhereDirectoriesCannotBeSwapped) {
  const TempDirectory directory;
  RecordingOps ops(directory.path(), /*can_exchange=*/false);
  Record(ops, directory.path(), Saves());
  ReplayEveryPrefix(ops.events(), Saves());
}

}  // namespace
}  // namespace gateskip::train::testing
