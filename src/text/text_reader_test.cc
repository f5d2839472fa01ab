// SPDX-License-Identifier: Apache-2.0
// Lines and pieces of a text: nothing lost, nothing twice, nothing longer in memory than asked for.
#include "text/text_reader.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <sstream>

#include "io/testing/expect_error.h"
#include "text/utf8.h"

namespace gateskip {
namespace {

constexpr size_t kBlock = size_t{64} << 10;  // of the reader

std::vector<TextPart> Lines(const std::string& text, size_t max_bytes = 1 << 20) {
  std::istringstream in(text);
  TextReader reader(in, "x");
  std::vector<TextPart> lines;
  for (TextPart part; reader.NextLine(max_bytes, &part);) lines.push_back(part);
  return lines;
}

std::vector<std::string> Pieces(const std::string& text, size_t bytes) {
  std::istringstream in(text);
  TextReader reader(in, "x");
  std::vector<std::string> pieces;
  uint64_t line = 1;
  for (TextPart part; reader.NextPiece(bytes, &part);) {
    EXPECT_EQ(part.line, line);
    EXPECT_EQ(part.bytes, part.text.size());
    line += static_cast<uint64_t>(std::count(part.text.begin(), part.text.end(), '\n'));
    pieces.push_back(part.text);
  }
  return pieces;
}

std::string Joined(const std::vector<std::string>& pieces) {
  std::string text;
  for (const std::string& piece : pieces) text += piece;
  return text;
}

TEST(TextReader, LinesAreCountedAndWhole) {
  const auto lines = Lines("a\n\nb\r\nc");
  ASSERT_EQ(lines.size(), 4U);
  const char* expected[] = {"a", "", "b\r", "c"};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(lines[i].text, expected[i]);
    EXPECT_EQ(lines[i].line, i + 1);
    EXPECT_EQ(lines[i].bytes, lines[i].text.size());
  }
  EXPECT_TRUE(Lines("").empty());
  EXPECT_EQ(Lines("\n").size(), 1U);
  EXPECT_EQ(Lines("a\n").size(), 1U) << "behind the last line end is no line";
}

// Around the size of a block: a line end as its last byte, the first of the next one, and a file that ends with it.
TEST(TextReader, LinesAcrossBlocks) {
  for (size_t first = kBlock - 3; first <= kBlock + 3; ++first) {
    const std::string text = std::string(first, 'a') + "\n" + std::string(kBlock, 'b') + "\nc\n";
    const auto lines = Lines(text);
    ASSERT_EQ(lines.size(), 3U) << first;
    EXPECT_EQ(lines[0].text, std::string(first, 'a'));
    EXPECT_EQ(lines[1].text, std::string(kBlock, 'b'));
    EXPECT_EQ(lines[2].text, "c");
    EXPECT_EQ(lines[2].line, 3U);
  }
}

TEST(TextReader, LongLinesAreCutOffAndTheNextIsFound) {
  const auto lines = Lines(std::string(3 * kBlock + 7, 'a') + "\nb\n" + std::string(11, 'c'), 10);
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[0].text, std::string(10, 'a'));
  EXPECT_EQ(lines[0].bytes, 3 * kBlock + 7);
  EXPECT_EQ(lines[1].text, "b");
  EXPECT_EQ(lines[1].line, 2U);
  EXPECT_EQ(lines[2].text, std::string(10, 'c'));
  EXPECT_EQ(lines[2].bytes, 11U);
}

TEST(TextReader, PiecesEndWithALine) {
  std::string text;
  for (int line = 0; line < 5000; ++line) text += fmt::format("line {} of some text\n", line);
  text += "and an end without a line end";
  for (const size_t bytes : {size_t{1}, size_t{100}, size_t{8192}, text.size() - 1, text.size(), 2 * text.size()}) {
    SCOPED_TRACE(bytes);
    const auto pieces = Pieces(text, bytes);
    EXPECT_EQ(Joined(pieces), text);
    for (size_t i = 0; i + 1 < pieces.size(); ++i) {
      if (bytes > 30) {
        EXPECT_EQ(pieces[i].back(), '\n');
      }
      EXPECT_GE(pieces[i].size(), bytes);
      EXPECT_LE(pieces[i].size(), bytes + 32);
    }
  }
}

TEST(TextReader, PiecesWithoutLineEndsAreBoundedAndCutBetweenCharacters) {
  std::string text;
  while (text.size() < (size_t{3} << 20)) text += "a\u00e9\u4e2d\U0001f600";
  for (const size_t bytes : {size_t{1}, size_t{5}, size_t{1000}, size_t{8191}, size_t{8192}}) {
    const std::string part = text.substr(0, bytes < 10 ? 10000 : text.size());
    const auto pieces = Pieces(part, bytes);
    EXPECT_EQ(Joined(pieces), part);
    for (const std::string& piece : pieces) {
      EXPECT_LE(piece.size(), 4 * bytes + 1);
      if (bytes > 3) {
        EXPECT_EQ(FindInvalidUtf8(piece), std::string::npos);
      }
    }
  }
  // What is no UTF-8 at all is cut, too.
  const std::string bad(100'000, '\x80');
  EXPECT_EQ(Joined(Pieces(bad, 1000)), bad);
}

TEST(TextReader, AByteOrderMarkIsLeftOut) {
  EXPECT_EQ(Lines("\xEF\xBB\xBF{}\n\xEF\xBB\xBFx")[0].text, "{}");
  EXPECT_EQ(Lines("\xEF\xBB\xBF{}\n\xEF\xBB\xBFx")[1].text, "\xEF\xBB\xBFx") << "at the start only";
  EXPECT_EQ(Joined(Pieces("\xEF\xBB\xBF"
                          "abc",
                          2)),
            "abc");
}

TEST(TextReader, FirstByteAndRestReadNothingTwice) {
  std::istringstream in(" \n\t[1,\n2]" + std::string(kBlock, ' '));
  TextReader reader(in, "x.json");
  EXPECT_EQ(reader.FirstByte(), '[');
  EXPECT_EQ(reader.Rest(2 * kBlock).substr(0, 9), " \n\t[1,\n2]");
  EXPECT_EQ(reader.FirstByte(), '\0');
  std::istringstream large(std::string(kBlock + 11, 'x'));
  TextReader too_large(large, "x.json");
  testing::ExpectError([&] { too_large.Rest(kBlock + 10); }, ErrorCode::kLimitExceeded, "[x.json] size");
}

// A disk that fails in the middle: an error, not a short file.
TEST(TextReader, AReadErrorIsNotTheEnd) {
  class Failing : public std::streambuf {
   protected:
    int_type underflow() override { throw std::ios_base::failure("EIO"); }
  } buffer;
  std::istream in(&buffer);
  TextReader reader(in, "x");
  TextPart part;
  testing::ExpectError([&] { reader.NextLine(10, &part); }, ErrorCode::kIo, "[x] text");
}

}  // namespace
}  // namespace gateskip
