// SPDX-License-Identifier: Apache-2.0
#include "eval/harness_encoding.h"

#include <algorithm>
#include <string>

#include "base/check.h"

namespace gateskip {
namespace {

constexpr std::string_view kWhiteSpace = " \t\n\r\v\f";

// Special tokens written in a text become theirs, as the harness's tokenizers do.
std::vector<int32_t> Encode(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> ids = tokenizer.Encode(text, true);
  const std::optional<int32_t> bos = tokenizer.bos();
  if (tokenizer.add_bos() && bos && (ids.empty() || ids.front() != *bos)) ids.insert(ids.begin(), *bos);
  return ids;
}

void KeepLast(size_t count, std::vector<int32_t>* ids) {
  if (ids->size() > count) ids->erase(ids->begin(), ids->end() - static_cast<ptrdiff_t>(count));
}

}  // namespace

int32_t PrefixToken(const Tokenizer& tokenizer) {
  if (tokenizer.bos()) return *tokenizer.bos();
  if (tokenizer.eos()) return *tokenizer.eos();
  Fail(ErrorCode::kUnsupported, "[tokenizer] prefix: expected a BOS or EOS token, found neither; use another model");
}

EncodedPair EncodePair(const Tokenizer& tokenizer, std::string_view context, std::string_view continuation,
                       size_t max_length) {
  EncodedPair pair;
  const size_t last = context.find_last_not_of(kWhiteSpace);
  const size_t kept = last == std::string_view::npos ? 0 : last + 1;
  const std::string moved = std::string(context.substr(kept)) + std::string(continuation);
  context = context.substr(0, kept);
  if (context.empty()) {
    pair.context = {PrefixToken(tokenizer)};
    pair.continuation = Encode(tokenizer, moved);
    if (!pair.continuation.empty() && pair.continuation.front() == pair.context[0]) {
      pair.continuation.erase(pair.continuation.begin());
    }
  } else {
    pair.context = Encode(tokenizer, context);
    std::vector<int32_t> whole = Encode(tokenizer, std::string(context) + moved);
    pair.continuation.assign(whole.begin() + static_cast<ptrdiff_t>(std::min(whole.size(), pair.context.size())),
                             whole.end());
  }
  if (pair.continuation.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "[request] continuation: expected at least one token, found none after {} of context; give it a text",
         pair.context.size());
  }
  KeepLast(max_length, &pair.continuation);
  KeepLast(max_length + 1 - pair.continuation.size(), &pair.context);
  return pair;
}

std::vector<int32_t> EncodeContext(const Tokenizer& tokenizer, std::string_view context, size_t max_length,
                                   size_t max_tokens) {
  if (max_tokens >= max_length) {
    Fail(ErrorCode::kInvalidArgument,
         "[request] max_gen_toks: expected less than the context length of {}, found {}; lower it", max_length,
         max_tokens);
  }
  std::vector<int32_t> ids = Encode(tokenizer, context);
  if (ids.empty()) ids = {PrefixToken(tokenizer)};
  KeepLast(max_length - max_tokens, &ids);
  return ids;
}

std::vector<EncodedPair> RollingWindows(const Tokenizer& tokenizer, std::string_view text, size_t max_length) {
  std::vector<int32_t> ids = {PrefixToken(tokenizer)};
  const std::vector<int32_t> body = tokenizer.Encode(text, true);
  ids.insert(ids.end(), body.begin(), body.end());
  std::vector<EncodedPair> windows;
  for (size_t begin = 1; begin < ids.size(); begin += max_length) {
    const size_t end = std::min(ids.size(), begin + max_length);
    // The last window is shorter: more of what is before it comes into its context.
    const size_t first = begin == 1 ? 0 : end - 1 - max_length;
    const auto at = [&](size_t i) { return ids.begin() + static_cast<ptrdiff_t>(i); };
    windows.push_back({{at(first), at(begin)}, {at(begin), at(end)}});
  }
  return windows;
}

}  // namespace gateskip
