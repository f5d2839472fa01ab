// SPDX-License-Identifier: Apache-2.0
// Time that has passed, for figures that are shown and for choices that change no result.
#pragma once

#include <chrono>

namespace gateskip {

using SteadyClock = std::chrono::steady_clock;

inline double SecondsBetween(SteadyClock::time_point from, SteadyClock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}
inline double SecondsSince(SteadyClock::time_point start) { return SecondsBetween(start, SteadyClock::now()); }

}  // namespace gateskip
