// SPDX-License-Identifier: Apache-2.0
#include "eval/answer_filter.h"

#include <re2/re2.h>

#include "eval/text_match.h"
#include "text/template_interpreter.h"
#include "text/utf8.h"

namespace gateskip {
namespace {

std::string Strip(std::string_view text) { return jinja::StripText(text, nullptr, true, true); }

}  // namespace

std::string FindAnswer(const RE2& pattern, const std::string& text, int index, const std::string& fallback) {
  const int groups = pattern.NumberOfCapturingGroups();
  std::vector<re2::StringPiece> match(static_cast<size_t>(groups) + 1);
  std::vector<std::string> found;  // of every match its answer; empty where several groups are all empty
  for (size_t pos = 0; pos <= text.size();) {
    if (!pattern.Match(text, pos, text.size(), RE2::UNANCHORED, match.data(), groups + 1)) break;
    size_t group = groups == 0 ? 0 : 1;
    while (group < match.size() - 1 && match[group].empty()) ++group;
    found.emplace_back(match[group].data() == nullptr ? std::string() : std::string(match[group]));
    const auto begin = static_cast<size_t>(match[0].data() - text.data());
    pos = begin + match[0].size();
    if (match[0].empty()) pos += pos < text.size() ? DecodeUtf8(text, pos).length : 1;
  }
  const auto count = static_cast<int64_t>(found.size());
  const int64_t at = index < 0 ? count + index : index;
  if (at < 0 || at >= count) return fallback;
  const std::string& answer = found[static_cast<size_t>(at)];
  return answer.empty() && groups > 1 ? fallback : Strip(answer);
}

AnswerFilter::AnswerFilter(const FilterSpec& spec, const std::string& origin) : spec_(spec) {
  for (const FilterStep& step : spec_.steps) {
    const bool has_pattern = step.kind == FilterStep::Kind::kRegex;
    patterns_.push_back(
        has_pattern ? CompilePattern(step.regex_pattern, origin, "regex_pattern of filter " + spec_.name) : nullptr);
  }
}

std::string AnswerFilter::Apply(const std::string& text) const {
  std::string answer = text;
  for (size_t i = 0; i < spec_.steps.size(); ++i) {
    const FilterStep& step = spec_.steps[i];
    switch (step.kind) {
      case FilterStep::Kind::kRegex:
        answer = FindAnswer(*patterns_[i], answer, step.group_select, step.fallback);
        break;
      case FilterStep::Kind::kTakeFirst:  // of repeats, of which there is one
        break;
      case FilterStep::Kind::kRemoveWhitespace:
        answer = Strip(answer);
        break;
      case FilterStep::Kind::kLowercase:
      case FilterStep::Kind::kUppercase:
        answer = jinja::MapCase(answer, step.kind == FilterStep::Kind::kUppercase);
        break;
      case FilterStep::Kind::kMap: {
        const auto mapped = step.mapping_dict.find(answer);
        answer = mapped != step.mapping_dict.end() ? mapped->second : step.default_value;
        break;
      }
    }
  }
  return answer;
}

}  // namespace gateskip
