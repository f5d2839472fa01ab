// SPDX-License-Identifier: Apache-2.0
// Named places in the durable writers where a test build can die, as a power cut or kill -9 would have it. With
// GATESKIP_KILL_POINTS defined, GATESKIP_KILL_POINT=NAME (or NAME:n for the n-th time) in the environment makes the
// process kill itself there. Without it, as in every build that is not asked for it, nothing is left of them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

#ifdef GATESKIP_KILL_POINTS
#include <csignal>
#include <cstdlib>
#endif

namespace gateskip {

enum class KillPoint {
  kTensorsBegun,      // its header is written
  kTensorsWritten,    // and synced, as the next two
  kStateWritten,      //
  kManifestWritten,   //
  kDirectorySynced,   // complete under its temporary name
  kDirectoryRenamed,  // in place, the parent not yet synced
  kDirectoryDurable,  // now the checkpoint counts
  kHintsWritten,      //
  kPruneSetAside,     // an old one has a temporary name and all its files
  kPruned,            //
};

inline constexpr std::array<std::string_view, 10> kKillPointNames = {
    "tensors-begun",     "tensors-written",   "state-written", "manifest-written", "directory-synced",
    "directory-renamed", "directory-durable", "hints-written", "prune-set-aside",  "pruned"};

#ifdef GATESKIP_KILL_POINTS
inline void ReachKillPoint(KillPoint point) {
  static std::array<size_t, kKillPointNames.size()> reached = {};
  const auto index = static_cast<size_t>(point);
  const char* wanted = std::getenv("GATESKIP_KILL_POINT");
  if (wanted == nullptr) return;
  const std::string_view text = wanted;
  const size_t colon = std::min(text.find(':'), text.size());
  if (text.substr(0, colon) != kKillPointNames[index]) return;
  const size_t time = colon == text.size() ? 1 : std::strtoull(wanted + colon + 1, nullptr, 10);
  if (++reached[index] == time) std::raise(SIGKILL);
}
#define GS_KILL_POINT(point) ::gateskip::ReachKillPoint(::gateskip::KillPoint::point)
#else
#define GS_KILL_POINT(point) static_cast<void>(0)
#endif

}  // namespace gateskip
