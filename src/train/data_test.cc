// SPDX-License-Identifier: Apache-2.0
// From files to sequences: loss marks and running text on their way, reports, ranks, what is refused. The tokenizer has
// one token per byte.
#include "train/data.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/testing/expect_error.h"
#include "io/testing/temp_directory.h"
#include "text/testing/byte_tokenizer.h"

namespace gateskip::train {
namespace {

using ::gateskip::testing::ByteTokenizer;
using ::gateskip::testing::ExpectError;
using ::gateskip::testing::kBos;
using ::gateskip::testing::kEos;
using ::gateskip::testing::TempDirectory;
using ::testing::HasSubstr;

constexpr const char* kTurns =
    "{% for m in messages %}{{ m['role'][0] + ':' + m['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}";

// Two lines: a sequence's text, and `^` below what is in its loss. <B> and <E> are one token each.
std::string Drawn(const TrainSequence& sequence) {
  const ByteTokenizer tokenizer;
  std::string text;
  std::string marks;
  for (size_t i = 0; i < sequence.tokens.size(); ++i) {
    const std::string bytes = tokenizer.TokenBytes(sequence.tokens[i], true);
    text += bytes;
    marks += std::string(bytes.size(), sequence.in_loss[i] != 0 ? '^' : '.');
  }
  return text + "\n" + marks;
}

TEST(TrainData, LossMarksReachTheSequences) {
  const TempDirectory directory;
  const std::string chats = directory.Write(
      "chat.jsonl",
      "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"yes\"}]}\n");
  const std::string texts = directory.Write("text.jsonl", "{\"text\": \"abc\"}\n");
  const std::string pairs = directory.Write("pair.jsonl", "{\"prompt\": \"p\", \"completion\": \"c\"}\n");
  const auto first = [](const std::string& path, bool bos, DataOptions options) {
    options.sequence_length = 14;
    return Drawn(TrainData({{path}}, ByteTokenizer(bos, kTurns), options).Sequence(0));
  };
  EXPECT_EQ(first(chats, false, {}),
            "u:q<E>a:yes<E><E><E><E><E>\n"
            "........^^^^^^............");
  EXPECT_EQ(first(chats, true, {}),
            "<B>u:q<E>a:yes<E><E><E><E>\n"
            "...........^^^^^^.........");
  EXPECT_EQ(first(chats, true, {.loss_on_prompts = true}),
            "<B>u:q<E>a:yes<E><E><E><E>\n"
            "...^^^^^^^^^^^^^^.........");
  EXPECT_EQ(first(texts, false, {}),
            "abc<E>" + std::string("<E><E><E><E><E><E><E><E><E><E>\n") + ".^^^^^" + std::string(30, '.'));
  EXPECT_EQ(first(texts, true, {}).substr(0, 9), "<B>abc<E>");
  EXPECT_THAT(first(texts, true, {}), HasSubstr("\n...^^^^^^..."));
  EXPECT_THAT(first(pairs, false, {.pairs = PairFormat::kRaw}), HasSubstr("\n.^^^^..."));
  EXPECT_THAT(first(pairs, false, {}), HasSubstr("u:p<E>a:c<E>"));
}

// A book is not shuffled line by line: most sequences are one part of it, in the order of the text.
TEST(TrainData, RunningTextStaysTogether) {
  const TempDirectory directory;
  std::string text;
  for (int i = 0; text.size() < 400'000; ++i) text += fmt::format("{:07} some words\n", i);
  const std::string path = directory.Write("book.txt", text);
  constexpr int64_t kLength = 512;
  for (const bool bos : {false, true}) {
    TrainData data({{path}}, ByteTokenizer(bos), {.sequence_length = kLength});
    int64_t starts = 0;
    for (int64_t n = 0; n < data.sequences_per_epoch(); ++n) {
      const TrainSequence sequence = data.Sequence(n);
      std::string part;  // goes on as the book has it
      for (size_t t = 0; t < sequence.tokens.size(); ++t) {
        if (sequence.position[t] == 0) {
          EXPECT_NE(text.find(part), std::string::npos) << part;
          part.clear();
          ++starts;
        }
        if (sequence.tokens[t] < 256) part.push_back(static_cast<char>(sequence.tokens[t]));
      }
      EXPECT_NE(text.find(part), std::string::npos) << part;
    }
    // A document is one piece of the reader's, 8 KiB or 16 sequences: each puts one more start into a sequence, and so
    // does padding.
    const auto documents = data.reports()[0].documents;
    EXPECT_NEAR(static_cast<double>(documents), 400'000.0 / 8192, 2);
    EXPECT_LE(starts, data.sequences_per_epoch() + documents + 1 + (bos ? documents : 0));
  }
  // One document per sequence: nothing is cut off.
  TrainData none({{path}}, ByteTokenizer(true), {.sequence_length = kLength, .packing = Packing::kNone});
  EXPECT_EQ(none.reports()[0].cut, 0);
  EXPECT_EQ(none.sequences_per_epoch(), (static_cast<int64_t>(text.size()) + kLength - 2) / (kLength - 1));
}

TEST(TrainData, RanksTogetherSeeWhatOneProcessSees) {
  const TempDirectory directory;
  std::string rows;
  for (int i = 0; i < 300; ++i) rows += fmt::format("{{\"text\": \"row {}\"}}\n", i * i);
  const std::vector<TrainSource> sources = {{directory.Write("a.jsonl", rows), 1.0},
                                            {directory.Write("b.txt", std::string(5000, 'b')), 0.4}};
  for (const Packing packing : {Packing::kMasked, Packing::kJoined, Packing::kNone}) {
    const DataOptions options = {.sequence_length = 32, .seed = 3, .packing = packing};
    TrainData one(sources, ByteTokenizer(true), options);
    for (const int64_t world : {2, 3}) {
      for (int64_t rank = 0; rank < world; ++rank) {
        TrainData own(sources, ByteTokenizer(true), options);
        for (int64_t n = rank; n < 500; n += world) ASSERT_EQ(own.Sequence(n), one.Sequence(n)) << n;
      }
    }
    // Resumed in the far middle of a long run.
    TrainData resumed(sources, ByteTokenizer(true), options);
    EXPECT_EQ(resumed.Sequence(1'000'000'007), one.Sequence(1'000'000'007));
  }
}

TEST(TrainData, TheHashIsOfTokensLossAndBorders) {
  const TempDirectory directory;
  const auto hash = [&](const std::string& rows, DataOptions options = {}) {
    options.sequence_length = 8;
    return TrainData({{directory.Write("x.jsonl", rows)}}, ByteTokenizer(), options).sha256();
  };
  const std::string rows = "{\"text\": \"abcd\"}\n{\"prompt\": \"p\", \"completion\": \"c\"}\n";
  EXPECT_EQ(hash(rows), hash(rows, {.seed = 5, .packing = Packing::kJoined, .threads = 3}))
      << "the order does not count, nor how it is packed";
  EXPECT_EQ(hash(rows), hash("bad\n" + rows));
  EXPECT_NE(hash(rows), hash(rows, {.loss_on_prompts = true}));
  EXPECT_NE(hash(rows), hash("{\"text\": \"abce\"}\n{\"prompt\": \"p\", \"completion\": \"c\"}\n"));
  const std::string chunks = std::string(8192, 'x') + "\n";
  const auto text_hash = [&](int64_t length) {
    return TrainData({{directory.Write("x.txt", chunks + chunks)}}, ByteTokenizer(), {.sequence_length = length})
        .sha256();
  };
  EXPECT_NE(text_hash(8), text_hash(8192)) << "where documents end";
}

TEST(TrainData, ReportsSayWhatWasUsed) {
  const TempDirectory directory;
  std::string rows = "{\"text\": \"abc\"}\n{\"txt\": 1}\nbad\n{\"prompt\": \"p\", \"completion\": \"c\"}\n";
  for (int i = 0; i < 9; ++i) rows += "bad\n";
  const std::string path = directory.Write("x.jsonl", rows);
  const TrainData data({{path}}, ByteTokenizer(), {.sequence_length = 8, .pairs = PairFormat::kRaw});
  const SourceReport& report = data.reports().at(0);
  EXPECT_EQ(report.rows.rows, 13U);
  EXPECT_EQ(report.rows.used, 2U);
  EXPECT_EQ(report.rows.skipped, 11U);
  EXPECT_EQ(report.documents, 2);
  EXPECT_EQ(report.tokens, 7);   // abc EOS, p c EOS
  EXPECT_EQ(report.targets, 5);  // but for a and p
  const auto lines = report.Lines();
  ASSERT_EQ(lines.size(), 7U);
  EXPECT_EQ(lines[0], path + ": 13 rows, 11 skipped; 2 documents of 7 tokens, 5 of them in the loss");
  EXPECT_THAT(lines[1], HasSubstr("x.jsonl:2] columns: expected"));
  EXPECT_THAT(lines[6], HasSubstr("and 6 more rows skipped"));
  ExpectError([&] { TrainData({{path}}, ByteTokenizer(), {.sequence_length = 8, .strict = true}); },
              ErrorCode::kCorruptData, "x.jsonl:2] columns");
  // A part of the file: its rows are all read, its documents are those of the part.
  const TrainData part({{path, 1.0, 0.5, 1.0}}, ByteTokenizer(), {.sequence_length = 8, .pairs = PairFormat::kRaw});
  EXPECT_EQ(part.reports()[0].documents, 1);
  EXPECT_EQ(part.reports()[0].tokens, 3);
}

TEST(TrainData, NothingToLearnIsAnError) {
  const TempDirectory directory;
  const auto refused = [&](const std::string& rows, const DataOptions& options, ErrorCode code, const char* words) {
    const std::string path = directory.Write("x.jsonl", rows);
    ExpectError([&] { TrainData({{path}}, ByteTokenizer(false, kTurns), options); }, code, words);
  };
  const std::string question = "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}]}\n";
  refused(question + question, {.sequence_length = 8}, ErrorCode::kCorruptData, "found 2 that cannot; the first: [");
  refused("", {.sequence_length = 8}, ErrorCode::kInvalidArgument, "expected at least one row, found none");
  refused("{\"txt\": 1}\n", {.sequence_length = 8}, ErrorCode::kCorruptData, "found `txt`");
  // The only answer begins beyond the cut.
  refused("{\"prompt\": \"0123456789\", \"completion\": \"c\"}\n",
          {.sequence_length = 8, .packing = Packing::kNone, .pairs = PairFormat::kRaw}, ErrorCode::kInvalidArgument,
          "loss: expected tokens to learn, found none in 1 documents");
  // One token, and nothing before it that could predict it.
  const std::string one = directory.Write("one.txt", "a");
  ExpectError([&] { TrainData({{one}}, ByteTokenizer(), {.sequence_length = 8}); }, ErrorCode::kInvalidArgument,
              "one.txt] loss: expected tokens to learn");
  EXPECT_NO_THROW(TrainData({{one}}, ByteTokenizer(true), {.sequence_length = 8}));
  // Less text than a sequence is enough where it is padded.
  EXPECT_EQ(
      TrainData({{directory.Write("ab.txt", "ab")}}, ByteTokenizer(), {.sequence_length = 8}).sequences_per_epoch(), 1);
}

TEST(TrainData, NamedColumnsOfASource) {
  const TempDirectory directory;
  const std::string path = directory.Write("x.jsonl", "{\"body\": \"abc\", \"text\": \"no\"}\n");
  TrainSource source;
  source.path = path;
  source.fields.text = "body";
  EXPECT_THAT(Drawn(TrainData({source}, ByteTokenizer(), {.sequence_length = 4}).Sequence(0)), HasSubstr("abc<E>"));
}

}  // namespace
}  // namespace gateskip::train
