// SPDX-License-Identifier: Apache-2.0
// What every kind of file becomes as documents, and documents as token ids. The tokenizer is a stand-in, one token per
// byte, so that expected ids can be written down.
#include "text/documents.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "io/testing/expect_error.h"
#include "io/testing/temp_directory.h"
#include "text/testing/byte_tokenizer.h"

namespace gateskip::testing {
namespace {

using Ids = std::vector<int32_t>;
constexpr ErrorCode kCorrupt = ErrorCode::kCorruptData;

Ids Bytes(std::string_view text) { return ByteTokenizer().Encode(text, true); }

std::string Joined(const std::vector<Document>& documents) {
  std::string text;
  for (const Document& document : documents) text += document.text;
  return text;
}

TEST(ParseDocuments, JsonLinesOfEveryForm) {
  const auto documents = ParseDocuments(
      "{\"text\": \"plain\", \"id\": 7}\r\n"
      "\n"
      " \t\r\n"
      "{\"question\": \"q\", \"answer\": \"a\"}\n"
      "{\"prompt\": \"p\", \"completion\": \"c\"}\n"
      "{\"instruction\": \"i\", \"output\": \"\\u00e9\\n\"}",  // the last line needs no end
      "x.jsonl");
  ASSERT_EQ(documents.size(), 4U);
  EXPECT_EQ(documents[0].text, "plain");
  EXPECT_TRUE(documents[0].question.empty() && documents[0].answer.empty());
  EXPECT_EQ(documents[1].question + documents[1].answer, "qa");
  EXPECT_EQ(documents[2].question + documents[2].answer, "pc");
  EXPECT_EQ(documents[3].question, "i");
  EXPECT_EQ(documents[3].answer, "\xC3\xA9\n");
  EXPECT_TRUE(documents[3].text.empty());
}

TEST(ParseDocuments, JsonArrayIsTheSame) {
  const auto documents = ParseDocuments("[{\"text\": \"a\"},\n{\"prompt\": \"p\", \"completion\": \"c\"}]", "x.json");
  ASSERT_EQ(documents.size(), 2U);
  EXPECT_EQ(documents[0].text, "a");
  EXPECT_EQ(documents[1].question + documents[1].answer, "pc");
}

TEST(ParseDocuments, BadRowsAreNamedByFileAndLine) {
  const auto parse = [](const char* content, const char* path) { return [=] { ParseDocuments(content, path); }; };
  const char* good = "{\"text\": \"a\"}\n\n";
  const auto third = [&](const char* row) { return std::string(good) + row + "\n{\"text\": \"b\"}\n"; };
  for (const char* row :
       {"{\"txt\": \"a\"}", "{\"text\": 1}", "{\"question\": \"q\"}", "{\"question\": 1, \"answer\": 2}",
        "{\"prompt\": \"q\", \"answer\": \"a\"}", "[]", "\"text\"", "null", "7", "{}"}) {
    SCOPED_TRACE(row);
    ExpectError(parse(third(row).c_str(), "x.jsonl"), kCorrupt, "[x.jsonl:3] ");
    ExpectError(parse(third(row).c_str(), "x.jsonl"), kCorrupt, "expected a string field `text`");
  }
  for (const char* row : {"{\"text\": \"a\"", "{\"text\": \"\xFF\"}", "{\"text\": \"\xC3\"}", "{'text': 'a'}", "a",
                          "\x01", "{\"text\": \"a\"} {\"text\": \"b\"}", "{\"text\": \"a\", \"text\": \"b\"}"}) {
    SCOPED_TRACE(row);
    ExpectError(parse(third(row).c_str(), "x.jsonl"), kCorrupt, "[x.jsonl:3] ");
  }
  ExpectError(parse("[{\"text\": \"a\"}, {\"txt\": \"a\"}]", "x.json"), kCorrupt, "[x.json] record 2: expected");
  ExpectError(parse("{\"text\": \"a\"}", "x.json"), kCorrupt, "expected an array of records, found object");
  ExpectError(parse("[{\"text\": \"\xFF\"}]", "x.json"), kCorrupt, "[x.json] ");
  ExpectError(parse("", "x.json"), kCorrupt, "[x.json] ");
}

TEST(ParseDocuments, EmptyTextHoldsNoDocuments) {
  for (const char* content : {"", "\n", " \r\n\n"}) EXPECT_TRUE(ParseDocuments(content, "x.jsonl").empty());
  EXPECT_TRUE(ParseDocuments("[]", "x.json").empty());
  EXPECT_TRUE(ParseDocuments("", "x.txt").empty());
}

TEST(ParseDocuments, PlainTextIsCutAtLineEnds) {
  std::string text;
  for (int line = 0; line < 5000; ++line) text += fmt::format("line {} of some text\n", line);
  text += "and an end without a line end";
  const auto pieces = ParseDocuments(text, "x.txt");
  ASSERT_GT(pieces.size(), 5U);
  EXPECT_EQ(Joined(pieces), text);
  for (size_t i = 0; i + 1 < pieces.size(); ++i) {
    EXPECT_GE(pieces[i].text.size(), 8192U);
    EXPECT_LT(pieces[i].text.size(), 8192U + 32);
    EXPECT_EQ(pieces[i].text.back(), '\n');
  }
}

// Bytes that are no UTF-8 and no line ends at all: nothing is refused, nothing lost, no piece grows without bound.
TEST(ParseDocuments, PlainTextMayBeAnything) {
  std::string text(size_t{8} << 20, 'x');
  for (size_t i = 0; i < text.size(); i += 3) text[i] = static_cast<char>(0x80 + i % 97);
  text[text.size() / 2] = '\n';
  const auto pieces = ParseDocuments(text, "one-line.md");
  EXPECT_EQ(Joined(pieces), text);
  for (const Document& piece : pieces) EXPECT_LE(piece.text.size(), 4 * 8192U + 1);
}

TEST(ReadDocuments, MissingFilesAreErrors) {
  const TempDirectory directory;
  ExpectError([&] { ReadDocuments(directory / "absent.txt"); }, ErrorCode::kNotFound, "absent.txt");
  ExpectError([&] { ReadDocuments(directory.path()); }, ErrorCode::kNotFound, "expected a readable file");
  EXPECT_TRUE(ReadDocuments(directory.Write("empty.jsonl", "")).empty());
  EXPECT_EQ(ReadDocuments(directory.Write("a.jsonl", "{\"text\": \"a\"}")).size(), 1U);
}

TEST(TokenizeDocuments, WholeDocumentsEndWithEosAndPiecesDoNot) {
  const ByteTokenizer tokenizer;
  const auto records = ParseDocuments(
      "{\"text\": \"ab<E>\"}\n{\"text\": \"\"}\n{\"prompt\": \"q\", \"completion\": \"a\"}\n", "x.jsonl");
  const auto ids = TokenizeDocuments(records, tokenizer);
  ASSERT_EQ(ids.size(), 2U) << "an empty document is none";
  Ids expected = tokenizer.Encode("ab<E>", false);  // written out, a special token is ordinary text
  expected.push_back(testing::kEos);
  EXPECT_EQ(ids[0], expected);
  EXPECT_EQ(ids[1], Bytes("Question: q\nAnswer: a<E>"));
  EXPECT_EQ(TokenizeDocuments(ParseDocuments("abc", "x.txt"), tokenizer), std::vector<Ids>{Bytes("abc")});
}

TEST(TokenizeDocuments, EverySecondPairIsAChat) {
  const char* chat =
      "{{ bos_token }}{% for m in messages %}{{ m['role'][0] + ':' + m['content'] + eos_token }}{% endfor %}";
  const std::vector<Document> pairs = {{"", "q1", "a1"}, {"t", "", ""}, {"", "q2", "a2"}, {"", "q3", "a3"}};
  const auto ids = TokenizeDocuments(pairs, ByteTokenizer(/*add_bos=*/false, chat));
  ASSERT_EQ(ids.size(), 4U);
  EXPECT_EQ(ids[0], Bytes("<B>u:q1<E>a:a1<E>"));
  EXPECT_EQ(ids[2], Bytes("Question: q2\nAnswer: a2<E>")) << "plain text between pairs does not count";
  EXPECT_EQ(ids[3], Bytes("<B>u:q3<E>a:a3<E>"));
  // Where every sequence starts with BOS anyway, the template's own is left out.
  EXPECT_EQ(TokenizeDocuments(pairs, ByteTokenizer(/*add_bos=*/true, chat))[0], Bytes("u:q1<E>a:a1<E>"));
}

}  // namespace
}  // namespace gateskip::testing
