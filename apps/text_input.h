// SPDX-License-Identifier: Apache-2.0
// Text from a flag, a file or stdin, size-limited.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace gateskip::cli {

inline constexpr size_t kMaxPromptBytes = size_t{64} << 20;
inline constexpr size_t kMaxTextBytes = size_t{1} << 30;

// The whole file; "-" is stdin. Throws Error: kNotFound, kIo (directories too), kLimitExceeded.
std::string ReadTextFile(const std::string& path, size_t max_bytes);

// Where a text comes from: -p TEXT, -f FILE, or stdin when neither is given and it is no terminal.
struct TextSource {
  std::optional<std::string> text;
  std::string file;
};

// Throws Error(kInvalidArgument) when there is nothing to read from; `origin` names the command.
std::string ReadText(const TextSource& source, size_t max_bytes);

}  // namespace gateskip::cli
