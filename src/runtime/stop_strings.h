// SPDX-License-Identifier: Apache-2.0
// Ends a stream of text before the first stop string, holding back only what might still become one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gateskip {

class StopStrings {
 public:
  // Throws Error(kInvalidArgument) for more than 16 strings, an empty one, or one over 256 bytes.
  explicit StopStrings(std::vector<std::string> stops);

  // Takes the next piece and returns what is certain to be in front of any stop string.
  std::string Push(std::string_view piece);
  // What was held back, at the end of the stream.
  std::string Finish();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace gateskip
