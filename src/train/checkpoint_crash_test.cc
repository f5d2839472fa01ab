// SPDX-License-Identifier: Apache-2.0
// Saves that fail or are cut short: whichever call fails with whatever error, on a full disk, or killed at any named
// point and at any call, the checkpoints before are whole, nothing is left lying about, and saving again works.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>

#include "io/kill_point.h"
#include "io/testing/expect_error.h"
#include "io/testing/failing_ops.h"
#include "io/testing/temp_directory.h"
#include "train/checkpoint.h"
#include "train/testing/small_checkpoint.h"

namespace gateskip::train::testing {
namespace {

namespace fs = std::filesystem;
using ::gateskip::testing::ExpectError;
using ::gateskip::testing::FailingOps;
using ::gateskip::testing::ReadBack;
using ::gateskip::testing::TempDirectory;
using Tree = std::map<std::string, std::string>;  // contents by path

Tree TreeOf(const std::string& directory) {
  Tree tree;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    tree[fs::relative(entry.path(), directory).string()] = entry.is_directory() ? "" : ReadBack(entry.path().string());
  }
  return tree;
}

// One save on a run directory that holds the steps 1 (the best) and 2.
struct Save {
  int step;       // 3 is new; 2 replaces what is there
  bool exchange;  // whether the file system can swap directories

  std::string Name() const { return fmt::format("step {}, {}", step, exchange ? "swapped" : "two renames"); }
  SmallCheckpoint Content() const {
    SmallCheckpoint content = Sample(step);
    content.state_json = "{\"new\": true}";
    return content;
  }
  void Write(const std::string& directory) const {
    WriteCheckpoint(Content().View(), directory, {.keep = 1, .best_step = 1});
  }
};

constexpr Save kSaves[] = {{3, true}, {2, true}, {2, false}};

void Prepare(const TempDirectory& directory) {
  FailingOps quick;  // which waits for no disk
  const ScopedFileOps scoped(quick);
  for (const int step : {1, 2}) WriteCheckpoint(Sample(step).View(), directory.path(), {.keep = 2, .best_step = 1});
}

void ExpectNewest(const std::string& directory, const SmallCheckpoint& expected) {
  const Newest newest(directory);
  ASSERT_TRUE(newest.checkpoint);
  EXPECT_EQ(Load(*newest.checkpoint), expected);
  EXPECT_TRUE(newest.messages.empty());
}

void ExpectBestAndNothingElse(const std::string& directory, const Save& save) {
  ExpectNewest(directory, save.Content());
  EXPECT_EQ(Load(SavedCheckpoint(directory, 1)), Sample(1)) << "the best";
  for (const auto& [path, content] : TreeOf(directory)) EXPECT_FALSE(path.starts_with('.')) << path;
}

// Every call of the save fails once. EINTR is repeated where that is safe: to open and to write.
TEST(SaveFails, AtTheNthCallAndTheRunDirectoryIsWhatItWas) {
  for (const Save& save : kSaves) {
    for (const int error : {EIO, ENOSPC, EDQUOT, EFBIG, EINTR}) {
      int refused = 0;
      for (int nth = 1;; ++nth) {
        SCOPED_TRACE(fmt::format("{}, call {}: {}", save.Name(), nth, std::strerror(error)));
        const TempDirectory directory;
        Prepare(directory);
        const Tree before = TreeOf(directory.path());
        FailingOps ops;
        ops.nth = nth;
        ops.error = error;
        ops.exchange = save.exchange;
        const ScopedFileOps scoped(ops);
        try {
          save.Write(directory.path());
          ExpectBestAndNothingElse(directory.path(), save);
          if (ops.fired() == FailingOps::Kind::kNone) break;
          continue;
        } catch (const Error& e) {
          ++refused;
          EXPECT_EQ(e.code(), ErrorCode::kIo) << e.what();
          EXPECT_NE(std::string(e.what()).find(std::strerror(error)), std::string::npos) << e.what();
        }
        EXPECT_FALSE(error == EINTR &&
                     (ops.fired() == FailingOps::Kind::kOpen || ops.fired() == FailingOps::Kind::kWrite));
        EXPECT_TRUE(TreeOf(directory.path()) == before);
        ExpectNewest(directory.path(), Sample(2));
        save.Write(directory.path());
        ExpectBestAndNothingElse(directory.path(), save);
        ASSERT_FALSE(HasFailure());
      }
      EXPECT_GE(refused, error == EINTR ? 6 : 15) << "calls before the checkpoint counts";
    }
  }
}

// Nothing works any more from the n-th call on, not even undoing. The sweep at the next start puts it right.
TEST(SaveFails, FromTheNthCallOnAndTheNextStartFindsACheckpoint) {
  for (const Save& save : kSaves) {
    for (int nth = 1;; ++nth) {
      SCOPED_TRACE(fmt::format("{}, from call {} on", save.Name(), nth));
      const TempDirectory directory;
      Prepare(directory);
      FailingOps ops;
      ops.nth = nth;
      ops.sticky = true;
      ops.exchange = save.exchange;
      try {
        const ScopedFileOps scoped(ops);
        save.Write(directory.path());
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::kIo) << e.what();
      }
      const RunLock lock(directory.path());
      const Newest newest(directory.path());
      ASSERT_TRUE(newest.checkpoint);
      const SmallCheckpoint found = Load(*newest.checkpoint);
      EXPECT_TRUE(found == Sample(2) || found == save.Content()) << ::testing::PrintToString(found);
      EXPECT_EQ(Load(SavedCheckpoint(directory.path(), 1)), Sample(1));
      for (const auto& [path, content] : TreeOf(directory.path())) EXPECT_FALSE(path.starts_with('.')) << path;
      if (ops.fired() == FailingOps::Kind::kNone) break;
    }
  }
}

TEST(SaveFails, ShortWritesAreGoneOnWith) {
  for (const size_t most : {1U, 7U, 100U}) {
    const TempDirectory directory;
    Prepare(directory);
    FailingOps ops;
    ops.write_limit = most;
    const ScopedFileOps scoped(ops);
    kSaves[0].Write(directory.path());
    ExpectBestAndNothingElse(directory.path(), kSaves[0]);
  }
}

TEST(SaveFails, WithoutTheSpaceNothingIsBegun) {
  const TempDirectory directory;
  Prepare(directory);
  const Tree before = TreeOf(directory.path());
  SmallCheckpoint big = Sample(3);
  big.tensors["big"] = {{1000, 1000}, std::vector<float>(1000000)};
  FailingOps ops;
  ops.free_bytes = 4700000;  // more than its 4 MB, less than 1.2 times that
  const ScopedFileOps scoped(ops);
  ExpectError([&] { WriteCheckpoint(big.View(), directory.path(), {}); }, ErrorCode::kIo,
              "disk: expected 4.9 MB free, found 4.7 MB; free another 0.2 MB");
  EXPECT_EQ(ops.calls(), 0);
  EXPECT_TRUE(TreeOf(directory.path()) == before);
  ops.free_bytes = 4900000;
  WriteCheckpoint(big.View(), directory.path(), {});
  ExpectNewest(directory.path(), big);
}

// A disk of 1 MB. Where this process may not mount one, a limit of the size of files stands for it.
class SmallDisk {
 public:
  SmallDisk() : mounted_(mount("tmpfs", directory_.path().c_str(), "tmpfs", 0, "size=1m") == 0) {
    if (mounted_) return;
    std::printf("no tmpfs (%s): RLIMIT_FSIZE instead\n", std::strerror(errno));
    EXPECT_EQ(getrlimit(RLIMIT_FSIZE, &limit_), 0);
  }
  ~SmallDisk() {
    SetFull(false);
    if (mounted_) umount(directory_.path().c_str());
  }
  std::string path() const { return directory_.path(); }

  void SetFull(bool full) {
    if (!mounted_) {
      const rlimit limit = {full ? rlim_t{50000} : limit_.rlim_cur, limit_.rlim_max};
      EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    } else if (full) {
      std::ofstream(path() + "/filler") << std::string(550000, 'x');
    } else {
      fs::remove(path() + "/filler");
    }
  }

 private:
  TempDirectory directory_;
  bool mounted_;
  rlimit limit_ = {};
};

void FillTheDiskAndTryAgain(FailingOps& ops, std::string_view words) {
  SmallDisk disk;
  SmallCheckpoint first = Sample(1);
  first.tensors["big"] = {{100, 1000}, std::vector<float>(100000, 1)};  // 0.4 MB
  SmallCheckpoint second = first;
  second.step = 2;
  const ScopedFileOps scoped(ops);
  WriteCheckpoint(first.View(), disk.path(), {.keep = 1});
  disk.SetFull(true);
  const Tree before = TreeOf(disk.path());
  ExpectError([&] { WriteCheckpoint(second.View(), disk.path(), {.keep = 1}); }, ErrorCode::kIo, words);
  EXPECT_TRUE(TreeOf(disk.path()) == before);
  ExpectNewest(disk.path(), first);
  disk.SetFull(false);
  WriteCheckpoint(second.View(), disk.path(), {.keep = 1});
  ExpectNewest(disk.path(), second);
}

TEST(SaveFails, OnAFullDisk) {
  void (*const handler)(int) = std::signal(SIGXFSZ, SIG_IGN);  // as the program has it
  FailingOps ops;
  ops.free_bytes = uint64_t{1} << 40;  // so that it is the write that finds out
  FillTheDiskAndTryAgain(ops, "write to it, found: ");
  std::signal(SIGXFSZ, handler);
}

// Runs `action` in a process of its own; true when it killed itself.
bool DiesIn(const std::function<void()>& action) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    try {
      action();
    } catch (...) {
      std::raise(SIGTERM);
    }
    std::raise(SIGINT);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_TRUE(WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGINT) << "signal " << WTERMSIG(status);
  return WTERMSIG(status) == SIGKILL;
}

// What a killed save leaves is swept at the next start, which then goes on.
void ExpectRecovery(const std::string& directory, const Save& save, bool must_be_new, bool may_be_new) {
  {
    const RunLock lock(directory);
    const Newest newest(directory);
    ASSERT_TRUE(newest.checkpoint);
    const SmallCheckpoint found = Load(*newest.checkpoint);
    EXPECT_TRUE((found == Sample(2) && !must_be_new) || (found == save.Content() && may_be_new))
        << ::testing::PrintToString(found);
    EXPECT_EQ(Load(SavedCheckpoint(directory, 1)), Sample(1)) << "the best";
    for (const auto& [path, content] : TreeOf(directory)) EXPECT_FALSE(path.starts_with('.')) << path;
  }
  FailingOps quick;
  const ScopedFileOps scoped(quick);
  save.Write(directory);
  ExpectBestAndNothingElse(directory, save);
}

TEST(SaveKilled, AtEveryNamedPoint) {
  for (const Save& save : kSaves) {
    for (size_t i = 0; i < kKillPointNames.size(); ++i) {
      const std::string point(kKillPointNames[i]);
      if (save.step == 2 && i == static_cast<size_t>(KillPoint::kPruneSetAside)) continue;  // nothing is pruned then
      SCOPED_TRACE(fmt::format("{}, at {}", save.Name(), point));
      const TempDirectory directory;
      Prepare(directory);
      EXPECT_TRUE(DiesIn([&] {
        setenv("GATESKIP_KILL_POINT", point.c_str(), 1);
        FailingOps quick;
        quick.exchange = save.exchange;
        const ScopedFileOps scoped(quick);
        save.Write(directory.path());
      })) << "the point was not reached";
      const bool renamed = i >= static_cast<size_t>(KillPoint::kDirectoryRenamed);
      ExpectRecovery(directory.path(), save, renamed, renamed);
    }
  }
}

TEST(SaveKilled, AtTheSecondPassageOnly) {
  const TempDirectory directory;
  Prepare(directory);
  EXPECT_TRUE(DiesIn([&] {
    setenv("GATESKIP_KILL_POINT", "state-written:2", 1);
    WriteCheckpoint(Sample(3).View(), directory.path(), {.keep = 3});
    WriteCheckpoint(Sample(4).View(), directory.path(), {.keep = 3});
  }));
  ExpectNewest(directory.path(), Sample(3));
}

TEST(SaveKilled, AtEveryCall) {
  for (const Save& save : kSaves) {
    int nth = 1;
    for (bool died = true; died; ++nth) {
      SCOPED_TRACE(fmt::format("{}, at call {}", save.Name(), nth));
      const TempDirectory directory;
      Prepare(directory);
      died = DiesIn([&] {
        FailingOps ops;
        ops.nth = nth;
        ops.kill = true;
        ops.exchange = save.exchange;
        const ScopedFileOps scoped(ops);
        save.Write(directory.path());
      });
      ExpectRecovery(directory.path(), save, !died, true);
      ASSERT_FALSE(HasFailure());
    }
    EXPECT_GT(nth, 20);
  }
}

}  // namespace
}  // namespace gateskip::train::testing
