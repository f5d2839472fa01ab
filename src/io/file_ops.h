// SPDX-License-Identifier: Apache-2.0
// The system calls that change files, as one replaceable table. Everything that writes durably (atomic_write, and
// through it checkpoints and adapters) goes through Files(), so that tests can make the n-th call fail, record what
// was done, or die in the middle.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace gateskip {

// Each as the system call of its name: -1 and errno on failure. No call is repeated here.
class FileOps {
 public:
  virtual ~FileOps() = default;
  virtual int Open(const std::string& path, int flags, mode_t mode);
  virtual ssize_t Write(int fd, const void* data, size_t size);
  virtual int Fsync(int fd);
  virtual int Close(int fd);
  virtual int Mkdir(const std::string& path, mode_t mode);
  virtual int Rename(const std::string& from, const std::string& to);
  // renameat2 with RENAME_EXCHANGE: swaps the two in one step. Some file systems (NFS) have it not: EINVAL.
  virtual int Exchange(const std::string& a, const std::string& b);
  virtual int Unlink(const std::string& path);
  virtual int Rmdir(const std::string& path);
  // Bytes this process may still write on the file system of `directory`.
  virtual int FreeBytes(const std::string& directory, uint64_t* bytes);
};

FileOps& Files();

// Puts `ops` in the place of the real ones while it lives. Not for use by several threads at once.
class ScopedFileOps {
 public:
  explicit ScopedFileOps(FileOps& ops);
  ~ScopedFileOps();
  ScopedFileOps(const ScopedFileOps&) = delete;
  ScopedFileOps& operator=(const ScopedFileOps&) = delete;

 private:
  FileOps* before_;
};

}  // namespace gateskip
