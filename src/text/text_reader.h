// SPDX-License-Identifier: Apache-2.0
// Text read in blocks: line by line or in pieces, never more of it in memory than a block and what is asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <istream>
#include <string>

namespace gateskip {

// A line without its end, or a piece of running text.
struct TextPart {
  std::string text;    // whole, or the start of it where the part is longer than the limit
  uint64_t line = 0;   // where it begins, counted from 1
  uint64_t bytes = 0;  // of the whole part; larger than text.size() when it was cut off
};

class TextReader {
 public:
  // `origin` names the text in messages; a byte order mark at the start is left out. `in` must outlive the reader.
  TextReader(std::istream& in, std::string origin);

  // False at the end of the text. Of a line longer than max_bytes the rest is read and dropped.
  // Throws Error(kIo) when reading fails.
  bool NextLine(size_t max_bytes, TextPart* part);

  // At least `bytes` bytes up to the next line end, or `bytes` bytes (cut between characters) where no line ends within
  // three times as many more; at the end of the text what is left. False when nothing is left. Throws Error(kIo).
  bool NextPiece(size_t bytes, TextPart* part);

  // The first byte that is no white space, as far as the first block tells; 0 when there is none.
  char FirstByte();

  // All that is left. Throws Error(kLimitExceeded) beyond max_bytes, kIo.
  std::string Rest(size_t max_bytes);

 private:
  bool Fill();  // one block more at the end of buffer_; false at the end of the text

  std::istream& in_;
  std::string origin_;
  std::string buffer_;
  size_t at_ = 0;  // of buffer_, where the next part begins
  uint64_t line_ = 1;
  bool started_ = false;
};

}  // namespace gateskip
