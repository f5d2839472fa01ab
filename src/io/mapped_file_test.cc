// SPDX-License-Identifier: Apache-2.0
#include "io/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "io/testing/expect_error.h"
#include "io/testing/temp_directory.h"

namespace gateskip::testing {
namespace {

std::string Text(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(MappedFile, HoldsTheWholeFile) {
  const TempDirectory directory;
  const std::string text = std::string(10000, 'x') + "end";
  const MappedFile file(directory.Write("f", text));
  EXPECT_EQ(Text(file), text);
  ReleaseMappedPages(file.bytes());
  ReleaseMappedPages(file.bytes().subspan(5, 3));
  EXPECT_EQ(Text(file), text) << "released pages come back";
}

TEST(MappedFile, SurvivesReplacementOfItsFile) {
  const TempDirectory directory;
  const MappedFile file(directory.Write("f", "old"));
  std::filesystem::rename(directory.Write("g", "newer"), directory / "f");
  EXPECT_EQ(Text(file), "old");
}

TEST(MappedFile, EmptyFile) {
  const TempDirectory directory;
  const MappedFile file(directory.Write("f", ""));
  EXPECT_TRUE(file.bytes().empty());
  ReleaseMappedPages(file.bytes());
}

TEST(MappedFile, RefusesWhatIsNoFile) {
  const TempDirectory directory;
  ExpectError([&] { MappedFile(directory.path()); }, ErrorCode::kInvalidArgument, "a regular file, found a directory");
  ExpectError([&] { MappedFile(directory / "absent"); }, ErrorCode::kNotFound, "No such file");
  ExpectError([&] { MappedFile(directory.Write("f", "x") + "/y"); }, ErrorCode::kNotFound, "Not a directory");
  ExpectError([&] { MappedFile(directory / std::string(300, 'n')); }, ErrorCode::kIo, "name too long");
  ExpectError([&] { MappedFile(""); }, ErrorCode::kNotFound, "[]");
  // Opening a pipe without a writer must not wait for one.
  ASSERT_EQ(mkfifo((directory / "pipe").c_str(), 0600), 0);
  ExpectError([&] { MappedFile(directory / "pipe"); }, ErrorCode::kInvalidArgument, "found something else");
  ExpectError([&] { MappedFile("/dev/zero"); }, ErrorCode::kInvalidArgument, "found something else");
  std::filesystem::create_symlink("loop", directory / "loop");
  ExpectError([&] { MappedFile(directory / "loop"); }, ErrorCode::kIo, "symbolic links");
}

TEST(MappedFile, RefusesAnUnreadableFile) {
  const TempDirectory directory;
  const std::string path = directory.Write("f", "x");
  ASSERT_EQ(chmod(path.c_str(), 0), 0);
  const uid_t self = geteuid();
  if (self == 0) {  // who reads everything: become nobody for a moment
    ASSERT_EQ(chmod(directory.path().c_str(), 0755), 0);
    if (seteuid(65534) != 0) GTEST_SKIP() << "root reads everything, and may not become another user here";
  }
  ExpectError([&] { MappedFile file(path); }, ErrorCode::kIo, "Permission denied");
  ASSERT_EQ(seteuid(self), 0);
}

}  // namespace
}  // namespace gateskip::testing
