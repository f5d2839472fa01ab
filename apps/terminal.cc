// SPDX-License-Identifier: Apache-2.0
#include "terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/check.h"

namespace gateskip::cli {
namespace {

bool reader_gone = false;

bool HandleWriteError() {
  if (errno == EPIPE) {
    reader_gone = true;
    return false;
  }
  Fail(ErrorCode::kIo, "[stdout] write: expected success, found '{}'", std::strerror(errno));
}

bool IsSet(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

bool IsDumb() {
  const char* term = std::getenv("TERM");
  return term == nullptr || std::string_view(term) == "dumb";
}

size_t TerminalColumns() {
  winsize size{};
  if (ioctl(fileno(stderr), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

std::string HumanSeconds(double seconds) {
  const auto total = static_cast<int64_t>(std::min(seconds, 360000.0) + 0.5);
  if (total < 60) return fmt::format("{}s", total);
  if (total < 3600) return fmt::format("{}m{:02}s", total / 60, total % 60);
  return fmt::format("{}h{:02}m", total / 3600, total / 60 % 60);
}

}  // namespace

bool IsTerminal(std::FILE* stream) { return isatty(fileno(stream)) == 1; }

std::string_view Paint(std::FILE* stream, Style style) {
  if (!IsTerminal(stream) || IsSet("NO_COLOR") || IsDumb()) return "";
  switch (style) {
    case Style::kReset:
      return "\x1b[0m";
    case Style::kBold:
      return "\x1b[1m";
    case Style::kDim:
      return "\x1b[2m";
    case Style::kError:
      return "\x1b[1;31m";
    case Style::kAccent:
      return "\x1b[32m";
  }
  return "";
}

bool WriteStdout(std::string_view text) {
  if (reader_gone) return false;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) return HandleWriteError();
  if (std::fflush(stdout) != 0) return HandleWriteError();
  return true;
}

int FinishStdout() {
  if (!reader_gone && std::fflush(stdout) != 0) HandleWriteError();
  return 0;
}

std::string Printable(std::string_view text, bool lines) {
  std::string result;
  result.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool layout = lines && (c == '\n' || c == '\t');
    if (byte >= 0x20 && byte != 0x7F) {
      result += c;
    } else if (layout) {
      result += c;
    } else if (c == '\n') {
      result += "\\n";
    } else if (c == '\t') {
      result += "\\t";
    } else {
      result += fmt::format("\\x{:02x}", byte);
    }
  }
  return result;
}

std::string HumanBytes(uint64_t bytes) {
  const double value = static_cast<double>(bytes);
  if (bytes < 1000) return fmt::format("{} B", bytes);
  if (bytes < 1000000) return fmt::format("{:.1f} kB", value * 1e-3);
  if (bytes < 1000000000) return fmt::format("{:.1f} MB", value * 1e-6);
  return fmt::format("{:.2f} GB", value * 1e-9);
}

std::string ProgressLine(std::string_view label, double share, std::string_view eta, std::span<const std::string> parts,
                         size_t columns) {
  constexpr size_t kSmallestBar = 8;
  constexpr size_t kBarFrame = 3;                     // " [" and "]"
  const size_t room = columns > 0 ? columns - 1 : 0;  // the last column makes some terminals break the line
  std::string tail = fmt::format(" {:3.0f} %", share * 100);
  if (!eta.empty()) tail += fmt::format("  ETA {}", eta);
  for (const std::string& part : parts) {
    if (label.size() + tail.size() + 2 + part.size() > room) break;
    tail += "  " + part;
  }
  const size_t used = label.size() + tail.size() + kBarFrame;
  std::string line(label);
  if (used + kSmallestBar <= room) {
    const size_t width = std::min<size_t>(30, room - used);
    const auto filled = static_cast<size_t>(share * static_cast<double>(width));
    line += " [" + std::string(filled, '#') + std::string(width - filled, '.') + "]";
  }
  return (line + tail).substr(0, room);
}

ProgressBar::ProgressBar(std::string label)
    : label_(std::move(label)),
      enabled_(IsTerminal(stderr) && !IsDumb()),
      start_(std::chrono::steady_clock::now()),
      last_draw_(start_) {}

ProgressBar::~ProgressBar() { Clear(); }

void ProgressBar::Restart(size_t done) {
  first_ = done;
  start_ = std::chrono::steady_clock::now();
}

std::string ProgressBar::Eta(size_t done, size_t total) const {
  if (done <= first_ || total < done) return "";
  const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  return HumanSeconds(elapsed * static_cast<double>(total - done) / static_cast<double>(done - first_));
}

void ProgressBar::Update(size_t done, size_t total, std::string_view unit, std::span<const std::string> parts) {
  if (!enabled_) return;
  using std::chrono::duration;
  const auto now = std::chrono::steady_clock::now();
  const double elapsed = duration<double>(now - start_).count();
  if (elapsed < 1.0 || duration<double>(now - last_draw_).count() < 0.1) return;
  last_draw_ = now;
  const double share = total == 0 ? 0.0 : std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
  std::vector<std::string> all;
  if (!unit.empty()) all.push_back(fmt::format("{:.0f} {}/s", static_cast<double>(done - first_) / elapsed, unit));
  all.insert(all.end(), parts.begin(), parts.end());
  fmt::print(stderr, "\r\x1b[K{}", ProgressLine(label_, share, Eta(done, total), all, TerminalColumns()));
  std::fflush(stderr);
  drawn_ = true;
}

void ProgressBar::Clear() {
  if (!drawn_) return;
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
  drawn_ = false;
}

void StageBar::Update(const std::string& stage, size_t done, size_t total) {
  if (!bar_ || stage != stage_) {
    stage_ = stage;
    bar_.reset();  // the old line goes first
    bar_ = std::make_unique<ProgressBar>(stage);
  }
  bar_->Update(done, total);
}

}  // namespace gateskip::cli
