// SPDX-License-Identifier: Apache-2.0
// Where a command may write.
#pragma once

#include <string>

namespace gateskip::cli {

enum class OutputKind {
  kFile,
  kDirectory,  // of a model or an adapter
};

// Throws Error(kInvalidArgument) if something is at `path`, unless `force` is set and it is of that kind: a file is
// replaced by a file, a directory only by a directory, and only if it is empty or looks like one that was written so.
void RequireReplaceable(const std::string& path, OutputKind kind, bool force);

}  // namespace gateskip::cli
