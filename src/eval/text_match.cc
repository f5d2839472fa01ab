// SPDX-License-Identifier: Apache-2.0
#include "eval/text_match.h"

#include <re2/re2.h>

#include <algorithm>
#include <map>

#include "base/check.h"
#include "text/template_interpreter.h"
#include "text/utf8.h"

namespace gateskip {
namespace {

bool IsPunctuation(char c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// What str.isspace() and \s of Python take: White_Space, and the four information separators.
bool IsPythonSpace(uint32_t code) { return ClassOf(code) == CharClass::kSpace || (code >= 0x1C && code <= 0x1F); }
// \w of Python.
bool IsWordCharacter(uint32_t code) {
  return ClassOf(code) == CharClass::kLetter || ClassOf(code) == CharClass::kNumber || code == '_';
}

std::vector<std::string> SplitWords(std::string_view text) {
  std::vector<std::string> words;
  bool in_word = false;
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Char c = DecodeUtf8(text, pos);
    if (IsPythonSpace(c.code)) {
      in_word = false;
    } else {
      if (!in_word) words.emplace_back();
      words.back() += text.substr(pos, c.length);
      in_word = true;
    }
    pos += c.length;
  }
  return words;
}

// re.sub(r"\b(a|an|the)\b", " ", text) with Python's word boundaries, which know all letters.
std::string WithoutArticles(std::string_view text) {
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    size_t end = pos;
    while (end < text.size() && IsWordCharacter(DecodeUtf8(text, end).code)) end += DecodeUtf8(text, end).length;
    if (end == pos) {
      end += DecodeUtf8(text, pos).length;
      out += text.substr(pos, end - pos);
    } else {
      const std::string_view word = text.substr(pos, end - pos);
      out += word == "a" || word == "an" || word == "the" ? std::string_view(" ") : word;
    }
    pos = end;
  }
  return out;
}

double F1(const std::vector<std::string>& prediction, const std::vector<std::string>& answer) {
  if (prediction.empty() || answer.empty()) return prediction == answer ? 1 : 0;
  std::map<std::string, int> left;
  for (const std::string& word : answer) ++left[word];
  int common = 0;
  for (const std::string& word : prediction) {
    if (left[word]-- > 0) ++common;
  }
  if (common == 0) return 0;
  const double precision = static_cast<double>(common) / static_cast<double>(prediction.size());
  const double recall = static_cast<double>(common) / static_cast<double>(answer.size());
  return 2 * precision * recall / (precision + recall);
}

std::string Comparable(std::string text, const ExactMatchOptions& options) {
  for (const auto& pattern : options.regexes_to_ignore) RE2::GlobalReplace(&text, *pattern, "");
  if (options.ignore_case) text = jinja::MapCase(text, false);
  if (options.ignore_punctuation) std::erase_if(text, IsPunctuation);
  if (options.ignore_numbers) std::erase_if(text, IsDigit);
  return text;
}

}  // namespace

std::shared_ptr<const RE2> CompilePattern(const std::string& pattern, const std::string& origin,
                                          const std::string& subject) {
  RE2::Options options;
  options.set_log_errors(false);
  auto compiled = std::make_shared<const RE2>(pattern, options);
  if (!compiled->ok()) {
    Fail(ErrorCode::kInvalidArgument,
         "[{}] {}: expected a regular expression in RE2's syntax, found {}; rewrite it (no look-around, no "
         "back-references)",
         origin, subject, ReadableText(compiled->error(), 200));
  }
  return compiled;
}

bool ExactMatch(const std::string& prediction, const std::string& reference, const ExactMatchOptions& options) {
  return Comparable(prediction, options) == Comparable(reference, options);
}

std::string NormalizeAnswer(std::string_view text) {
  std::string out = jinja::MapCase(text, false);
  std::erase_if(out, IsPunctuation);
  return fmt::format("{}", fmt::join(SplitWords(WithoutArticles(out)), " "));
}

SquadScore ScoreSquad(const std::string& prediction, const std::vector<std::string>& answers) {
  std::vector<std::string> golds;
  for (const std::string& answer : answers) {
    if (std::string gold = NormalizeAnswer(answer); !gold.empty()) golds.push_back(std::move(gold));
  }
  if (golds.empty()) golds.emplace_back();
  const std::string predicted = NormalizeAnswer(prediction);
  SquadScore best;
  for (const std::string& gold : golds) {
    best.exact = std::max(best.exact, predicted == gold ? 1.0 : 0.0);
    best.f1 = std::max(best.f1, F1(SplitWords(predicted), SplitWords(gold)));
  }
  return best;
}

size_t CountWords(std::string_view text) {
  size_t words = 1;
  bool in_space = false;
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Char c = DecodeUtf8(text, pos);
    const bool space = IsPythonSpace(c.code);
    if (space && !in_space) ++words;
    in_space = space;
    pos += c.length;
  }
  return words;
}

size_t CountCodePoints(std::string_view text) {
  size_t count = 0;
  for (size_t pos = 0; pos < text.size(); pos += DecodeUtf8(text, pos).length) ++count;
  return count;
}

}  // namespace gateskip
