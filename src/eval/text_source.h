// SPDX-License-Identifier: Apache-2.0
// Texts from files a user names: plain text as it is, JSON lines by their string fields.
#pragma once

#include <string>
#include <vector>

namespace gateskip {

// The files' texts, one after the other, with a blank line between. .jsonl: the string values of every line, in
// order. Throws Error: kNotFound, kIo, kCorruptData (a line that is no JSON object), kLimitExceeded beyond 1 GiB.
std::string ReadTexts(const std::vector<std::string>& paths);

}  // namespace gateskip
