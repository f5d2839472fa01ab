// SPDX-License-Identifier: Apache-2.0
// File operations that fail, or kill the process, at the n-th call of the kinds that put something on the disk: open,
// write, fsync, mkdir, rename and exchange. Nothing is really synced: tests need not wait for the disk.
#pragma once

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <string>

#include "io/file_ops.h"

namespace gateskip::testing {

class FailingOps : public FileOps {
 public:
  enum class Kind { kNone, kOpen, kWrite, kFsync, kMkdir, kRename };

  int nth = 0;              // counted from 1; 0: none
  int error = EIO;          // what it fails with
  bool sticky = false;      // all calls from then on, too
  bool kill = false;        // dies instead, a write after its first half
  bool exchange = true;     // false: a file system that cannot swap
  size_t write_limit = 0;   // most bytes a write takes; 0: all
  uint64_t free_bytes = 0;  // what FreeBytes says; 0: the truth

  int calls() const { return calls_; }
  Kind fired() const { return fired_; }  // kind of the first call that failed

  int Open(const std::string& path, int flags, mode_t mode) override {
    return Fires(Kind::kOpen) ? -1 : FileOps::Open(path, flags, mode);
  }
  ssize_t Write(int fd, const void* data, size_t size) override {
    if (kill && calls_ + 1 == nth) FileOps::Write(fd, data, size / 2);
    if (Fires(Kind::kWrite)) return -1;
    return FileOps::Write(fd, data, write_limit > 0 && size > write_limit ? write_limit : size);
  }
  int Fsync(int) override { return Fires(Kind::kFsync) ? -1 : 0; }
  int Mkdir(const std::string& path, mode_t mode) override {
    return Fires(Kind::kMkdir) ? -1 : FileOps::Mkdir(path, mode);
  }
  int Rename(const std::string& from, const std::string& to) override {
    return Fires(Kind::kRename) ? -1 : FileOps::Rename(from, to);
  }
  int Exchange(const std::string& a, const std::string& b) override {
    if (!exchange) {
      errno = EINVAL;
      return -1;
    }
    return Fires(Kind::kRename) ? -1 : FileOps::Exchange(a, b);
  }
  int FreeBytes(const std::string& directory, uint64_t* bytes) override {
    if (free_bytes == 0) return FileOps::FreeBytes(directory, bytes);
    *bytes = free_bytes;
    return 0;
  }

 private:
  bool Fires(Kind kind) {
    ++calls_;
    if (nth == 0 || !(calls_ == nth || (sticky && calls_ > nth))) return false;
    if (kill) std::raise(SIGKILL);
    if (fired_ == Kind::kNone) fired_ = kind;
    errno = error;
    return true;
  }

  int calls_ = 0;
  Kind fired_ = Kind::kNone;
};

}  // namespace gateskip::testing
