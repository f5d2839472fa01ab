// SPDX-License-Identifier: Apache-2.0
// Files and directories that are either the old ones or the new ones, never half of either, whatever fails and wherever
// the power goes: temporary sibling, fsync, rename, fsync of the parent. The order of steps is that of Pillai et al.,
// "All File Systems Are Not Created Equal", OSDI 2014. An fsync that fails is a write that failed: it is not repeated,
// because the kernel reports an error once and drops the pages.
#pragma once

#include <cstddef>
#include <cstdint>
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

// Replaces `path`. Throws Error(kIo), and `path` is what it was; only if the last step fails, the fsync of the folder,
// it is the new one, which a power cut may take back. No other file is left behind.
void WriteFileAtomically(const std::string& path, std::span<const std::byte> bytes);
// The same of a file too large for memory. When it is complete, `check` gets its temporary path and may refuse it by
// throwing.
void WriteFileAtomically(const std::string& path, const std::function<void(FileWriter&)>& fill,
                         const std::function<void(const std::string&)>& check = nullptr);

// Calls fill(temporary directory), which writes and syncs the files in it, then puts that directory in the place of
// `path`. On failure the temporary one is removed and `path` is what it was.
void WriteDirectoryAtomically(const std::string& path, const std::function<void(const std::string&)>& fill);

// Renames it out of the way before it removes what is in it, so that no half of it is ever seen under its name. Never
// follows symbolic links. What cannot be removed stays.
void RemoveDirectory(const std::string& path);

// Clears `directory` of what writers that died left in it. Nobody else may be writing there.
void SweepTemporaries(const std::string& directory);

// Throws Error(kIo), with both figures, unless `bytes` can be written in `directory`. Says nothing of quotas.
void RequireFreeSpace(const std::string& directory, uint64_t bytes);

}  // namespace gateskip
