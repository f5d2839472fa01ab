// SPDX-License-Identifier: Apache-2.0
#include "io/testing/crash_disk.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>

namespace gateskip::testing {
namespace {

namespace fs = std::filesystem;
using Kind = DiskEvent::Kind;

}  // namespace

RecordingOps::Place RecordingOps::PlaceOf(const std::string& path) const {
  const fs::path relative = fs::path(path).lexically_relative(root_);
  size_t node = 0;
  for (const fs::path& part : relative.parent_path()) node = directories_.at(node).at(part.string());
  return {node, relative.filename().string()};
}

size_t RecordingOps::NodeAt(const Place& place) const {
  return place.name == "." ? place.directory : directories_.at(place.directory).at(place.name);
}

void RecordingOps::Created(const std::string& path, bool is_directory) {
  const Place place = PlaceOf(path);
  const size_t node = directories_.size();
  directories_.emplace_back();
  directories_.at(place.directory)[place.name] = node;
  events_.push_back({Kind::kCreate, node, place.directory, place.name, {}, 0, is_directory});
}

void RecordingOps::Removed(const std::string& path) {
  const Place place = PlaceOf(path);
  events_.push_back({Kind::kRemove, NodeAt(place), place.directory, place.name});
  directories_.at(place.directory).erase(place.name);
}

int RecordingOps::Open(const std::string& path, int flags, mode_t mode) {
  const int fd = FileOps::Open(path, flags, mode);
  if (fd < 0) return fd;
  if ((flags & O_CREAT) != 0) Created(path, false);
  open_[fd] = {NodeAt(PlaceOf(path)), 0};
  return fd;
}

ssize_t RecordingOps::Write(int fd, const void* data, size_t size) {
  const ssize_t written = FileOps::Write(fd, data, size);
  if (written <= 0) return written;
  OpenFile& file = open_.at(fd);
  DiskEvent event = {Kind::kWrite, file.node};
  event.offset = file.offset;
  event.data.assign(static_cast<const char*>(data), static_cast<size_t>(written));
  file.offset += event.data.size();
  events_.push_back(std::move(event));
  return written;
}

int RecordingOps::Fsync(int fd) {
  events_.push_back({Kind::kFsync, open_.at(fd).node});
  return 0;
}

int RecordingOps::Mkdir(const std::string& path, mode_t mode) {
  const int result = FileOps::Mkdir(path, mode);
  if (result == 0) Created(path, true);
  return result;
}

int RecordingOps::Rename(const std::string& from, const std::string& to) {
  const int result = FileOps::Rename(from, to);
  if (result != 0) return result;
  const Place place = PlaceOf(from);
  const std::string name = PlaceOf(to).name;
  const size_t node = NodeAt(place);
  events_.push_back({Kind::kRename, node, place.directory, place.name, name});
  directories_.at(place.directory).erase(place.name);
  directories_.at(place.directory)[name] = node;
  return 0;
}

int RecordingOps::Exchange(const std::string& a, const std::string& b) {
  if (!can_exchange_) {
    errno = EINVAL;
    return -1;
  }
  const int result = FileOps::Exchange(a, b);
  if (result != 0) return result;
  const Place place = PlaceOf(a);
  const std::string other = PlaceOf(b).name;
  auto& names = directories_.at(place.directory);
  events_.push_back({Kind::kExchange, names.at(place.name), place.directory, place.name, other, names.at(other)});
  std::swap(names.at(place.name), names.at(other));
  return 0;
}

int RecordingOps::Unlink(const std::string& path) {
  const int result = FileOps::Unlink(path);
  if (result == 0) Removed(path);
  return result;
}

int RecordingOps::Rmdir(const std::string& path) {
  const int result = FileOps::Rmdir(path);
  if (result == 0) Removed(path);
  return result;
}

CrashDisk::CrashDisk(const std::vector<DiskEvent>& events, size_t count, CrashMode mode, std::mt19937& random)
    : nodes_(events.size() + 1) {
  nodes_[0].is_directory = true;
  for (const DiskEvent& event : events) {  // what a name leads to is what it was made as
    if (event.kind == Kind::kCreate) nodes_[event.node].is_directory = event.is_directory;
  }
  const size_t cut = random() % (count + 1);
  for (size_t i = 0; i < count; ++i) {
    const DiskEvent& event = events[i];
    if (event.kind == Kind::kMark || event.kind == Kind::kFsync) continue;
    const bool data = event.kind == Kind::kWrite;
    const size_t synced_with = data ? event.node : event.directory;
    bool there = mode == CrashMode::kNothingLost;
    for (size_t j = i + 1; j < count && !there; ++j) {
      there = events[j].kind == Kind::kFsync && events[j].node == synced_with;
    }
    if (there) {
      Apply(event, nullptr);
    } else if (mode == CrashMode::kDataLost    ? !data
               : mode == CrashMode::kLaterLost ? (data ? random() % 2 == 0 : i < cut)
                                               : mode == CrashMode::kAnythingLost && random() % 2 == 0) {
      Apply(event, mode == CrashMode::kDataLost ? nullptr : &random);
    }
  }
}

// Renames put the node under its new name whether or not its old name ever reached the disk.
void CrashDisk::Apply(const DiskEvent& event, std::mt19937* torn) {
  auto& names = nodes_[event.directory].names;
  const auto remove = [&](const std::string& name) {
    const auto found = names.find(name);
    if (found != names.end() && found->second == event.node) names.erase(found);
  };
  switch (event.kind) {
    case Kind::kCreate:
      names[event.name] = event.node;
      break;
    case Kind::kWrite: {
      std::string& data = nodes_[event.node].data;
      const size_t end = event.offset + event.data.size();
      if (data.size() < end) data.resize(end, '\0');  // the size may be there before the bytes
      const size_t kept = torn != nullptr ? (*torn)() % (event.data.size() + 1) : event.data.size();
      data.replace(event.offset, kept, event.data, 0, kept);
      break;
    }
    case Kind::kRename:
      remove(event.name);
      names[event.other] = event.node;
      break;
    case Kind::kExchange:
      names[event.name] = event.other_node;
      names[event.other] = event.node;
      break;
    case Kind::kRemove:
      remove(event.name);
      break;
    case Kind::kFsync:
    case Kind::kMark:
      break;
  }
}

std::string CrashDisk::Description() const {
  std::string text;
  Describe(0, "", &text);
  return text;
}

void CrashDisk::Describe(size_t node, const std::string& path, std::string* out) const {
  *out += fmt::format("{}{} {} {}\n", path, nodes_[node].is_directory ? "/" : "", nodes_[node].data.size(),
                      nodes_[node].data);
  for (const auto& [name, child] : nodes_[node].names) Describe(child, path + "/" + name, out);
}

void CrashDisk::WriteTo(const std::string& directory) const { Write(0, directory); }

void CrashDisk::Write(size_t node, const std::string& path) const {
  if (!nodes_[node].is_directory) {
    std::ofstream(path, std::ios::binary) << nodes_[node].data;
    return;
  }
  fs::create_directories(path);
  for (const auto& [name, child] : nodes_[node].names) Write(child, path + "/" + name);
}

}  // namespace gateskip::testing
