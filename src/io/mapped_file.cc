// SPDX-License-Identifier: Apache-2.0
#include "io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace gateskip {
namespace {

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) {
    const int error = errno;
    const bool missing = error == ENOENT || error == ENOTDIR;
    Fail(missing ? ErrorCode::kNotFound : ErrorCode::kIo,
         "[{}] file: expected to open it, found: {}; check the path and "
         "its permissions",
         path, std::strerror(error));
  }
  struct stat status = {};
  if (fstat(file.get(), &status) != 0) {
    Fail(ErrorCode::kIo, "[{}] file: expected its size, found: {}; check the file system", path, std::strerror(errno));
  }
  if (!S_ISREG(status.st_mode)) {
    Fail(ErrorCode::kInvalidArgument, "[{}] file: expected a regular file, found {}; name a file", path,
         S_ISDIR(status.st_mode) ? "a directory" : "something else");
  }
  const auto size = static_cast<size_t>(status.st_size);
  if (size == 0) return;
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) {
    Fail(ErrorCode::kIo, "[{}] file: expected to map {} bytes, found: {}; free memory", path, size,
         std::strerror(errno));
  }
  bytes_ = {static_cast<const std::byte*>(data), size};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

void ReleaseMappedPages(std::span<const std::byte> bytes) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<uintptr_t>(bytes.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(bytes.data() + bytes.size()) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace gateskip
