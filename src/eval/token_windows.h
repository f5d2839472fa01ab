// SPDX-License-Identifier: Apache-2.0
// Text to measure a model on: windows of equal length, BOS included where the model wants one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace gateskip {

using TokenWindows = std::vector<std::vector<int32_t>>;  // [windows][window] token ids

// As many tokens of every file, from its start, `max_tokens` in all but at least one window of each; a file's documents
// (text/documents.h) follow each other without a gap. Throws Error(kInvalidArgument) for a file with less than a
// window, and as ReadDocuments.
TokenWindows ReadWindows(const Tokenizer& tokenizer, const std::vector<std::string>& paths, int64_t max_tokens,
                         int window, int threads);

}  // namespace gateskip
