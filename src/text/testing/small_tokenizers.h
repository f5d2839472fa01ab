// SPDX-License-Identifier: Apache-2.0
// One small tokenizer of every kind, each with the law of what a text becomes on its way to ids and back.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace gateskip::testing {

struct SmallTokenizer {
  const char* name;
  std::shared_ptr<const Tokenizer> tokenizer;
  // What a text is after Encode and Decode; only without parse_special where `spaces_after_special`.
  std::function<std::string(std::string_view)> back;
  bool spaces_after_special;  // every special token in the text puts one more space behind it
};

// Byte-level with each splitter, then SentencePiece-style with each way to put a space in front. All hold all bytes,
// the control tokens </s>, EOT, <|x|> and <|x|>1, and
// ordinary tokens whose merges lead up to </s>, EOT and the byte token <0x41>.
const std::vector<SmallTokenizer>& SmallTokenizers();

}  // namespace gateskip::testing
