// SPDX-License-Identifier: Apache-2.0
// Errors and checks. Fail() is for what the outside can cause; GS_CHECK is for our own bugs only and throws
// too (kInternal), so that one bad request never ends a server.
#pragma once

#include <fmt/format.h>

#include <utility>

#include "gateskip/error.h"

namespace gateskip {

// Throws Error. The formatted text must read `[origin] subject: expected X, found Y; what to do`.
template <typename... Args>
[[noreturn]] void Fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

[[noreturn]] void FailCheck(const char* condition, const char* file, int line);

}  // namespace gateskip

#define GS_CHECK(condition)                                                  \
  do {                                                                       \
    if (!(condition)) ::gateskip::FailCheck(#condition, __FILE__, __LINE__); \
  } while (false)
