// SPDX-License-Identifier: Apache-2.0
#include "io/atomic_write.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <random>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "io/file_ops.h"
#include "io/kill_point.h"

namespace gateskip {
namespace {

namespace fs = std::filesystem;

// Names of what is not finished: ".NAME.tmp-<16 digits>" goes, ".NAME.old-<16 digits>" is what NAME was before.
constexpr std::string_view kTemporary = ".tmp-";
constexpr std::string_view kOld = ".old-";
constexpr size_t kDigits = 16;

const char* Remedy(int error) {
  switch (error) {
    case ENOSPC:
      return "free space on the disk";
    case EDQUOT:
      return "free space or raise the quota";
    case EFBIG:
      return "raise the limit of file sizes (ulimit -f)";
    case EIO:
      return "check the disk";
    default:
      return "check space and permissions";
  }
}

[[noreturn]] void FailIo(const std::string& path, const char* action) {
  const int error = errno;
  Fail(ErrorCode::kIo, "[{}] write: expected to {}, found: {}; {}", path, action, std::strerror(error), Remedy(error));
}

fs::path Clean(const std::string& path) {
  const fs::path clean = path;
  return clean.filename().empty() ? clean.parent_path() : clean;  // "dir/" names dir
}

std::string Sibling(const std::string& path, std::string_view kind) {
  std::random_device random;
  const fs::path clean = Clean(path);
  const std::string name = fmt::format(".{}{}{:08x}{:08x}", clean.filename().string(), kind, random(), random());
  return (clean.parent_path() / name).string();
}

// The NAME of a sibling of this kind, or "".
std::string NameOfSibling(const std::string& name, std::string_view kind) {
  const size_t extra = 1 + kind.size() + kDigits;
  if (!name.starts_with('.') || name.size() <= extra) return "";
  const std::string_view end = std::string_view(name).substr(name.size() - kind.size() - kDigits);
  if (!end.starts_with(kind) || end.find_first_not_of("0123456789abcdef", kind.size()) != end.npos) return "";
  return name.substr(1, name.size() - extra);
}

std::string ParentOf(const std::string& path) {
  const fs::path parent = Clean(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

int OpenAgainWhenInterrupted(const std::string& path, int flags) {
  int fd;
  do {
    fd = Files().Open(path, flags, 0644);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

void SyncDirectory(const std::string& path) {
  const int fd = OpenAgainWhenInterrupted(path, O_RDONLY | O_DIRECTORY);
  if (fd < 0) FailIo(path, "open it for syncing");
  const int result = Files().Fsync(fd);
  const int error = errno;
  Files().Close(fd);
  errno = error;
  if (result != 0) FailIo(path, "sync it");
}

void RemoveTree(const std::string& path) {
  std::error_code error;
  if (!fs::is_directory(fs::symlink_status(path, error))) {
    Files().Unlink(path);
    return;
  }
  std::vector<std::string> inside;
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    inside.push_back(it->path().string());
  }
  std::ranges::sort(inside);  // the same order every time, for tests that count calls
  for (const std::string& child : inside) RemoveTree(child);
  Files().Rmdir(path);
}

// The name is on the disk, or `undo` runs and the error goes on.
template <typename Undo>
void SyncParentOr(const std::string& path, const Undo& undo) {
  try {
    SyncDirectory(ParentOf(path));
  } catch (const Error&) {
    undo();
    throw;
  }
}

void PutInPlace(const std::string& temporary, const std::string& target) {
  const std::string path = Clean(target).string();
  std::error_code error;
  if (!fs::exists(path, error)) {
    if (Files().Rename(temporary, path) != 0) FailIo(path, "put the new one in place");
    GS_KILL_POINT(kDirectoryRenamed);
    SyncParentOr(path, [&] { Files().Rename(path, temporary); });
    return;
  }
  // Swaps the two in one step where the file system can, so that there is a directory at `path` at every moment.
  if (Files().Exchange(temporary, path) == 0) {
    GS_KILL_POINT(kDirectoryRenamed);
    SyncParentOr(path, [&] { Files().Exchange(temporary, path); });
    RemoveTree(temporary);
    return;
  }
  if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP) FailIo(path, "swap it with the new one");
  const std::string old = Sibling(path, kOld);  // found again by SweepTemporaries
  if (Files().Rename(path, old) != 0) FailIo(path, "set the old one aside");
  if (Files().Rename(temporary, path) != 0) {
    const int reason = errno;
    Files().Rename(old, path);
    errno = reason;
    FailIo(path, "put the new one in place");
  }
  GS_KILL_POINT(kDirectoryRenamed);
  SyncParentOr(path, [&] {
    Files().Rename(path, temporary);
    Files().Rename(old, path);
  });
  RemoveTree(old);
  try {
    SyncDirectory(ParentOf(path));  // or SweepTemporaries may one day find two of them, and this one emptied
  } catch (const Error&) {          // the new one is there and durable all the same
  }
}

}  // namespace

FileWriter::FileWriter(const std::string& path)
    : path_(path), fd_(OpenAgainWhenInterrupted(path, O_WRONLY | O_CREAT | O_EXCL)) {
  if (fd_ < 0) FailIo(path_, "create it");
}

FileWriter::~FileWriter() {
  if (fd_ >= 0) Files().Close(fd_);
}

void FileWriter::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = Files().Write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written == 0) errno = ENOSPC;
    if (written <= 0) FailIo(path_, "write to it");
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void FileWriter::SyncAndClose() {
  if (Files().Fsync(fd_) != 0) FailIo(path_, "sync it");
  const int fd = fd_;
  fd_ = -1;  // closed on Linux even where close fails
  if (Files().Close(fd) != 0 && errno != EINTR) FailIo(path_, "close it");
}

void WriteFileAtomically(const std::string& path, std::span<const std::byte> bytes) {
  WriteFileAtomically(path, [bytes](FileWriter& file) { file.Write(bytes); });
}

void WriteFileAtomically(const std::string& path, const std::function<void(FileWriter&)>& fill,
                         const std::function<void(const std::string&)>& check) {
  const std::string temporary = Sibling(path, kTemporary);
  try {
    {
      FileWriter file(temporary);
      fill(file);
      file.SyncAndClose();
    }
    if (check) check(temporary);
    if (Files().Rename(temporary, path) != 0) FailIo(path, "replace it");
  } catch (...) {
    Files().Unlink(temporary);
    throw;
  }
  SyncDirectory(ParentOf(path));
}

void WriteDirectoryAtomically(const std::string& path, const std::function<void(const std::string&)>& fill) {
  const std::string temporary = Sibling(path, kTemporary);
  if (Files().Mkdir(temporary, 0777) != 0) FailIo(path, "create a directory beside it");
  try {
    fill(temporary);
    SyncDirectory(temporary);
    GS_KILL_POINT(kDirectorySynced);
    PutInPlace(temporary, path);
  } catch (const fs::filesystem_error& e) {
    RemoveTree(temporary);
    Fail(ErrorCode::kIo, "[{}] write: expected to create it, found: {}; check space and permissions", path,
         e.code().message());
  } catch (...) {
    RemoveTree(temporary);
    throw;
  }
}

void RemoveDirectory(const std::string& path) {
  const std::string temporary = Sibling(path, kTemporary);
  if (Files().Rename(path, temporary) != 0) return;
  GS_KILL_POINT(kPruneSetAside);
  RemoveTree(temporary);
}

void SweepTemporaries(const std::string& directory) {
  std::error_code error;
  std::vector<fs::path> found;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    found.push_back(it->path());
  }
  for (const fs::path& path : found) {
    const std::string name = path.filename().string();
    const std::string before = NameOfSibling(name, kOld);
    if (!before.empty() && !fs::exists(path.parent_path() / before, error)) {
      Files().Rename(path.string(), (path.parent_path() / before).string());
    } else if (!before.empty() || !NameOfSibling(name, kTemporary).empty()) {
      RemoveTree(path.string());
    }
  }
}

void RequireFreeSpace(const std::string& directory, uint64_t bytes) {
  uint64_t free = 0;
  if (Files().FreeBytes(directory, &free) != 0) FailIo(directory, "learn its free space");
  if (free >= bytes) return;
  constexpr double kMega = 1e6;
  Fail(ErrorCode::kIo, "[{}] disk: expected {:.1f} MB free, found {:.1f} MB; free another {:.1f} MB", directory,
       static_cast<double>(bytes) / kMega, static_cast<double>(free) / kMega,
       static_cast<double>(bytes - free) / kMega);
}

}  // namespace gateskip
