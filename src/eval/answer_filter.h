// SPDX-License-Identifier: Apache-2.0
// The harness's filter_list: what of a generated text counts as the answer.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "eval/task_spec.h"

namespace re2 {
class RE2;
}

namespace gateskip {

class AnswerFilter {
 public:
  // Throws Error(kInvalidArgument): a pattern RE2 does not take. `origin` names the task file.
  AnswerFilter(const FilterSpec& spec, const std::string& origin);

  const std::string& name() const { return spec_.name; }
  std::string Apply(const std::string& text) const;

 private:
  FilterSpec spec_;
  std::vector<std::shared_ptr<const re2::RE2>> patterns_;  // per step; null for those without
};

// As Python's re.findall(pattern, text)[index], index from the end when negative: of a match the whole when the pattern
// has no groups, else the first group that is not empty, spaces at both ends stripped. `fallback` when there is no such
// match, or when all groups of a pattern with several are empty.
std::string FindAnswer(const re2::RE2& pattern, const std::string& text, int index, const std::string& fallback);

}  // namespace gateskip
