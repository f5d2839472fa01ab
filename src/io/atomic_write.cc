// SPDX-License-Identifier: Apache-2.0
#include "io/atomic_write.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <random>
#include <string_view>

#include "base/check.h"

namespace gateskip {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void FailIo(const std::string& path, const char* action) {
  Fail(ErrorCode::kIo, "[{}] write: expected to {}, found: {}; check space and permissions", path, action,
       std::strerror(errno));
}

std::string TemporarySibling(const fs::path& path) {
  std::random_device random;
  fs::path clean = path;
  if (clean.filename().empty()) clean = clean.parent_path();  // "dir/" names dir
  return (clean.parent_path() / fmt::format(".{}.tmp-{:08x}{:08x}", clean.filename().string(), random(), random()))
      .string();
}

void SyncPath(const std::string& path, int flags) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC);
  if (fd < 0) FailIo(path, "open it for syncing");
  const int result = fsync(fd);
  const int error = errno;
  close(fd);
  errno = error;
  if (result != 0) FailIo(path, "sync it");
}

std::string ParentOf(const std::string& path) {
  fs::path clean = path;
  if (clean.filename().empty()) clean = clean.parent_path();
  const fs::path parent = clean.parent_path();
  return parent.empty() ? "." : parent.string();
}

}  // namespace

FileWriter::FileWriter(const std::string& path)
    : path_(path), fd_(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) {
  if (fd_ < 0) FailIo(path_, "create it");
}

FileWriter::~FileWriter() {
  if (fd_ >= 0) close(fd_);
}

void FileWriter::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) FailIo(path_, "write to it");
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void FileWriter::SyncAndClose() {
  if (fsync(fd_) != 0) FailIo(path_, "sync it");
  const int fd = fd_;
  fd_ = -1;
  if (close(fd) != 0) FailIo(path_, "close it");
}

void WriteFileAtomically(const std::string& path, std::span<const std::byte> bytes) {
  WriteFileAtomically(path, [bytes](FileWriter& file) { file.Write(bytes); });
}

void WriteFileAtomically(const std::string& path, const std::function<void(FileWriter&)>& fill,
                         const std::function<void(const std::string&)>& check) {
  const std::string temporary = TemporarySibling(path);
  try {
    {
      FileWriter file(temporary);
      fill(file);
      file.SyncAndClose();
    }
    if (check) check(temporary);
    if (rename(temporary.c_str(), path.c_str()) != 0) FailIo(path, "replace it");
  } catch (...) {
    unlink(temporary.c_str());
    throw;
  }
  SyncPath(ParentOf(path), O_RDONLY | O_DIRECTORY);
}

void WriteDirectoryAtomically(const std::string& path, const std::function<void(const std::string&)>& fill) {
  const std::string temporary = TemporarySibling(path);
  const std::string old = TemporarySibling(path);
  std::error_code error;
  try {
    if (!fs::create_directory(temporary)) FailIo(temporary, "create it");
    fill(temporary);
    SyncPath(temporary, O_RDONLY | O_DIRECTORY);
    const bool exists = fs::exists(path);
    // Swaps the two in one step where the file system can, so that there is a directory at `path` at every moment.
    if (exists && renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) == 0) {
      fs::remove_all(temporary, error);
      SyncPath(ParentOf(path), O_RDONLY | O_DIRECTORY);
      return;
    }
    if (exists && rename(fs::path(path).c_str(), old.c_str()) != 0) FailIo(path, "set the old one aside");
    if (rename(temporary.c_str(), path.c_str()) != 0) {
      const int reason = errno;
      if (exists) fs::rename(old, path, error);
      errno = reason;
      FailIo(path, "put the new one in place");
    }
    fs::remove_all(old, error);
  } catch (const fs::filesystem_error& e) {
    fs::remove_all(temporary, error);
    Fail(ErrorCode::kIo, "[{}] write: expected to create it, found: {}; check space and permissions", path,
         e.code().message());
  } catch (...) {
    fs::remove_all(temporary, error);
    throw;
  }
  SyncPath(ParentOf(path), O_RDONLY | O_DIRECTORY);
}

}  // namespace gateskip
