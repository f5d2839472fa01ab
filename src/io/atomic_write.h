// SPDX-License-Identifier: Apache-2.0
// Files and directories that are either the old ones or the new ones, never half of either: temporary sibling,
// fsync, rename, fsync of the parent.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

namespace gateskip {

// Replaces `path`. Throws Error(kIo); nothing is left behind on failure.
void WriteFileAtomically(const std::string& path, std::span<const std::byte> bytes);

// Calls fill(temporary directory), then puts that directory in the place of `path`. On failure the temporary one is
// removed and `path` is what it was.
void WriteDirectoryAtomically(const std::string& path, const std::function<void(const std::string&)>& fill);

}  // namespace gateskip
