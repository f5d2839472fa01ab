// SPDX-License-Identifier: Apache-2.0
#include "runtime/stop_strings.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace gateskip {
namespace {

constexpr size_t kMaxStops = 16;
constexpr size_t kMaxStopBytes = 256;

// Length of the longest end of `text` that begins `stop`.
size_t OverlapAtEnd(std::string_view text, std::string_view stop) {
  for (size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n) {
    if (text.substr(text.size() - n) == stop.substr(0, n)) return n;
  }
  return 0;
}

}  // namespace

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  if (stops_.size() > kMaxStops) {
    Fail(ErrorCode::kInvalidArgument, "[options] stop: expected at most {} strings, found {}; pass fewer", kMaxStops,
         stops_.size());
  }
  for (const std::string& stop : stops_) {
    if (stop.empty() || stop.size() > kMaxStopBytes) {
      Fail(ErrorCode::kInvalidArgument, "[options] stop: expected strings of 1 to {} bytes, found one of {}; change it",
           kMaxStopBytes, stop.size());
    }
  }
}

std::string StopStrings::Push(std::string_view piece) {
  if (stopped_) return {};
  held_ += piece;
  size_t first = std::string::npos;
  for (const std::string& stop : stops_) first = std::min(first, held_.find(stop));
  if (first != std::string::npos) {
    stopped_ = true;
    held_.resize(first);
    return std::exchange(held_, {});
  }
  size_t hold = 0;
  for (const std::string& stop : stops_) hold = std::max(hold, OverlapAtEnd(held_, stop));
  std::string certain = held_.substr(0, held_.size() - hold);
  held_.erase(0, certain.size());
  return certain;
}

std::string StopStrings::Finish() { return std::exchange(held_, {}); }

}  // namespace gateskip
