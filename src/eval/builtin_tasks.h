// SPDX-License-Identifier: Apache-2.0
// The task files of tasks/, as the build puts them into the library.
#pragma once

#include <span>
#include <string_view>

namespace gateskip {

struct BuiltinTaskText {
  std::string_view name;
  std::string_view text;
};

std::span<const BuiltinTaskText> BuiltinTaskTexts();  // by name

}  // namespace gateskip
