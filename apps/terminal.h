// SPDX-License-Identifier: Apache-2.0
// What reaches the terminal: stdout that notices a closed reader, colour and bars only where a person looks,
// and text from files made harmless.
#pragma once

#include <chrono>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

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

// The line of a progress bar, narrower than `columns`: label, bar, percentage, time to go, parts. The parts come in the
// order of their importance: where there is no room for all, the last ones are dropped. The bar takes what room is
// left.
std::string ProgressLine(std::string_view label, double share, std::string_view eta, std::span<const std::string> parts,
                         size_t columns);

// One line on stderr, redrawn in place, for work that lasts longer than a second; nothing when stderr is no
// terminal. Update may be called as often as one likes.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // The clock starts now, with `done` of the work there already: what comes before does not count for rate and ETA.
  void Restart(size_t done);
  // `unit` names what is counted ("tok"); `parts` are shown as ProgressLine says.
  void Update(size_t done, size_t total, std::string_view unit = "", std::span<const std::string> parts = {});
  // "12m03s", at the rate so far; "" while there is none.
  std::string Eta(size_t done, size_t total) const;
  void SetLabel(std::string label) { label_ = std::move(label); }
  // Removes the line.
  void Clear();

 private:
  std::string label_;
  bool enabled_;
  bool drawn_ = false;
  size_t first_ = 0;  // done at start_
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_draw_;
};

// A bar for each stage of a work in several.
class StageBar {
 public:
  void Update(const std::string& stage, size_t done, size_t total);
  void Clear() { bar_.reset(); }

 private:
  std::string stage_;
  std::unique_ptr<ProgressBar> bar_;
};

}  // namespace gateskip::cli
