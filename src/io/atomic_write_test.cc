// SPDX-License-Identifier: Apache-2.0
// Whatever goes wrong while writing, the target stays what it was and no temporary file stays behind.
#include "io/atomic_write.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <thread>

#include "io/testing/crash_disk.h"
#include "io/testing/expect_error.h"
#include "io/testing/failing_ops.h"
#include "io/testing/temp_directory.h"

namespace gateskip::testing {
namespace {

namespace fs = std::filesystem;
using Names = std::set<std::string>;

// While it lives, no file can grow beyond `bytes`: writing fails in the middle, as it does on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    EXPECT_EQ(getrlimit(RLIMIT_FSIZE, &old_), 0);
    const rlimit limit = {bytes, old_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit old_ = {};
  void (*handler_)(int);
};

TEST(WriteFileAtomically, WritesAndReplaces) {
  const TempDirectory directory;
  const std::string path = directory / "f";
  const std::string large(1 << 20, 'x');
  for (const std::string& text : {std::string("one"), large, std::string()}) {
    WriteFileAtomically(path, AsBytes(text));
    EXPECT_EQ(ReadBack(path), text);
    EXPECT_EQ(directory.Names(), Names{"f"});
  }
  struct stat status = {};
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0600U, 0600U);
}

TEST(WriteFileAtomically, ARelativePathWorks) {
  const TempDirectory directory;
  const fs::path old = fs::current_path();
  fs::current_path(directory.path());
  EXPECT_NO_THROW(WriteFileAtomically("plain", AsBytes("x")));
  fs::current_path(old);
  EXPECT_EQ(directory.Names(), Names{"plain"});
}

TEST(WriteFileAtomically, AFullDiskLeavesTheOldFile) {
  const TempDirectory directory;
  const std::string path = directory.Write("f", "old");
  {
    const FileSizeLimit limit(1000);
    ExpectError([&] { WriteFileAtomically(path, AsBytes(std::string(4096, 'x'))); }, ErrorCode::kIo, "write to it");
  }
  EXPECT_EQ(ReadBack(path), "old");
  EXPECT_EQ(directory.Names(), Names{"f"});
}

TEST(WriteFileAtomically, PiecesMakeOneFile) {
  const TempDirectory directory;
  const std::string path = directory / "f";
  WriteFileAtomically(path, [](FileWriter& file) {
    for (const char* piece : {"one", "", " two"}) file.Write(AsBytes(piece));
  });
  EXPECT_EQ(ReadBack(path), "one two");
  EXPECT_EQ(directory.Names(), Names{"f"});
}

TEST(WriteFileAtomically, AFileThatIsRefusedNeverAppears) {
  const TempDirectory directory;
  const std::string path = directory.Write("f", "old");
  std::string seen;
  ExpectError(
      [&] {
        WriteFileAtomically(
            path, [](FileWriter& file) { file.Write(AsBytes("new")); },
            [&](const std::string& temporary) {
              seen = ReadBack(temporary);
              throw Error(ErrorCode::kMismatch, "[t] check: expected another, found new; stop");
            });
      },
      ErrorCode::kMismatch, "found new");
  EXPECT_EQ(seen, "new");
  EXPECT_EQ(ReadBack(path), "old");
  {
    const FileSizeLimit limit(1000);
    ExpectError(
        [&] {
          WriteFileAtomically(path, [](FileWriter& file) {
            for (int i = 0; i < 20; ++i) file.Write(AsBytes(std::string(100, 'x')));
          });
        },
        ErrorCode::kIo, "write to it");
  }
  EXPECT_EQ(ReadBack(path), "old");
  EXPECT_EQ(directory.Names(), Names{"f"});
}

TEST(WriteFileAtomically, RefusedPlacesAreLeftAlone) {
  const TempDirectory directory;
  ExpectError([&] { WriteFileAtomically(directory / "absent/f", AsBytes("x")); }, ErrorCode::kIo, "create it");
  ExpectError([&] { WriteFileAtomically(directory / std::string(250, 'n'), AsBytes("x")); }, ErrorCode::kIo,
              "create it");
  directory.Write("f", "x");
  ExpectError([&] { WriteFileAtomically(directory / "f/g", AsBytes("x")); }, ErrorCode::kIo, "create it");
  fs::create_directory(directory / "d");
  ExpectError([&] { WriteFileAtomically(directory / "d", AsBytes("x")); }, ErrorCode::kIo, "replace it");
  EXPECT_EQ(directory.Names(), (Names{"d", "f"}));
}

void FillWith(const std::string& path, std::string_view text) { WriteFileAtomically(path + "/inside", AsBytes(text)); }

TEST(WriteDirectoryAtomically, WritesAndReplaces) {
  const TempDirectory directory;
  for (const char* slash : {"", "/"}) {
    const std::string path = directory / "d";
    WriteDirectoryAtomically(path + slash, [](const std::string& t) { FillWith(t, "one"); });
    EXPECT_EQ(ReadBack(path + "/inside"), "one");
    WriteDirectoryAtomically(path + slash,
                             [](const std::string& t) { WriteFileAtomically(t + "/other", AsBytes("two")); });
    EXPECT_EQ(ReadBack(path + "/other"), "two");
    EXPECT_FALSE(fs::exists(path + "/inside")) << "replaced, not merged";
    EXPECT_EQ(directory.Names(), Names{"d"});
  }
}

TEST(WriteDirectoryAtomically, AFailingFillLeavesTheOldOne) {
  const TempDirectory directory;
  const std::string path = directory / "d";
  WriteDirectoryAtomically(path, [](const std::string& t) { FillWith(t, "old"); });
  const auto fail_after = [&](const auto& thrown) {
    return [&](const std::string& t) {
      FillWith(t, "half");
      throw thrown;
    };
  };
  EXPECT_THROW(WriteDirectoryAtomically(path, fail_after(std::runtime_error("x"))), std::runtime_error);
  EXPECT_THROW(WriteDirectoryAtomically(path, fail_after(Error(ErrorCode::kCancelled, "x"))), Error);
  ExpectError([&] { WriteDirectoryAtomically(path, [](const std::string& t) { fs::create_directory(t + "/a/b"); }); },
              ErrorCode::kIo, "[" + path + "] write");
  {
    const FileSizeLimit limit(1000);
    ExpectError(
        [&] { WriteDirectoryAtomically(path, [](const std::string& t) { FillWith(t, std::string(4096, 'x')); }); },
        ErrorCode::kIo, "write to it");
  }
  EXPECT_EQ(ReadBack(path + "/inside"), "old");
  EXPECT_EQ(directory.Names(), Names{"d"});
}

TEST(WriteDirectoryAtomically, RefusedPlacesAreLeftAlone) {
  const TempDirectory directory;
  const auto fill = [](const std::string& t) { FillWith(t, "x"); };
  ExpectError([&] { WriteDirectoryAtomically(directory / "absent/d", fill); }, ErrorCode::kIo, "write");
  fs::create_symlink("nowhere", directory / "link");
  ExpectError([&] { WriteDirectoryAtomically(directory / "link", fill); }, ErrorCode::kIo, "put the new one in place");
  EXPECT_EQ(directory.Names(), Names{"link"});
}

std::string Inside(const std::string& path) { return ReadBack(fs::is_directory(path) ? path + "/inside" : path); }

// A way to put `text` at `path`, and whether the file system can swap directories.
struct Way {
  const char* name;
  void (*write)(const std::string& path, std::string_view text);
  bool exchange;
};
const Way kWays[] = {
    {"file", [](const std::string& path, std::string_view text) { WriteFileAtomically(path, AsBytes(text)); }, true},
    {"directory",
     [](const std::string& path, std::string_view text) {
       WriteDirectoryAtomically(path, [&](const std::string& t) { FillWith(t, text); });
     },
     true},
    {"directory, two renames",
     [](const std::string& path, std::string_view text) {
       WriteDirectoryAtomically(path, [&](const std::string& t) { FillWith(t, text); });
     },
     false},
};

TEST(AtomicWrite, WhicheverCallFailsTheOldOneStays) {
  for (const Way& way : kWays) {
    for (const bool exists : {false, true}) {
      int refused = 0;
      for (int nth = 1;; ++nth) {
        SCOPED_TRACE(std::string(way.name) + ", call " + std::to_string(nth));
        const TempDirectory directory;
        const std::string path = directory / "x";
        FailingOps ops;
        ops.exchange = way.exchange;
        const ScopedFileOps scoped(ops);
        if (exists) way.write(path, "old");
        ops.nth = ops.calls() + nth;
        try {
          way.write(path, "new");
          EXPECT_EQ(Inside(path), "new");
          break;
        } catch (const Error& e) {
          EXPECT_EQ(e.code(), ErrorCode::kIo);
          ++refused;
        }
        // The file's last step, the fsync of the folder, fails when the new one is there already: it says so.
        const bool there = std::string_view(way.name) == "file" && ReadBack(path) == "new";
        EXPECT_EQ(there, std::string_view(way.name) == "file" && nth > 4) << "open, write, fsync and rename come first";
        EXPECT_EQ(directory.Names(), exists || there ? Names{"x"} : Names{});
        if (exists && !there) {
          EXPECT_EQ(Inside(path), "old");
        }
        ASSERT_FALSE(HasFailure());
      }
      EXPECT_GE(refused, 6);
    }
  }
}

// Where the file system cannot swap, a power cut may leave the old directory under its other name only.
TEST(AtomicWrite, WhereverThePowerGoesTheOldOrTheNewIsThere) {
  for (const Way& way : kWays) {
    const TempDirectory directory;
    RecordingOps ops(directory.path(), way.exchange);
    {
      const ScopedFileOps scoped(ops);
      for (const char* text : {"0", "1", "2"}) {
        way.write(directory / "x", text);
        ops.Mark();
      }
    }
    std::mt19937 random(3);
    int done = 0;
    for (size_t count = 0; count <= ops.events().size(); ++count) {
      if (count > 0 && ops.events()[count - 1].kind == DiskEvent::Kind::kMark) ++done;
      for (int i = 0; i < 20; ++i) {
        SCOPED_TRACE(std::string(way.name) + " after " + std::to_string(count) + ", try " + std::to_string(i));
        const TempDirectory crashed;
        CrashDisk(ops.events(), count, static_cast<CrashMode>(i % kNumCrashModes), random).WriteTo(crashed.path());
        SweepTemporaries(crashed.path());
        const std::string found = fs::exists(crashed / "x") ? Inside(crashed / "x") : "none";
        const std::string last = done > 0 ? std::to_string(done - 1) : "none";
        EXPECT_TRUE(found == last || found == std::to_string(done)) << found << " after " << done;
        EXPECT_EQ(crashed.Names(), found == "none" ? Names{} : Names{"x"});
        ASSERT_FALSE(HasFailure());
      }
    }
    EXPECT_EQ(done, 3);
  }
}

TEST(WriteDirectoryAtomically, AReaderSeesOneOrTheOtherAtEveryMoment) {
  const TempDirectory directory;
  const std::string path = directory / "d";
  WriteDirectoryAtomically(path, [](const std::string& t) { FillWith(t, "old"); });
  std::atomic<bool> done = false;
  std::atomic<int> missing = 0;
  std::thread reader([&] {
    while (!done) missing += fs::exists(path) ? 0 : 1;
  });
  for (int i = 0; i < 100; ++i) WriteDirectoryAtomically(path, [](const std::string& t) { FillWith(t, "new"); });
  done = true;
  reader.join();
  EXPECT_EQ(missing, 0);
}

}  // namespace
}  // namespace gateskip::testing
