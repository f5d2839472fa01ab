// SPDX-License-Identifier: Apache-2.0
// What the fuzz targets of this folder hold every input to. A broken law ends the run with a line that names it.
#pragma once

#include <algorithm>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "gateskip/error.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace gateskip::testing {

inline void Require(bool holds, const char* law) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", law);
  __builtin_trap();
}

inline bool IsUtf8(std::string_view text) { return ReadableText(text, std::string_view::npos) == text; }

// Errors are how bad input ends, but for our own bugs; servers put their texts into JSON, and people read them.
inline void CheckError(const Error& error) {
  constexpr size_t kMaxMessageBytes = 1800;
  const std::string_view message = error.what();
  if (error.code() != ErrorCode::kInternal && IsUtf8(message) && message.size() <= kMaxMessageBytes) return;
  std::fprintf(stderr, "%s\n", error.what());
  Require(error.code() != ErrorCode::kInternal, "no input reaches a GS_CHECK");
  Require(IsUtf8(message), "messages are UTF-8");
  Require(false, "messages are short");
}

// `bytes` with one U+FFFD for every maximal part of a character that is not all there (Unicode 15, section 3.9).
inline std::string WholeCharacters(std::string_view bytes) {
  std::string text;
  for (size_t pos = 0; pos < bytes.size();) {
    const Utf8Char c = DecodeUtf8(bytes, pos);
    size_t length = c.length;
    if (c.code == kInvalidCodePoint) {
      for (size_t n = std::min<size_t>(3, bytes.size() - pos); n > length; --n) {
        if (TruncatedUtf8(bytes.substr(0, pos + n), pos) == n) length = n;
      }
      text += "\uFFFD";
    } else {
      text += bytes.substr(pos, length);
    }
    pos += length;
  }
  return text;
}

// Ids are of the vocabulary; what StreamDecoder makes of them is what Decode makes, in whole characters.
inline void CheckIds(const std::shared_ptr<const Tokenizer>& tokenizer, std::span<const int32_t> ids) {
  for (const int32_t id : ids) Require(id >= 0 && id < tokenizer->vocab_size(), "ids are of the vocabulary");
  for (const bool special : {false, true}) {
    StreamDecoder decoder(tokenizer, special);
    std::string streamed;
    const auto put = [&](const std::string& piece) {
      Require(IsUtf8(piece), "pieces hold whole characters");
      streamed += piece;
    };
    for (const int32_t id : ids) put(decoder.Push(id));
    put(decoder.Finish());
    Require(decoder.Finish().empty(), "nothing waits after Finish");
    Require(streamed == WholeCharacters(tokenizer->Decode(ids, special)), "pieces add up to Decode");
  }
}

}  // namespace gateskip::testing
