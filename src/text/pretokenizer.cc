// SPDX-License-Identifier: Apache-2.0
// The splitters. Patterns, with (?!...) as look-ahead:
//   gpt2    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//   llama3  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*
//           |\s*[\r\n]+|\s+(?!\S)|\s+                      (qwen2: \p{N} instead of \p{N}{1,3})
// smollm and default apply several patterns in turn, each within the pieces of the one before, so that a
// look-ahead stops at the end of its piece.
#include "text/pretokenizer.h"

#include "text/utf8.h"

namespace gateskip {
namespace {

struct NamedKind {
  std::string_view name;
  PreTokenizer kind;
};

constexpr NamedKind kNames[] = {
    {"default", PreTokenizer::kDefault},
    {"gpt-2", PreTokenizer::kGpt2},
    {"gpt2", PreTokenizer::kGpt2},
    {"phi-2", PreTokenizer::kGpt2},
    {"mpt", PreTokenizer::kGpt2},
    {"olmo", PreTokenizer::kGpt2},
    {"smollm", PreTokenizer::kSmolLm},
    {"starcoder", PreTokenizer::kSmolLm},
    {"refact", PreTokenizer::kSmolLm},
    {"command-r", PreTokenizer::kSmolLm},
    {"codeshell", PreTokenizer::kSmolLm},
    {"llama3", PreTokenizer::kLlama3},
    {"llama-v3", PreTokenizer::kLlama3},
    {"llama-bpe", PreTokenizer::kLlama3},
    {"qwen2", PreTokenizer::kQwen2},
    {"stablelm2", PreTokenizer::kQwen2},
    {"deepseek-r1-qwen", PreTokenizer::kQwen2},
};

// One character of a piece, decoded on demand.
struct Cursor {
  std::string_view text;
  size_t end;  // of the piece

  // Class and code point at `offset`; past the end: length 0, class none.
  struct Char {
    uint32_t code = kInvalidCodePoint;
    uint32_t length = 0;
    CharClass char_class = CharClass::kOther;
    bool Is(CharClass wanted) const { return length != 0 && char_class == wanted; }
    // [^\s\p{L}\p{N}]
    bool IsSymbol() const {
      return length != 0 && (char_class == CharClass::kOther || char_class == CharClass::kPunctuation);
    }
    bool IsNewline() const { return code == '\r' || code == '\n'; }
  };

  Char At(size_t offset) const {
    if (offset >= end) return {};
    const Utf8Char c = DecodeUtf8(text.substr(0, end), offset);
    return {c.code, c.length, ClassOf(c.code)};
  }
  template <typename Predicate>
  size_t SkipWhile(size_t offset, Predicate predicate) const {
    for (Char c = At(offset); c.length != 0 && predicate(c); c = At(offset)) offset += c.length;
    return offset;
  }
  size_t SkipClass(size_t offset, CharClass wanted) const {
    return SkipWhile(offset, [wanted](const Char& c) { return c.char_class == wanted; });
  }
  size_t SkipSymbols(size_t offset) const {
    return SkipWhile(offset, [](const Char& c) { return c.IsSymbol(); });
  }
};

char LowerAscii(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Length of 's 't 're 've 'm 'll 'd at `offset`, 0 when none.
size_t ContractionLength(std::string_view text, size_t offset, size_t end, bool any_case) {
  if (text[offset] != '\'' || offset + 1 >= end) return 0;
  const char a = any_case ? LowerAscii(text[offset + 1]) : text[offset + 1];
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  if (offset + 2 >= end) return 0;
  const char b = any_case ? LowerAscii(text[offset + 2]) : text[offset + 2];
  return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

struct SpaceRun {
  size_t end = 0;          // one past the run
  size_t last_start = 0;   // start of its last character
  size_t newline_end = 0;  // one past its last \r or \n, 0 when none
  size_t num_chars = 0;
};

SpaceRun ScanSpaces(const Cursor& cursor, size_t offset) {
  SpaceRun run{offset, offset, 0, 0};
  for (auto c = cursor.At(offset); c.Is(CharClass::kSpace); c = cursor.At(run.end)) {
    run.last_start = run.end;
    run.end += c.length;
    if (c.IsNewline()) run.newline_end = run.end;
    ++run.num_chars;
  }
  return run;
}

// \s+(?!\S)|\s+ : a run before a non-space leaves its last character to the next word.
size_t SpaceEnd(const Cursor& cursor, const SpaceRun& run) {
  return run.num_chars > 1 && run.end < cursor.end ? run.last_start : run.end;
}

size_t Gpt2WordEnd(const Cursor& cursor, size_t pos) {
  if (const size_t n = ContractionLength(cursor.text, pos, cursor.end, false); n != 0) return pos + n;
  const bool leading_space = cursor.text[pos] == ' ';
  const size_t body = pos + (leading_space ? 1 : 0);
  const auto c = cursor.At(body);
  if (c.Is(CharClass::kLetter)) return cursor.SkipClass(body, CharClass::kLetter);
  if (c.Is(CharClass::kNumber)) return cursor.SkipClass(body, CharClass::kNumber);
  if (c.IsSymbol()) return cursor.SkipSymbols(body);
  return SpaceEnd(cursor, ScanSpaces(cursor, pos));
}

size_t Llama3WordEnd(const Cursor& cursor, size_t pos, int max_digits) {
  if (const size_t n = ContractionLength(cursor.text, pos, cursor.end, true); n != 0) return pos + n;
  const auto c = cursor.At(pos);
  if (c.Is(CharClass::kLetter)) return cursor.SkipClass(pos, CharClass::kLetter);
  if (c.Is(CharClass::kNumber)) {
    size_t end = pos;
    int digits = 0;
    for (auto d = c; d.Is(CharClass::kNumber) && digits < max_digits; d = cursor.At(end), ++digits) end += d.length;
    return end;
  }
  const size_t after = pos + c.length;
  if (!c.IsNewline() && cursor.At(after).Is(CharClass::kLetter)) return cursor.SkipClass(after, CharClass::kLetter);
  const size_t body = c.code == ' ' ? after : pos;
  if (cursor.At(body).IsSymbol()) {
    return cursor.SkipWhile(cursor.SkipSymbols(body), [](const Cursor::Char& d) { return d.IsNewline(); });
  }
  const SpaceRun run = ScanSpaces(cursor, pos);
  if (run.newline_end != 0) return run.newline_end;
  return SpaceEnd(cursor, run);
}

void SplitGpt2(std::string_view text, size_t begin, size_t end, std::vector<std::string_view>* words) {
  const Cursor cursor{text, end};
  while (begin < end) {
    const size_t next = Gpt2WordEnd(cursor, begin);
    words->push_back(text.substr(begin, next - begin));
    begin = next;
  }
}

void SplitSmolLm(std::string_view text, std::vector<std::string_view>* words) {
  const Cursor cursor{text, text.size()};
  size_t begin = 0;
  for (size_t pos = 0; pos < text.size();) {
    const auto c = cursor.At(pos);
    if (c.Is(CharClass::kNumber)) {
      SplitGpt2(text, begin, pos, words);
      words->push_back(text.substr(pos, c.length));
      begin = pos + c.length;
    }
    pos += c.length;
  }
  SplitGpt2(text, begin, text.size(), words);
}

// [0-9][0-9][0-9] within runs of \p{N}: groups of three ASCII digits; what is left between them stays whole.
void SplitDigitGroups(std::string_view text, size_t begin, size_t end, std::vector<std::string_view>* words) {
  const auto is_digit = [text](size_t i) { return text[i] >= '0' && text[i] <= '9'; };
  size_t rest = begin;
  for (size_t pos = begin; pos < end;) {
    if (pos + 3 <= end && is_digit(pos) && is_digit(pos + 1) && is_digit(pos + 2)) {
      if (rest < pos) words->push_back(text.substr(rest, pos - rest));
      words->push_back(text.substr(pos, 3));
      pos += 3;
      rest = pos;
    } else {
      ++pos;
    }
  }
  if (rest < end) words->push_back(text.substr(rest, end - rest));
}

// The words of GPT-2's pattern, cut again at runs of \p{N}.
void SplitDefaultPiece(std::string_view text, size_t begin, size_t end, std::vector<std::string_view>* words) {
  const Cursor cursor{text, end};
  while (begin < end) {
    const size_t word_end = Gpt2WordEnd(cursor, begin);
    const Cursor word{text, word_end};
    size_t rest = begin;
    for (size_t pos = begin; pos < word_end;) {
      const size_t digits_end = word.SkipClass(pos, CharClass::kNumber);
      if (digits_end > pos) {
        if (rest < pos) words->push_back(text.substr(rest, pos - rest));
        SplitDigitGroups(text, pos, digits_end, words);
        pos = rest = digits_end;
      } else {
        pos += word.At(pos).length;
      }
    }
    if (rest < word_end) words->push_back(text.substr(rest, word_end - rest));
    begin = word_end;
  }
}

// First [\p{P}\$\+<=>\^~\|]+, then the rest.
void SplitDefault(std::string_view text, std::vector<std::string_view>* words) {
  const Cursor cursor{text, text.size()};
  const auto is_mark = [](const Cursor::Char& c) {
    return c.char_class == CharClass::kPunctuation ||
           (c.code < 128 && std::string_view("$+<=>^~|").find(static_cast<char>(c.code)) != std::string_view::npos);
  };
  size_t begin = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t marks_end = cursor.SkipWhile(pos, is_mark);
    if (marks_end > pos) {
      SplitDefaultPiece(text, begin, pos, words);
      words->push_back(text.substr(pos, marks_end - pos));
      pos = begin = marks_end;
    } else {
      pos += cursor.At(pos).length;
    }
  }
  SplitDefaultPiece(text, begin, text.size(), words);
}

}  // namespace

std::optional<PreTokenizer> PreTokenizerFromName(std::string_view name) {
  for (const NamedKind& row : kNames) {
    if (row.name == name) return row.kind;
  }
  return std::nullopt;
}

void SplitWords(PreTokenizer kind, std::string_view text, std::vector<std::string_view>* words) {
  switch (kind) {
    case PreTokenizer::kGpt2:
      return SplitGpt2(text, 0, text.size(), words);
    case PreTokenizer::kDefault:
      return SplitDefault(text, words);
    case PreTokenizer::kSmolLm:
      return SplitSmolLm(text, words);
    case PreTokenizer::kLlama3:
    case PreTokenizer::kQwen2: {
      const Cursor cursor{text, text.size()};
      const int max_digits = kind == PreTokenizer::kLlama3 ? 3 : 1;
      for (size_t pos = 0; pos < text.size();) {
        const size_t next = Llama3WordEnd(cursor, pos, max_digits);
        words->push_back(text.substr(pos, next - pos));
        pos = next;
      }
      return;
    }
  }
}

}  // namespace gateskip
