// SPDX-License-Identifier: Apache-2.0
// How a generated answer is held against the right one: the harness's exact_match with its options, and SQuAD's exact
// and F1 (Rajpurkar et al., 2018, the official evaluation script of SQuAD 2.0).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace re2 {
class RE2;
}

namespace gateskip {

// Compiles a pattern in RE2's syntax (linear time; no look-around, no back-references; \s, \d and \w are ASCII; `$` is
// the very end of the text). Throws Error(kInvalidArgument) with what RE2 says.
std::shared_ptr<const re2::RE2> CompilePattern(const std::string& pattern, const std::string& origin,
                                               const std::string& subject);

struct ExactMatchOptions {
  std::vector<std::shared_ptr<const re2::RE2>> regexes_to_ignore = {};  // deleted in turn, before all else
  bool ignore_case = false;
  bool ignore_punctuation = false;  // ASCII's 32
  bool ignore_numbers = false;      // ASCII digits
};
bool ExactMatch(const std::string& prediction, const std::string& reference, const ExactMatchOptions& options);

// Lower case, no ASCII punctuation, no words a, an and the, single spaces.
std::string NormalizeAnswer(std::string_view text);

struct SquadScore {
  double exact = 0;  // 0 or 1
  double f1 = 0;     // in [0, 1]
};
// The best over `answers`, each on its own for both numbers. Answers that normalise to nothing do not count; with none
// left the question is unanswerable and the empty text is right.
SquadScore ScoreSquad(const std::string& prediction, const std::vector<std::string>& answers);

// len(re.split(r"\s+", text)) of Python: runs of Unicode white space, plus one.
size_t CountWords(std::string_view text);
// len(text) of Python: code points.
size_t CountCodePoints(std::string_view text);

}  // namespace gateskip
