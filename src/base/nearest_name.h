// SPDX-License-Identifier: Apache-2.0
// "Did you mean": the known name nearest to a misspelt one.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace gateskip {

// Insertions, deletions and substitutions between the two (Levenshtein). O(|a| |b|).
size_t EditDistance(std::string_view a, std::string_view b);

// The nearest of `names` when it is at most 3 edits away, else "". Words of 64 characters and more are near nothing.
std::string NearestName(std::span<const std::string> names, std::string_view word);

}  // namespace gateskip
