// SPDX-License-Identifier: Apache-2.0
#include "io/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/sha256.h"

namespace gateskip {

InputFile::InputFile(const std::string& path)
    : path_(path), fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {  // a pipe must not block it
  if (fd_ < 0) {
    const int error = errno;
    const bool missing = error == ENOENT || error == ENOTDIR;
    Fail(missing ? ErrorCode::kNotFound : ErrorCode::kIo,
         "[{}] file: expected to open it, found: {}; check the path and its permissions", path, std::strerror(error));
  }
  struct stat status = {};
  const int result = fstat(fd_, &status);
  const int error = errno;
  if (result == 0 && S_ISREG(status.st_mode)) {
    size_ = static_cast<uint64_t>(status.st_size);
    return;
  }
  close(fd_);
  if (result != 0) {
    Fail(ErrorCode::kIo, "[{}] file: expected its size, found: {}; check the file system", path, std::strerror(error));
  }
  Fail(ErrorCode::kInvalidArgument, "[{}] file: expected a regular file, found {}; name a file", path,
       S_ISDIR(status.st_mode) ? "a directory" : "something else");
}

InputFile::~InputFile() { close(fd_); }

void InputFile::ReadAt(uint64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t got = pread(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      Fail(ErrorCode::kIo, "[{}] file: expected to read it, found: {}; check the disk", path_, std::strerror(errno));
    }
    if (got == 0) {
      Fail(ErrorCode::kCorruptData, "[{}] file: expected {} bytes more, found its end at {}; it is truncated", path_,
           bytes.size(), offset);
    }
    offset += static_cast<uint64_t>(got);
    bytes = bytes.subspan(static_cast<size_t>(got));
  }
}

std::string InputFile::Sha256Hex() const {
  constexpr uint64_t kPiece = 1 << 20;
  std::vector<std::byte> buffer(std::min(size_, kPiece));
  Sha256 hash;
  for (uint64_t offset = 0; offset < size_; offset += kPiece) {
    const auto piece = std::span(buffer).first(std::min(size_ - offset, kPiece));
    ReadAt(offset, piece);
    hash.Update(piece);
  }
  return hash.HexDigest();
}

}  // namespace gateskip
