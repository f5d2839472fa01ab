// SPDX-License-Identifier: Apache-2.0
// What reaches the terminal: stdout that notices a closed reader, colour and bars only where a person looks,
// and text from files made harmless.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>

namespace gateskip::cli {

enum class Style { kReset, kBold, kDim, kError, kAccent };

// The escape sequence, or "" when `stream` is no terminal, NO_COLOR is set or TERM is dumb.
std::string_view Paint(std::FILE* stream, Style style);
bool IsTerminal(std::FILE* stream);

// Writes and flushes. False once the reader has gone away (the caller then stops); throws Error(kIo) when the
// write fails for another reason (a full disk).
bool WriteStdout(std::string_view text);
// Flushes what stdio holds: 0, or throws as above. A reader that went away is no error.
int FinishStdout();

// Control characters (escape sequences of a hostile file) become \xHH; line breaks and tabs stay if `lines`.
std::string Printable(std::string_view text, bool lines = false);

// "12.3 MB", "1.2 GB".
std::string HumanBytes(uint64_t bytes);

// One line on stderr, redrawn in place, for work that lasts longer than a second; nothing when stderr is no
// terminal. Update may be called as often as one likes.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // `unit` names what is counted ("tok"); `extra` is shown at the end of the line.
  void Update(size_t done, size_t total, std::string_view unit = "", std::string_view extra = "");
  void SetLabel(std::string label) { label_ = std::move(label); }
  // Removes the line.
  void Clear();

 private:
  std::string label_;
  bool enabled_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_draw_;
};

}  // namespace gateskip::cli
