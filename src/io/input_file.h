// SPDX-License-Identifier: Apache-2.0
// A regular file, open for reading. Read with pread, not mapped: a file that shrinks or a disk that fails ends in an
// Error instead of SIGBUS, and what was read does not stay in the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace gateskip {

class InputFile {
 public:
  // Throws Error: kNotFound, kInvalidArgument (not a regular file), kIo.
  explicit InputFile(const std::string& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }  // when it was opened

  // Fills `bytes` from `offset` on. Throws Error: kCorruptData (the file ends before), kIo.
  void ReadAt(uint64_t offset, std::span<std::byte> bytes) const;
  // Lower-case digits of the SHA-256 of the size() bytes, read piece by piece. Throws as ReadAt.
  std::string Sha256Hex() const;

 private:
  std::string path_;
  int fd_;
  uint64_t size_ = 0;
};

}  // namespace gateskip
