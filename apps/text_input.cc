// SPDX-License-Identifier: Apache-2.0
#include "text_input.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/check.h"
#include "terminal.h"

namespace gateskip::cli {
namespace {

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ > STDERR_FILENO) close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

std::string ReadTextFile(const std::string& path, size_t max_bytes) {
  const bool standard_input = path == "-";
  const std::string shown = standard_input ? "stdin" : Printable(path);
  const FileDescriptor fd(standard_input ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) {
    const int error = errno;
    const bool absent = error == ENOENT || error == ENOTDIR;
    Fail(absent ? ErrorCode::kNotFound : ErrorCode::kIo, "[{}] file: expected a readable text file, found '{}'", shown,
         std::strerror(error));
  }
  struct stat status {};
  if (fstat(fd.get(), &status) == 0 && S_ISDIR(status.st_mode)) {
    Fail(ErrorCode::kIo, "[{}] file: expected a text file, found a directory", shown);
  }
  std::string text;
  std::array<char, 1 << 16> block;
  while (true) {
    const ssize_t count = read(fd.get(), block.data(), block.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) Fail(ErrorCode::kIo, "[{}] read: expected success, found '{}'", shown, std::strerror(errno));
    if (count == 0) return text;
    text.append(block.data(), static_cast<size_t>(count));
    if (text.size() > max_bytes) {
      Fail(ErrorCode::kLimitExceeded, "[{}] size: expected at most {} bytes, found more; use a shorter text", shown,
           max_bytes);
    }
  }
}

std::string ReadText(const TextSource& source, size_t max_bytes) {
  if (source.text) return *source.text;
  if (!source.file.empty()) return ReadTextFile(source.file, max_bytes);
  if (IsTerminal(stdin)) {
    Fail(ErrorCode::kInvalidArgument, "[command line] text: expected -p TEXT, -f FILE or a pipe, found none of them");
  }
  return ReadTextFile("-", max_bytes);
}

}  // namespace gateskip::cli
