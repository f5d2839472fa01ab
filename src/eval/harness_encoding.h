// SPDX-License-Identifier: Apache-2.0
// From the text of a request to tokens, as lm-evaluation-harness does it (lm_eval 0.4, api/model.py and models/
// huggingface.py), so that log-likelihoods can be compared example by example.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace gateskip {

struct EncodedPair {
  std::vector<int32_t> context;  // at least one token
  std::vector<int32_t> continuation;
};

// White space at the end of the context goes to the continuation; both are encoded as one text, and the context's own
// number of tokens says where it is cut. An empty context becomes the prefix token. Where both are longer than
// max_length + 1, the beginning is dropped. Throws Error(kInvalidArgument) for an empty continuation.
EncodedPair EncodePair(const Tokenizer& tokenizer, std::string_view context, std::string_view continuation,
                       size_t max_length);

// The prompt of a generation: at most max_length - max_tokens tokens, from the end.
std::vector<int32_t> EncodeContext(const Tokenizer& tokenizer, std::string_view context, size_t max_length,
                                   size_t max_tokens);

// A text as windows: every token is predicted once; the first window begins after the prefix token, the others after
// one token of the window before, the last after as many as make it full. A window's context.size() +
// continuation.size() - 1 is at most max_length.
std::vector<EncodedPair> RollingWindows(const Tokenizer& tokenizer, std::string_view text, size_t max_length);

// What a sequence without a context begins with: BOS, else EOS. Throws Error(kUnsupported) if the tokenizer has
// neither.
int32_t PrefixToken(const Tokenizer& tokenizer);

}  // namespace gateskip
