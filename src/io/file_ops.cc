// SPDX-License-Identifier: Apache-2.0
#include "io/file_ops.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

namespace gateskip {
namespace {

std::atomic<FileOps*> replacement{nullptr};

}  // namespace

int FileOps::Open(const std::string& path, int flags, mode_t mode) {
  return open(path.c_str(), flags | O_CLOEXEC, mode);
}
ssize_t FileOps::Write(int fd, const void* data, size_t size) { return write(fd, data, size); }
int FileOps::Fsync(int fd) { return fsync(fd); }
int FileOps::Close(int fd) { return close(fd); }
int FileOps::Mkdir(const std::string& path, mode_t mode) { return mkdir(path.c_str(), mode); }
int FileOps::Rename(const std::string& from, const std::string& to) { return rename(from.c_str(), to.c_str()); }
int FileOps::Exchange(const std::string& a, const std::string& b) {
  return renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE);
}
int FileOps::Unlink(const std::string& path) { return unlink(path.c_str()); }
int FileOps::Rmdir(const std::string& path) { return rmdir(path.c_str()); }

int FileOps::FreeBytes(const std::string& directory, uint64_t* bytes) {
  struct statvfs status = {};
  if (statvfs(directory.c_str(), &status) != 0) return -1;
  *bytes = uint64_t{status.f_bavail} * status.f_frsize;
  return 0;
}

FileOps& Files() {
  static FileOps real;
  FileOps* ops = replacement.load();
  return ops != nullptr ? *ops : real;
}

ScopedFileOps::ScopedFileOps(FileOps& ops) : before_(replacement.exchange(&ops)) {}
ScopedFileOps::~ScopedFileOps() { replacement.store(before_); }

}  // namespace gateskip
