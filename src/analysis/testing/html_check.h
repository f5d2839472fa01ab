// SPDX-License-Identifier: Apache-2.0
// Whether HTML of this project is well formed: every element closed in the right order, attributes quoted, no stray '<'
// or '&'. Stricter than browsers are, which mend anything.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>
#include <vector>

namespace gateskip::testing {

// Names what was sought only: pages are long.
inline ::testing::AssertionResult Has(std::string_view html, std::string_view part) {
  if (html.find(part) != std::string_view::npos) return ::testing::AssertionSuccess() << "holds: " << part;
  return ::testing::AssertionFailure() << "does not hold: " << part;
}

// "" or what is wrong and where.
inline std::string HtmlProblem(std::string_view html) {
  const auto at = [&](std::string_view rest, const std::string& what) {
    return what + " before: " + std::string(rest.substr(0, 60));
  };
  const auto is_name = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-'; };
  std::vector<std::string> open;
  std::string_view rest = html;
  const std::string_view doctype = "<!DOCTYPE html>\n";
  if (rest.starts_with(doctype)) rest.remove_prefix(doctype.size());
  while (!rest.empty()) {
    const size_t next = rest.find_first_of("<&");
    if (next == std::string_view::npos) break;
    rest.remove_prefix(next);
    if (rest[0] == '&') {
      const size_t end = rest.find(';');
      if (end == std::string_view::npos || end > 8) return at(rest, "a bare &");
      rest.remove_prefix(end);
      continue;
    }
    const std::string_view tag_start = rest;
    rest.remove_prefix(1);
    const bool closing = rest.starts_with('/');
    if (closing) rest.remove_prefix(1);
    const auto name_end = std::find_if_not(rest.begin(), rest.end(), is_name);
    const std::string name(rest.begin(), name_end);
    if (name.empty()) return at(tag_start, "a bare <");
    rest.remove_prefix(name.size());
    if (closing) {
      if (!rest.starts_with('>')) return at(tag_start, "a closing tag with more than a name");
      if (open.empty() || open.back() != name) return at(tag_start, "a closing tag nothing is open for");
      open.pop_back();
      continue;
    }
    bool empty = name == "meta";
    while (!rest.empty() && rest[0] != '>') {
      if (rest.starts_with("/>")) {
        empty = true;
        rest.remove_prefix(1);
        break;
      }
      if (rest[0] != ' ') return at(tag_start, "an attribute that no space parts");
      rest.remove_prefix(1);
      const size_t equals = rest.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-");
      if (equals == 0 || equals == std::string_view::npos || rest.substr(equals, 2) != "=\"") {
        return at(tag_start, "an attribute without a quoted value");
      }
      rest.remove_prefix(equals + 2);
      const size_t quote = rest.find('"');
      if (quote == std::string_view::npos || rest.substr(0, quote).find('<') != std::string_view::npos) {
        return at(tag_start, "an attribute value that does not end");
      }
      rest.remove_prefix(quote + 1);
    }
    if (rest.empty()) return at(tag_start, "a tag that does not end");
    rest.remove_prefix(1);
    if (name == "script" || name == "style") {  // raw text
      const size_t end = rest.find("</" + name + ">");
      if (end == std::string_view::npos) return at(tag_start, "raw text that does not end");
      rest.remove_prefix(end);
    }
    if (!empty) open.push_back(name);
  }
  return open.empty() ? "" : "left open: " + open.back();
}

}  // namespace gateskip::testing
