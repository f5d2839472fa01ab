// SPDX-License-Identifier: Apache-2.0
#include "analysis/token_class.h"

#include <algorithm>
#include <string_view>

#include "text/utf8.h"

namespace gateskip {
namespace {

// Articles, prepositions, pronouns, conjunctions, auxiliaries; sorted.
constexpr std::string_view kFunctionWords[] = {
    "a",     "about",  "after",  "all",   "also", "am",    "an",   "and",   "any",   "are",  "as",   "at",
    "be",    "been",   "before", "being", "but",  "by",    "can",  "could", "did",   "do",   "does", "each",
    "for",   "from",   "had",    "has",   "have", "he",    "her",  "him",   "his",   "how",  "i",    "if",
    "in",    "into",   "is",     "it",    "its",  "may",   "me",   "might", "more",  "most", "must", "my",
    "no",    "nor",    "not",    "of",    "on",   "one",   "only", "or",    "other", "our",  "over", "shall",
    "she",   "should", "so",     "some",  "such", "than",  "that", "the",   "their", "them", "then", "there",
    "these", "they",   "this",   "those", "to",   "under", "up",   "us",    "was",   "we",   "were", "what",
    "when",  "where",  "which",  "while", "who",  "will",  "with", "would", "you",   "your"};
static_assert(std::ranges::is_sorted(kFunctionWords));

constexpr size_t kLongestFunctionWord = 8;

bool IsFunctionWord(std::string_view word) {
  if (word.size() > kLongestFunctionWord) return false;
  std::string lower(word);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return std::ranges::binary_search(kFunctionWords, std::string_view(lower));
}

bool IsAsciiCapital(uint32_t code) { return code >= 'A' && code <= 'Z'; }

// Latin-1, Latin Extended-A, Greek and Cyrillic capitals, where words have them; the tables of utf8.h know no case.
bool IsCapital(uint32_t code) {
  if (IsAsciiCapital(code) || (code >= 0xC0 && code <= 0xDE && code != 0xD7)) return true;
  return (code >= 0x391 && code <= 0x3A9) || (code >= 0x400 && code <= 0x42F);
}

// A token without its spaces at either end, and what it begins and ends with.
struct Piece {
  std::string_view word;
  bool after_space = false;
  bool before_space = false;
  bool ends_in_letter = false;
  Utf8Char first = {kInvalidCodePoint, 1};
  Utf8Char second = {kInvalidCodePoint, 1};  // after an apostrophe
};

bool IsSpaceAt(std::string_view text, size_t at, uint32_t* length) {
  const Utf8Char c = DecodeUtf8(text, at);
  *length = c.length;
  return c.code != kInvalidCodePoint && ClassOf(c.code) == CharClass::kSpace;
}

Piece Look(std::string_view text) {
  Piece piece;
  size_t begin = 0;
  uint32_t length = 0;
  while (begin < text.size() && IsSpaceAt(text, begin, &length)) begin += length;
  size_t end = begin;  // past the last character that is no space
  Utf8Char last = {kInvalidCodePoint, 1};
  for (size_t at = begin; at < text.size(); at += length) {
    if (IsSpaceAt(text, at, &length)) continue;
    last = DecodeUtf8(text, at);
    end = at + length;
  }
  piece.word = text.substr(begin, end - begin);
  piece.after_space = begin > 0;
  piece.before_space = end < text.size();
  if (piece.word.empty()) return piece;
  piece.first = DecodeUtf8(piece.word, 0);
  if (piece.first.length < piece.word.size()) piece.second = DecodeUtf8(piece.word, piece.first.length);
  piece.ends_in_letter = last.code != kInvalidCodePoint && ClassOf(last.code) == CharClass::kLetter;
  return piece;
}

bool IsLetter(const Utf8Char& c) { return c.code != kInvalidCodePoint && ClassOf(c.code) == CharClass::kLetter; }

// "'s", "’re": part of the word before.
bool IsContraction(const Piece& piece) {
  return (piece.first.code == '\'' || piece.first.code == 0x2019) && IsLetter(piece.second);
}

bool GoesOn(const Piece& before, const Piece& piece) {
  if (!before.ends_in_letter || before.before_space || piece.after_space) return false;
  return IsLetter(piece.first) || IsContraction(piece);
}

TokenClass ClassOfPiece(std::string_view text, const Piece& piece, bool goes_on, bool is_gone_on_with) {
  if (text.empty()) return TokenClass::kOther;
  if (piece.word.empty()) return TokenClass::kSpace;
  if (piece.first.code == kInvalidCodePoint) return TokenClass::kOther;
  if (goes_on) return TokenClass::kContinuation;
  switch (ClassOf(piece.first.code)) {
    case CharClass::kPunctuation:
      return TokenClass::kPunctuation;
    case CharClass::kNumber:
      return TokenClass::kDigits;
    case CharClass::kLetter:
      if (!is_gone_on_with && IsFunctionWord(piece.word)) return TokenClass::kFunctionWord;
      return IsCapital(piece.first.code) ? TokenClass::kCapitalised : TokenClass::kWordStart;
    default:
      return TokenClass::kOther;
  }
}

}  // namespace

const char* TokenClassName(TokenClass token_class) {
  switch (token_class) {
    case TokenClass::kBos:
      return "BOS";
    case TokenClass::kPunctuation:
      return "punctuation";
    case TokenClass::kDigits:
      return "digits";
    case TokenClass::kSpace:
      return "space, line break";
    case TokenClass::kCapitalised:
      return "start of a word, capital";
    case TokenClass::kFunctionWord:
      return "function word";
    case TokenClass::kWordStart:
      return "start of another word";
    case TokenClass::kContinuation:
      return "rest of a word";
    case TokenClass::kOther:
      return "other";
  }
  return "other";
}

std::vector<TokenClass> ClassifyPieces(std::span<const std::string> pieces) {
  std::vector<Piece> looked;
  looked.reserve(pieces.size());
  for (const std::string& text : pieces) looked.push_back(Look(text));
  std::vector<TokenClass> classes;
  classes.reserve(pieces.size());
  for (size_t i = 0; i < pieces.size(); ++i) {
    const bool goes_on = i > 0 && GoesOn(looked[i - 1], looked[i]);
    // "don" of "don't" is no word, but "it" of "it's" is one.
    const bool is_gone_on_with =
        i + 1 < pieces.size() && GoesOn(looked[i], looked[i + 1]) && !IsContraction(looked[i + 1]);
    classes.push_back(ClassOfPiece(pieces[i], looked[i], goes_on, is_gone_on_with));
  }
  return classes;
}

std::vector<TokenClass> ClassifyTokens(const Tokenizer& tokenizer, std::span<const int32_t> ids) {
  std::vector<std::string> pieces;
  pieces.reserve(ids.size());
  for (const int32_t id : ids) pieces.push_back(tokenizer.TokenBytes(id, /*special=*/false));
  std::vector<TokenClass> classes = ClassifyPieces(pieces);
  for (size_t i = 0; i < ids.size(); ++i) {
    if (tokenizer.bos() && ids[i] == *tokenizer.bos()) classes[i] = TokenClass::kBos;
  }
  return classes;
}

}  // namespace gateskip
