// SPDX-License-Identifier: Apache-2.0
// The files of src/eval/tasks, compiled in (CMakeLists.txt writes builtin_tasks.cc).
#pragma once

#include <span>
#include <string_view>

namespace gateskip {

struct BuiltinTaskFile {
  std::string_view name;
  std::string_view text;
};
std::span<const BuiltinTaskFile> BuiltinTaskFiles();

}  // namespace gateskip
