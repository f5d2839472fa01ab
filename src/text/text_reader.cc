// SPDX-License-Identifier: Apache-2.0
#include "text/text_reader.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/check.h"

namespace gateskip {
namespace {

constexpr size_t kBlockBytes = size_t{64} << 10;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// `end`, or a little before it, so that no character of UTF-8 is cut in two.
size_t BetweenCharacters(std::string_view text, size_t begin, size_t end) {
  constexpr size_t kMaxContinuation = 3;
  size_t cut = end;
  while (cut > begin + 1 && end - cut < kMaxContinuation && (static_cast<uint8_t>(text[cut]) & 0xC0) == 0x80) --cut;
  return cut;
}

}  // namespace

TextReader::TextReader(std::istream& in, std::string origin) : in_(in), origin_(std::move(origin)) {}

bool TextReader::Fill() {
  if (in_.eof()) return false;
  buffer_.erase(0, at_);
  at_ = 0;
  const size_t kept = buffer_.size();
  buffer_.resize(kept + kBlockBytes);
  in_.read(buffer_.data() + kept, static_cast<std::streamsize>(kBlockBytes));
  const auto read = static_cast<size_t>(in_.gcount());
  buffer_.resize(kept + read);
  if (in_.bad() || (read < kBlockBytes && !in_.eof())) {
    Fail(ErrorCode::kIo, "[{}] text: expected to read it to its end, found a read error; check the file system",
         origin_);
  }
  if (!std::exchange(started_, true) && buffer_.starts_with(kByteOrderMark)) at_ = kByteOrderMark.size();
  return read > 0;
}

bool TextReader::NextLine(size_t max_bytes, TextPart* part) {
  part->text.clear();
  part->bytes = 0;
  part->line = line_;
  if (at_ == buffer_.size() && !Fill()) return false;
  do {
    const char* begin = buffer_.data() + at_;
    const size_t left = buffer_.size() - at_;
    const auto* end = static_cast<const char*>(std::memchr(begin, '\n', left));
    const size_t length = end == nullptr ? left : static_cast<size_t>(end - begin);
    part->text.append(begin, std::min(length, max_bytes - part->text.size()));
    part->bytes += length;
    at_ += length;
    if (end != nullptr) {
      ++at_;
      ++line_;
      break;
    }
  } while (Fill());
  return true;
}

bool TextReader::NextPiece(size_t bytes, TextPart* part) {
  while (buffer_.size() - at_ < 4 * bytes && Fill()) {
  }
  const std::string_view left = std::string_view(buffer_).substr(at_);
  size_t end = left.size();
  if (left.size() > bytes) {
    // The search is bounded, or a text without line ends would take quadratic time.
    const size_t newline = left.substr(bytes, 3 * bytes).find('\n');
    if (newline != std::string_view::npos) {
      end = bytes + newline + 1;
    } else if (left.size() >= 4 * bytes) {
      end = BetweenCharacters(left, 0, bytes);
    }
  }
  part->text = left.substr(0, end);
  part->bytes = end;
  part->line = line_;
  line_ += static_cast<uint64_t>(std::count(part->text.begin(), part->text.end(), '\n'));
  at_ += end;
  return end > 0;
}

char TextReader::FirstByte() {
  if (at_ == buffer_.size()) Fill();
  const auto found = std::find_if(buffer_.begin() + static_cast<ptrdiff_t>(at_), buffer_.end(),
                                  [](char c) { return c != ' ' && c != '\t' && c != '\r' && c != '\n'; });
  return found == buffer_.end() ? '\0' : *found;
}

std::string TextReader::Rest(size_t max_bytes) {
  do {
    if (buffer_.size() - at_ > max_bytes) {
      Fail(ErrorCode::kLimitExceeded, "[{}] size: expected at most {} bytes, found more; use one record per line",
           origin_, max_bytes);
    }
  } while (Fill());
  return std::exchange(buffer_, std::string()).substr(std::exchange(at_, 0));
}

}  // namespace gateskip
