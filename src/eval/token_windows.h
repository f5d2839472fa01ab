// SPDX-License-Identifier: Apache-2.0
// Text to measure a model on: windows, BOS included where the model wants one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/document_encoder.h"
#include "text/tokenizer.h"

namespace gateskip {

using TokenWindows = std::vector<std::vector<int32_t>>;  // [windows][at most window] token ids

struct WindowOptions {
  int64_t max_tokens = 16384;  // in all; at least one window of each file
  int window = 512;
  // What a window holds: a piece of the files' documents laid end to end, or the beginning of one document. The second
  // is how short records are used: each starts at position 0 and sees itself alone.
  bool per_document = false;
  PairFormat pair_format = PairFormat::kMixed;
  int threads = 0;
};

// As many tokens of every file, from its start, read as documents (text/documents.h). Throws Error(kInvalidArgument)
// for a file with less than a window, and as ReadDocuments.
TokenWindows ReadWindows(const Tokenizer& tokenizer, const std::vector<std::string>& paths,
                         const WindowOptions& options);

}  // namespace gateskip
