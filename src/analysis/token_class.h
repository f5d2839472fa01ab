// SPDX-License-Identifier: Apache-2.0
// What kind of thing a token is in its text, for statistics: by its first character that is no space and by its
// neighbours. English function words; every other language's words are plain words.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace gateskip {

enum class TokenClass : uint8_t {
  kBos,
  kPunctuation,
  kDigits,
  kSpace,         // spaces and line breaks alone
  kCapitalised,   // the start of a word, with a capital
  kFunctionWord,  // all of a word of a closed class: "the", "of", "which"
  kWordStart,     // the start of any other word
  kContinuation,  // goes on in the word of the token before
  kOther,         // special tokens, symbols, parts of a character
};
inline constexpr size_t kNumTokenClasses = 9;

// "punctuation", "start of a word".
const char* TokenClassName(TokenClass token_class);

// Of consecutive tokens' bytes; a special token's are empty. A token's neighbours decide whether it starts a word and
// whether it is all of it, so a text cut elsewhere may differ at its ends.
std::vector<TokenClass> ClassifyPieces(std::span<const std::string> pieces);
// The same of ids, with kBos for the tokenizer's BOS.
std::vector<TokenClass> ClassifyTokens(const Tokenizer& tokenizer, std::span<const int32_t> ids);

}  // namespace gateskip
