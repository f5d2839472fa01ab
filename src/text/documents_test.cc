// SPDX-License-Identifier: Apache-2.0
// Whole files of training text: formats, bad rows, limits. The tokenizer is a stand-in, one token per byte, so that
// expected ids can be written down.
#include "text/documents.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <sstream>

#include "io/testing/allocation_meter.h"
#include "io/testing/expect_error.h"
#include "io/testing/temp_directory.h"
#include "text/testing/byte_tokenizer.h"
#include "text/testing/small_tokenizers.h"
#include "text/testing/with_template.h"

namespace gateskip::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Read {
  std::vector<std::string> texts;
  std::vector<bool> whole;
  DocumentReport report;
};

Read ReadAll(const std::string& content, const std::string& path, const DocumentOptions& options = {}) {
  const ByteTokenizer tokenizer;
  std::istringstream in(content);
  Read read;
  read.report = ReadDocuments(in, path, tokenizer, options, [&](EncodedDocument&& document) {
    read.texts.push_back(tokenizer.Decode(document.ids, /*special=*/true));
    read.whole.push_back(document.whole);
    return true;
  });
  EXPECT_EQ(read.report.path, path);
  EXPECT_EQ(read.report.used, read.texts.size());
  EXPECT_EQ(read.report.rows, read.report.used + read.report.skipped);
  return read;
}

TEST(ReadDocuments, RecordsOfEveryKindOfFile) {
  const char* lines =
      "{\"text\": \"a\"}\r\n"
      "\n"
      " \t\r\n"
      "{\"prompt\": \"p\", \"completion\": \"c\"}\n"
      "{\"text\": \"b\"}";  // the last line needs no end
  for (const char* path : {"x.jsonl", "x.json", "x.ndjson", "x.JSONL"}) {
    EXPECT_THAT(ReadAll(lines, path).texts, ElementsAre("a<E>", "Question: p\nAnswer: c<E>", "b<E>"));
    EXPECT_EQ(ReadAll(lines, path).report.rows, 3U) << "blank lines are no rows";
  }
  EXPECT_THAT(
      ReadAll("\xEF\xBB\xBF \n[{\"text\": \"a\"},\n{\"prompt\": \"p\", \"completion\": \"c\"}]", "x.json").texts,
      ElementsAre("a<E>", "Question: p\nAnswer: c<E>"));
  EXPECT_THAT(ReadAll("{\"body\": \"a\"}", "x.jsonl", {.fields = {.text = "body"}}).texts, ElementsAre("a<E>"));
}

TEST(ReadDocuments, PlainTextIsCutAtLineEndsAndNothingIsLost) {
  std::string text;
  for (int line = 0; line < 5000; ++line) text += fmt::format("line {} of some text\n", line);
  text += "and an end without a line end";
  for (const char* path : {"x.txt", "x.md", "x", "x.TXT"}) {
    const Read read = ReadAll(text, path);
    ASSERT_GT(read.texts.size(), 5U);
    std::string joined;
    for (size_t i = 0; i < read.texts.size(); ++i) {
      joined += read.texts[i];
      EXPECT_FALSE(read.whole[i]);
      if (i + 1 == read.texts.size()) break;
      EXPECT_GE(read.texts[i].size(), 8192U);
      EXPECT_LT(read.texts[i].size(), 8192U + 32);
      EXPECT_EQ(read.texts[i].back(), '\n');
    }
    EXPECT_EQ(joined, text);
  }
}

struct BadRow {
  const char* row;
  const char* words;
};

// Rows that break for themselves; a good one before and behind them is used all the same.
constexpr BadRow kBadRows[] = {
    {"{\"txt\": \"a\"}", "found `txt`"},
    {"{\"text\": 1}", "expected a string, found number"},
    {"{\"text\": \"\"}", "expected text, found none"},
    {"[]", "expected an object"},
    {"7", "expected an object"},
    {"{\"text\": \"a\"", "JSON: expected valid JSON"},
    {"{\"text\": \"\xFF\"}", "ill-formed UTF-8"},
    {"{\"text\": \"\xC3\"}", "UTF-8"},
    {"{\"text\": \"\xED\xA0\x80\"}", "UTF-8"},
    {"{'text': 'a'}", "JSON"},
    {"a", "JSON"},
    {"\x01", "JSON"},
    {"{\"text\": \"a\"} {\"text\": \"b\"}", "JSON"},
    {"{\"text\": \"a\", \"text\": \"b\"}", "expected it once"},
};

TEST(ReadDocuments, BadRowsAreCountedAndNamedAndTheOthersUsed) {
  for (const BadRow& bad : kBadRows) {
    SCOPED_TRACE(bad.row);
    const std::string content = std::string("{\"text\": \"a\"}\n\n") + bad.row + "\n{\"text\": \"b\"}\n";
    const Read read = ReadAll(content, "x.jsonl");
    EXPECT_THAT(read.texts, ElementsAre("a<E>", "b<E>"));
    EXPECT_EQ(read.report.skipped, 1U);
    ASSERT_EQ(read.report.examples.size(), 1U);
    EXPECT_THAT(read.report.examples[0], HasSubstr("[x.jsonl:3] "));
    EXPECT_THAT(read.report.examples[0], HasSubstr(bad.words));
    ExpectError([&] { ReadAll(content, "x.jsonl", {.strict = true}); }, ErrorCode::kCorruptData, "[x.jsonl:3] ");
  }
  const Read read = ReadAll("[{\"text\": \"a\"}, {\"txt\": \"a\"}, 7, {\"text\": \"b\"}]", "x.json");
  EXPECT_THAT(read.texts, ElementsAre("a<E>", "b<E>"));
  EXPECT_THAT(read.report.examples,
              ElementsAre(HasSubstr("[x.json record 2] columns"), HasSubstr("[x.json record 3]")));
}

TEST(ReadDocuments, OnlyTheFirstBadRowsAreNamed) {
  std::string content = "{\"text\": \"a\"}\n";
  for (int i = 0; i < 1000; ++i) content += "bad\n";
  const Read read = ReadAll(content, "x.jsonl");
  EXPECT_EQ(read.report.skipped, 1000U);
  ASSERT_EQ(read.report.examples.size(), 5U);
  for (size_t i = 0; i < 5; ++i) EXPECT_THAT(read.report.examples[i], HasSubstr(fmt::format("[x.jsonl:{}]", i + 2)));
}

TEST(ReadDocuments, PlainTextThatIsNoUtf8IsNamedByItsLine) {
  std::string text;
  for (int line = 0; line < 2000; ++line) text += line == 1000 ? "bad \xE9 line\n" : "a line of some text\n";
  const Read read = ReadAll(text, "x.txt");
  EXPECT_EQ(read.report.skipped, 1U);
  ASSERT_EQ(read.report.examples.size(), 1U);
  EXPECT_THAT(read.report.examples[0], HasSubstr("[x.txt:1001] text: expected UTF-8, found the byte 0xE9"));
  ExpectError([&] { ReadAll(text, "x.txt", {.strict = true}); }, ErrorCode::kCorruptData, "[x.txt:1001]");
  // Characters at the border of two pieces are whole.
  std::string long_line;
  while (long_line.size() < 100'000) long_line += "\u4e2d";
  EXPECT_EQ(ReadAll(long_line, "x.txt").report.skipped, 0U);
}

TEST(ReadDocuments, FilesWithNothingUsableAreErrors) {
  for (const char* content : {"", "\n", " \r\n\n", "\xEF\xBB\xBF"}) {
    ExpectError([&] { ReadAll(content, "x.jsonl"); }, ErrorCode::kInvalidArgument,
                "[x.jsonl] text: expected at least one row, found none");
  }
  ExpectError([&] { ReadAll("[]", "x.json"); }, ErrorCode::kInvalidArgument, "[x.json]");
  ExpectError([&] { ReadAll("", "x.json"); }, ErrorCode::kInvalidArgument, "[x.json]");
  ExpectError([&] { ReadAll("", "x.txt"); }, ErrorCode::kInvalidArgument, "[x.txt]");
  ExpectError([&] { ReadAll("[{\"text\": \"a\"", "x.json"); }, ErrorCode::kCorruptData, "[x.json] JSON");
  ExpectError([&] { ReadAll("[{\"text\": \"\xFF\"}]", "x.json"); }, ErrorCode::kCorruptData, "[x.json] JSON");
  // What was found and what is expected are both in the message.
  const std::string wrong = "{\"body\": \"a\", \"id\": 1}\n{\"body\": \"b\", \"id\": 2}\n";
  ExpectError([&] { ReadAll(wrong, "x.jsonl"); }, ErrorCode::kCorruptData,
              "[x.jsonl] rows: expected one that can be used, found 2 that cannot; the first: [x.jsonl:1] columns: "
              "expected `messages`");
  ExpectError([&] { ReadAll(wrong, "x.jsonl"); }, ErrorCode::kCorruptData, "found `body`, `id`;");
  ExpectError([&] { ReadAll("{\"text\": \"a\"}", "x.jsonl", {.fields = {.prompt = "p"}}); },
              ErrorCode::kInvalidArgument, "half of a pair");
}

TEST(ReadDocuments, AChatForAModelWithoutATemplateEndsTheReading) {
  const std::string content =
      "{\"text\": \"a\"}\n{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}\n{\"text\": \"b\"}\n";
  ExpectError([&] { ReadAll(content, "x.jsonl"); }, ErrorCode::kUnsupported,
              "[x.jsonl:2] chat: expected a model with a chat template");
}

TEST(ReadDocuments, MissingFilesAreErrors) {
  const TempDirectory directory;
  const ByteTokenizer tokenizer;
  const auto read = [&](const std::string& path) {
    return ReadDocuments(path, tokenizer, {}, [](EncodedDocument&&) { return true; });
  };
  ExpectError([&] { read(directory / "absent.txt"); }, ErrorCode::kNotFound, "absent.txt");
  ExpectError([&] { read(directory.path()); }, ErrorCode::kNotFound, "expected a readable file, found a directory");
  ExpectError([&] { read("/dev/null"); }, ErrorCode::kNotFound, "expected a readable file");
  EXPECT_EQ(read(directory.Write("a.jsonl", "{\"text\": \"a\"}")).used, 1U);
}

TEST(ReadDocuments, TheSinkEndsTheReading) {
  std::string content;
  for (int i = 0; i < 1000; ++i) content += i % 10 == 1 ? "bad\n" : "{\"text\": \"a\"}\n";
  std::istringstream in(content);
  int taken = 0;
  const DocumentReport report =
      ReadDocuments(in, "x.jsonl", ByteTokenizer(), {}, [&](EncodedDocument&&) { return ++taken < 7; });
  EXPECT_EQ(taken, 7);
  EXPECT_EQ(report.used, 7U);
  EXPECT_EQ(report.rows, 8U) << "the bad one on the way counts, what comes later does not";
}

// Any number of threads, rows small and large and bad among them: the same documents, report and example rows.
TEST(ReadDocuments, TheResultDoesNotDependOnTheThreads) {
  std::string content;
  for (int i = 0; i < 3000; ++i) {
    if (i % 97 == 3) {
      content += fmt::format("{{\"txt{}\": 1}}\n", i);
    } else if (i % 5 == 0) {
      content +=
          fmt::format("{{\"prompt\": \"what is {}\", \"completion\": \"{}\"}}\n", i, std::string(i % 700, 'x') + "y");
    } else {
      content += fmt::format("{{\"text\": \"hello he's {}\"}}\n", i);
    }
  }
  // Pairs in even rows are chats.
  const WithTemplate tokenizer(SmallTokenizers()[0].tokenizer,
                               "{% for m in messages %}{{ m['role'] + m['content'] }}{% endfor %}");
  const auto read = [&](int threads) {
    std::istringstream in(content);
    std::vector<int32_t> ids;
    std::vector<uint8_t> marks;
    const DocumentReport report =
        ReadDocuments(in, "x.jsonl", tokenizer, {.threads = threads}, [&](EncodedDocument&& d) {
          ids.insert(ids.end(), d.ids.begin(), d.ids.end());
          marks.insert(marks.end(), d.in_loss.begin(), d.in_loss.end());
          return true;
        });
    return std::tuple(ids, marks, report.used, report.skipped, report.examples);
  };
  const auto one = read(1);
  EXPECT_GT(std::get<3>(one), 20U);
  for (const int threads : {2, 3, 8}) EXPECT_EQ(read(threads), one) << threads;
}

TEST(ReadDocuments, ALineOverTheLimitIsSkipped) {
  const std::string content = "{\"text\": \"a\"}\n{\"text\": \"" + std::string(5000, 'x') + "\"}\n{\"text\": \"b\"}\n";
  const Read read = ReadAll(content, "x.jsonl", {.max_row_bytes = 5011});
  EXPECT_THAT(read.texts, ElementsAre("a<E>", "b<E>"));
  EXPECT_THAT(read.report.examples,
              ElementsAre(HasSubstr("[x.jsonl:2] line: expected at most 5011 bytes, found 5012; ")));
  EXPECT_EQ(ReadAll(content, "x.jsonl", {.max_row_bytes = 5012}).report.used, 3U);
  // All blank as far as it is read, and yet no blank line.
  EXPECT_EQ(ReadAll("{\"text\": \"a\"}\n" + std::string(5000, ' ') + "7\n", "x.jsonl", {.max_row_bytes = 4000})
                .report.skipped,
            1U);
}

// Two good rows around one of a gigabyte, made as it is read.
class GigabyteLine : public std::streambuf {
 protected:
  std::streamsize xsgetn(char* to, std::streamsize count) override {
    std::streamsize done = 0;
    while (done < count && part_ < 3) {
      const auto step = std::min(count - done, sizes_[part_] - at_);
      if (part_ == 1) {
        std::memset(to + done, 'x', static_cast<size_t>(step));
      } else {
        std::memcpy(to + done, kEnds[part_ / 2].data() + at_, static_cast<size_t>(step));
      }
      done += step;
      at_ += step;
      if (at_ == sizes_[part_]) {
        ++part_;
        at_ = 0;
      }
    }
    return done;
  }

 private:
  static constexpr std::string_view kEnds[] = {"{\"text\": \"a\"}\n{\"text\": \"", "\"}\n{\"text\": \"b\"}\n"};
  const std::streamsize sizes_[3] = {static_cast<std::streamsize>(kEnds[0].size()), std::streamsize{1} << 30,
                                     static_cast<std::streamsize>(kEnds[1].size())};
  size_t part_ = 0;
  std::streamsize at_ = 0;
};

TEST(ReadDocuments, ALineOfAGigabyteTakesNoMemory) {
  GigabyteLine buffer;
  std::istream in(&buffer);
  constexpr size_t kLimit = size_t{4} << 20;
  const AllocationMeter meter;
  int used = 0;
  const DocumentReport report = ReadDocuments(in, "x.jsonl", ByteTokenizer(), {.max_row_bytes = kLimit},
                                              [&](EncodedDocument&&) { return ++used > 0; });
  EXPECT_EQ(used, 2);
  EXPECT_THAT(report.examples,
              ElementsAre(HasSubstr("[x.jsonl:2] line: expected at most 4194304 bytes, found 107374")));
  // The start of the line in a string that doubles as it grows (old and new at once), and less than a MiB of blocks.
  EXPECT_LT(meter.PeakBytes(), 3 * kLimit + (size_t{1} << 20));
}

// A record may be small and yet cost much more than its bytes once parsed.
TEST(ReadDocuments, RecordsOfTooManyValuesAreSkipped) {
  std::string row = "{\"text\": \"a\", \"x\": [0";
  for (int i = 0; i < 1'000'000; ++i) row += ",0";
  const Read read = ReadAll("{\"text\": \"a\"}\n" + row + "]}\n", "x.jsonl");
  EXPECT_EQ(read.report.used, 1U);
  EXPECT_THAT(read.report.examples, ElementsAre(HasSubstr("[x.jsonl:2] JSON: expected at most 1000000 keys")));
}

}  // namespace
}  // namespace gateskip::testing
