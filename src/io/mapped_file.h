// SPDX-License-Identifier: Apache-2.0
// A whole file, mapped read-only. A file that shrinks while it is mapped makes reads fail with SIGBUS: do not
// truncate a model in place, replace it (docs/adapter_format.md).
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace gateskip {

class MappedFile {
 public:
  // Throws Error: kNotFound, kInvalidArgument (not a regular file), kIo.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

// Hints that the whole pages inside `bytes` (part of a MappedFile) are not needed for now.
void ReleaseMappedPages(std::span<const std::byte> bytes);

}  // namespace gateskip
