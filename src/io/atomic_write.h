// SPDX-License-Identifier: Apache-2.0
// Files and directories that are either the old ones or the new ones, never half of either: temporary sibling,
// fsync, rename, fsync of the parent.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

namespace gateskip {

// A new file, written piece by piece. Throws Error(kIo); what is written so far then stays for the caller to remove.
class FileWriter {
 public:
  explicit FileWriter(const std::string& path);  // which must not exist
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void Write(std::span<const std::byte> bytes);
  void SyncAndClose();  // the last call

 private:
  std::string path_;
  int fd_;
};

// Replaces `path`. Throws Error(kIo); nothing is left behind on failure.
void WriteFileAtomically(const std::string& path, std::span<const std::byte> bytes);
// The same of a file too large for memory. When it is complete, `check` gets its temporary path and may refuse it by
// throwing.
void WriteFileAtomically(const std::string& path, const std::function<void(FileWriter&)>& fill,
                         const std::function<void(const std::string&)>& check = nullptr);

// Calls fill(temporary directory), then puts that directory in the place of `path`. On failure the temporary one is
// removed and `path` is what it was.
void WriteDirectoryAtomically(const std::string& path, const std::function<void(const std::string&)>& fill);

}  // namespace gateskip
