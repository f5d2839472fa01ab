// SPDX-License-Identifier: Apache-2.0
// Several training texts mixed by weight: shares, parts of files, and that the n-th sequence of a run depends on the
// seed and n alone.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>
#include <span>

#include "io/testing/expect_error.h"
#include "io/testing/temp_directory.h"
#include "text/testing/byte_tokenizer.h"
#include "train/data.h"

namespace gateskip::train {
namespace {

using ::gateskip::testing::ByteTokenizer;
using ::gateskip::testing::ExpectError;
using ::gateskip::testing::TempDirectory;
using Ids = std::vector<int32_t>;

// `count` records of 4 tokens: the source's letter, two digits and EOS.
std::string Records(char letter, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += fmt::format("{{\"text\": \"{}{:02}\"}}\n", letter, i);
  return text;
}

std::string TextOf(std::span<const int32_t> ids) { return ByteTokenizer().Decode(ids, /*special=*/true); }

// One stream and tokens alone, as the tests of mixing want it.
DataOptions Joined(int64_t length, uint64_t seed) {
  return {.sequence_length = length, .seed = seed, .packing = Packing::kJoined};
}

TEST(TrainData, MixesByWeight) {
  const TempDirectory directory;
  const std::vector<TrainSource> sources = {{directory.Write("a.jsonl", Records('a', 50)), 1.0},
                                            {directory.Write("b.jsonl", Records('b', 5)), 2.5},
                                            {directory.Write("c.jsonl", Records('c', 100)), 0.5}};
  TrainData data(sources, ByteTokenizer(), Joined(8, 11));
  constexpr int kDraws = 16 * 256;
  int counts[3] = {};
  for (int n = 0; n < kDraws; ++n) {
    const int source = data.Sequence(n).tokens[0] - 'a';
    ASSERT_TRUE(source >= 0 && source < 3);
    ++counts[source];
  }
  for (int s = 0; s < 3; ++s) {
    const double share = sources[static_cast<size_t>(s)].weight / 4.0;
    EXPECT_NEAR(counts[s], kDraws * share, 3) << "source " << s << ": as source_schedule_test has it";
  }
  EXPECT_EQ(data.sequences_per_epoch(), 25 + 2 + 50);
}

TEST(TrainData, SequenceFollowsFromSeedAndIndexAlone) {
  const TempDirectory directory;
  const std::vector<TrainSource> sources = {{directory.Write("a.jsonl", Records('a', 30)), 1.0},
                                            {directory.Write("b.jsonl", Records('b', 40)), 3.0}};
  const ByteTokenizer tokenizer;
  TrainData in_order(sources, tokenizer, Joined(8, 3));
  std::vector<Ids> expected;
  for (int64_t n = 0; n < 300; ++n) expected.push_back(in_order.Sequence(n).tokens);
  TrainData jumping(sources, tokenizer, Joined(8, 3));
  std::mt19937 random(4);
  for (int i = 0; i < 300; ++i) {
    const size_t n = random() % expected.size();
    ASSERT_EQ(jumping.Sequence(static_cast<int64_t>(n)).tokens, expected[n]) << n;
  }
  // A source's own sequences come in its own order, none left out: its first epoch holds each record once.
  std::set<std::string> records;
  int taken = 0;
  for (size_t n = 0; taken < 15; ++n) {
    if (expected[n][0] != 'a') continue;
    ++taken;
    const std::span<const int32_t> ids = expected[n];
    EXPECT_TRUE(records.insert(TextOf(ids.first(4))).second) << TextOf(ids);
    EXPECT_TRUE(records.insert(TextOf(ids.last(4))).second) << TextOf(ids);
  }
  EXPECT_EQ(records.size(), 30U);

  TrainData other_seed(sources, tokenizer, Joined(8, 4));
  int equal = 0;
  int same_source = 0;
  for (int64_t n = 0; n < 100; ++n) {
    const Ids ids = other_seed.Sequence(n).tokens;
    equal += ids == expected[static_cast<size_t>(n)];
    same_source += ids[0] == expected[static_cast<size_t>(n)][0];
  }
  EXPECT_LT(equal, 50) << "documents are shuffled by the seed";
  EXPECT_LT(same_source, 100) << "and so are the sources";
  EXPECT_EQ(other_seed.sha256(), in_order.sha256()) << "the hash is of the text, not of the order";
}

TEST(TrainData, PartsOfAFileAreDisjointAndCoverIt) {
  const TempDirectory directory;
  const std::string path = directory.Write("a.jsonl", Records('a', 37));
  const auto records = [&](double begin, double end) {
    TrainData data({{path, 1.0, begin, end}}, ByteTokenizer(), Joined(4, 9));
    std::set<std::string> result;
    for (int64_t n = 0; n < data.sequences_per_epoch(); ++n) {
      EXPECT_TRUE(result.insert(TextOf(data.Sequence(n).tokens)).second);
    }
    return result;
  };
  const double cuts[] = {0, 0.1, 1.0 / 3, 0.5, 0.93, 1};
  std::set<std::string> all;
  size_t sum = 0;
  for (size_t i = 0; i + 1 < std::size(cuts); ++i) {
    const auto part = records(cuts[i], cuts[i + 1]);
    EXPECT_NEAR(static_cast<double>(part.size()), 37 * (cuts[i + 1] - cuts[i]), 1.0);
    sum += part.size();
    all.insert(part.begin(), part.end());
  }
  EXPECT_EQ(sum, 37U);
  EXPECT_EQ(all, records(0, 1));
  // Shares are taken in file order.
  EXPECT_EQ(records(0, 0.1), (std::set<std::string>{"a00<E>", "a01<E>", "a02<E>"}));
}

TEST(TrainData, TooShortATextIsRefused) {
  const TempDirectory directory;
  const std::string path = directory.Write("a.jsonl", Records('a', 4));  // 16 tokens
  const auto make = [&](int64_t length, bool bos, double end) {
    return [=] { TrainData({{path, 1.0, 0.0, end}}, ByteTokenizer(bos), Joined(length, 1)); };
  };
  EXPECT_NO_THROW(make(16, false, 1)());
  EXPECT_NO_THROW(make(17, true, 1)()) << "BOS is none of the text's tokens";
  ExpectError(make(17, false, 1), ErrorCode::kInvalidArgument, "a.jsonl] training text: expected at least 17 tokens");
  ExpectError(make(18, true, 1), ErrorCode::kInvalidArgument, "expected at least 17 tokens, found 16");
  ExpectError(make(4, false, 0.2), ErrorCode::kInvalidArgument, "part 0 to 0.2: expected documents, found none of 4");
  ExpectError(
      [&] {
        TrainData({{path}, {directory.Write("empty.txt", "")}}, ByteTokenizer(), Joined(4, 1));
      },
      ErrorCode::kInvalidArgument, "empty.txt");
}

TEST(TrainData, HeldOutTextTakesSourcesInTurn) {
  const TempDirectory directory;
  const std::vector<TrainSource> sources = {{directory.Write("a.jsonl", Records('a', 6)), 1.0},
                                            {directory.Write("b.jsonl", Records('b', 6)), 100.0}};
  TrainData data(sources, ByteTokenizer(/*add_bos=*/true), Joined(5, 0));
  std::vector<Ids> sequences;
  for (const TrainSequence& sequence : data.InTurn(9)) sequences.push_back(sequence.tokens);
  ASSERT_EQ(sequences.size(), 9U);
  std::set<Ids> distinct(sequences.begin(), sequences.end());
  EXPECT_EQ(distinct.size(), 9U);
  for (size_t i = 0; i < sequences.size(); ++i) {
    ASSERT_EQ(sequences[i].size(), 5U);
    EXPECT_EQ(sequences[i][0], testing::kBos);
    EXPECT_EQ(sequences[i][1], i % 2 == 0 ? 'a' : 'b');
  }
  const auto first = data.InTurn(4);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(first[i].tokens, sequences[i]);
}

}  // namespace
}  // namespace gateskip::train
