// SPDX-License-Identifier: Apache-2.0
// What a power cut can leave on a disk. RecordingOps does file operations for real and keeps a log of them; CrashDisk
// makes, from a prefix of that log, a directory as the file system may show it after the crash: what was synced is
// there, of the rest any part, in any order. (The model of Pillai et al., OSDI 2014, without assumptions on the file
// system but one: a rename or a swap happens wholly or not at all.)
#pragma once

#include <cstddef>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "io/file_ops.h"

namespace gateskip::testing {

struct DiskEvent {
  enum class Kind { kCreate, kWrite, kFsync, kRename, kExchange, kRemove, kMark };
  Kind kind;
  size_t node = 0;            // the file or directory itself
  size_t directory = 0;       // where its name is
  std::string name = {};      // kCreate, kRemove, kExchange; kRename: the old one
  std::string other = {};     // kRename: the new name; kExchange: the other name
  size_t other_node = 0;      // kExchange
  bool is_directory = false;  // kCreate
  size_t offset = 0;          // kWrite
  std::string data = {};
};

// Inside `root`, which must be empty. Renames stay within one directory, as those of atomic_write do.
class RecordingOps : public FileOps {
 public:
  // can_exchange: false is a file system that cannot swap.
  explicit RecordingOps(std::string root, bool can_exchange = true)
      : root_(std::move(root)), can_exchange_(can_exchange) {}

  // A promise was made to the outside: what was written before must survive from here on.
  void Mark() { events_.push_back({DiskEvent::Kind::kMark}); }
  const std::vector<DiskEvent>& events() const { return events_; }

  int Open(const std::string& path, int flags, mode_t mode) override;
  ssize_t Write(int fd, const void* data, size_t size) override;
  int Fsync(int fd) override;
  int Mkdir(const std::string& path, mode_t mode) override;
  int Rename(const std::string& from, const std::string& to) override;
  int Exchange(const std::string& a, const std::string& b) override;
  int Unlink(const std::string& path) override;
  int Rmdir(const std::string& path) override;

 private:
  struct Place {
    size_t directory;
    std::string name;
  };
  Place PlaceOf(const std::string& path) const;
  size_t NodeAt(const Place& place) const;
  void Created(const std::string& path, bool is_directory);
  void Removed(const std::string& path);

  std::string root_;
  bool can_exchange_;
  std::vector<DiskEvent> events_;
  std::vector<std::map<std::string, size_t>> directories_ = {{}};  // by node; node 0 is the root
  struct OpenFile {
    size_t node;
    size_t offset;
  };
  std::map<int, OpenFile> open_;
};

enum class CrashMode {
  kNothingLost,   // the process died, the machine did not
  kDataLost,      // names are all there, what was written and not synced is not
  kAllLost,       // nothing that was not synced is there
  kLaterLost,     // names up to some moment, and a part of the data
  kAnythingLost,  // any part of names and data, writes torn
};
inline constexpr int kNumCrashModes = 5;

class CrashDisk {
 public:
  // The state after events[0, count).
  CrashDisk(const std::vector<DiskEvent>& events, size_t count, CrashMode mode, std::mt19937& random);

  std::string Description() const;  // equal for equal states
  void WriteTo(const std::string& directory) const;

 private:
  struct Node {
    bool is_directory = false;
    std::map<std::string, size_t> names;
    std::string data;
  };
  void Apply(const DiskEvent& event, std::mt19937* torn);
  void Describe(size_t node, const std::string& path, std::string* out) const;
  void Write(size_t node, const std::string& path) const;

  std::vector<Node> nodes_;
};

}  // namespace gateskip::testing
