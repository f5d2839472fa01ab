// SPDX-License-Identifier: Apache-2.0
// How documents become sequences: laws that hold for any documents, length and seed, and small cases drawn by hand.
#include "train/packing.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

namespace gateskip::train {
namespace {

constexpr int32_t kBos = 1;
constexpr int32_t kPad = 2;
constexpr int32_t kFirstId = 10;

struct Documents {
  TokenStore store;
  std::vector<std::vector<int32_t>> ids;
  std::map<int32_t, uint8_t> in_loss;  // by id
};

// Documents of the given lengths; no id occurs twice, marks are random.
Documents MakeDocuments(const std::vector<int>& lengths, uint32_t seed) {
  Documents documents;
  std::mt19937 random(seed);
  int32_t next = kFirstId;
  for (const int length : lengths) {
    std::vector<int32_t> ids;
    std::vector<uint8_t> marks;
    for (int i = 0; i < length; ++i) {
      ids.push_back(next++);
      marks.push_back(static_cast<uint8_t>(random() % 4 != 0));
      documents.in_loss[ids.back()] = marks.back();
    }
    documents.store.Append(ids, marks);
    documents.ids.push_back(std::move(ids));
  }
  return documents;
}

std::vector<int> RandomLengths(std::mt19937* random, int count, int longest) {
  std::vector<int> lengths;
  for (int i = 0; i < count; ++i) lengths.push_back(1 + static_cast<int>((*random)() % static_cast<uint32_t>(longest)));
  return lengths;
}

// The documents of one sequence, told apart by position 0, each with its BOS if it has one.
std::vector<std::vector<int32_t>> PartsOf(const TrainSequence& sequence, int64_t length) {
  EXPECT_EQ(sequence.tokens.size(), static_cast<size_t>(length));
  EXPECT_EQ(sequence.position.size(), sequence.tokens.size());
  EXPECT_EQ(sequence.in_loss.size(), sequence.tokens.size());
  std::vector<std::vector<int32_t>> parts;
  for (size_t t = 0; t < sequence.tokens.size(); ++t) {
    if (sequence.position[t] == 0) parts.emplace_back();
    EXPECT_EQ(sequence.position[t], static_cast<int32_t>(parts.back().size()));
    if (sequence.position[t] == 0 || sequence.tokens[t] < kFirstId) {
      EXPECT_EQ(sequence.in_loss[t], 0);
    }
    parts.back().push_back(sequence.tokens[t]);
  }
  return parts;
}

std::vector<TrainSequence> EpochOf(PackedSource& source, int64_t epoch) {
  std::vector<TrainSequence> sequences;
  for (int64_t n = 0; n < source.sequences_per_epoch(); ++n) {
    sequences.push_back(source.Sequence(epoch * source.sequences_per_epoch() + n));
  }
  return sequences;
}

TEST(PackedSource, MaskedHoldsEveryDocumentOncePerEpochAndNothingCrossesOne) {
  std::mt19937 random(7);
  for (int round = 0; round < 60; ++round) {
    const int64_t length = 2 + static_cast<int64_t>(random() % 40);
    const auto lengths = RandomLengths(&random, 1 + static_cast<int>(random() % 60), round % 2 == 0 ? 9 : 120);
    const std::optional<int32_t> bos = round % 3 == 0 ? std::nullopt : std::optional(kBos);
    SCOPED_TRACE(fmt::format("round {} length {} documents {}", round, length, lengths.size()));
    Documents documents = MakeDocuments(lengths, 100 + static_cast<uint32_t>(round));
    PackedSource source(documents.store, {Packing::kMasked, length, bos, kPad}, 5, 0);
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      std::map<int32_t, int> seen;
      int64_t padding = 0;
      int64_t lone = 0;
      for (const TrainSequence& sequence : EpochOf(source, epoch)) {
        for (const auto& part : PartsOf(sequence, length)) {
          if (part[0] == kPad) {
            EXPECT_EQ(std::count(part.begin(), part.end(), kPad), static_cast<int64_t>(part.size()));
            padding += static_cast<int64_t>(part.size());
            continue;
          }
          if (bos) {
            ASSERT_EQ(part[0], kBos);
          }
          const size_t first = bos ? 1 : 0;
          lone += part.size() == first ? 1 : 0;
          // Ids count up within a document and differ by more across one.
          for (size_t i = first; i < part.size(); ++i) {
            ++seen[part[i]];
            if (i > first) {
              ASSERT_EQ(part[i], part[i - 1] + 1);
            }
          }
        }
        for (size_t t = 0; t < sequence.tokens.size(); ++t) {
          if (sequence.position[t] > 0 && sequence.tokens[t] >= kFirstId) {
            ASSERT_EQ(sequence.in_loss[t], documents.in_loss[sequence.tokens[t]]);
          }
        }
      }
      ASSERT_EQ(seen.size(), documents.in_loss.size()) << "every token";
      for (const auto& [id, count] : seen) ASSERT_EQ(count, 1) << id;
      // The end of the stream, and one token in sequences that begin with a document.
      EXPECT_LT(padding, length + source.sequences_per_epoch());
      EXPECT_LE(lone, source.sequences_per_epoch()) << "a BOS alone stands at the end of a sequence only";
    }
  }
}

// Parts of one document follow each other in the stream: putting them together by their first id gives it back.
TEST(PackedSource, MaskedPartsOfADocumentMakeItWhole) {
  std::mt19937 random(3);
  const auto lengths = RandomLengths(&random, 30, 100);
  Documents documents = MakeDocuments(lengths, 1);
  PackedSource source(documents.store, {Packing::kMasked, 16, kBos, kPad}, 5, 0);
  std::map<int32_t, std::vector<int32_t>> parts;
  for (const TrainSequence& sequence : EpochOf(source, 0)) {
    for (auto part : PartsOf(sequence, 16)) {
      if (part.size() < 2 || part[0] == kPad) continue;
      part.erase(part.begin());
      parts[part[0]] = part;
    }
  }
  std::vector<int32_t> joined;
  for (const auto& [first, part] : parts) joined.insert(joined.end(), part.begin(), part.end());
  std::vector<int32_t> expected;
  for (const auto& ids : documents.ids) expected.insert(expected.end(), ids.begin(), ids.end());
  EXPECT_EQ(joined, expected);
  // A document is cut where sequences end, nowhere else: length 16 holds 15 tokens of the stream.
  size_t most = 0;
  for (const auto& ids : documents.ids) most += (ids.size() + 1) / 15 + 2;
  EXPECT_LE(parts.size(), most);
}

TEST(PackedSource, MaskedDrawnByHand) {
  TokenStore store;
  store.Append(std::vector<int32_t>{10, 11, 12, 13, 14}, std::vector<uint8_t>{0, 0, 1, 1, 1});
  PackedSource with_bos(store, {Packing::kMasked, 4, kBos, kPad}, 1, 0);
  ASSERT_EQ(with_bos.sequences_per_epoch(), 2);
  std::vector<TrainSequence> sequences = EpochOf(with_bos, 0);
  std::sort(sequences.begin(), sequences.end(), [](const auto& a, const auto& b) { return a.tokens[1] < b.tokens[1]; });
  // The stream is BOS 10 11 | 12 13 14: the first sequence begins with a document and has one token over.
  EXPECT_EQ(sequences[0], (TrainSequence{{kBos, 10, 11, kPad}, {0, 1, 2, 0}, {0, 0, 0, 0}}));
  EXPECT_EQ(sequences[1], (TrainSequence{{kBos, 12, 13, 14}, {0, 1, 2, 3}, {0, 1, 1, 1}}));
  PackedSource without(store, {Packing::kMasked, 4, std::nullopt, kPad}, 1, 0);
  sequences = EpochOf(without, 0);
  std::sort(sequences.begin(), sequences.end(), [](const auto& a, const auto& b) { return a.tokens < b.tokens; });
  EXPECT_EQ(sequences[0], (TrainSequence{{10, 11, 12, 13}, {0, 1, 2, 3}, {0, 0, 1, 1}}));
  EXPECT_EQ(sequences[1], (TrainSequence{{14, kPad, kPad, kPad}, {0, 0, 1, 2}, {0, 0, 0, 0}}))
      << "without BOS nothing predicts the first token of a part";
}

TEST(PackedSource, JoinedIsOneStreamAcrossDocuments) {
  std::mt19937 random(11);
  for (const std::optional<int32_t> bos : {std::optional<int32_t>(), std::optional(kBos)}) {
    Documents documents = MakeDocuments(RandomLengths(&random, 40, 20), 2);
    const auto total = static_cast<int64_t>(documents.in_loss.size());
    const int64_t length = 13;
    const int64_t take = length - (bos ? 1 : 0);
    PackedSource source(documents.store, {Packing::kJoined, length, bos, kPad}, 5, 0);
    ASSERT_EQ(source.sequences_per_epoch(), total / take);
    std::set<int32_t> seen;
    for (const TrainSequence& sequence : EpochOf(source, 0)) {
      for (int64_t t = 0; t < length; ++t) {
        const auto i = static_cast<size_t>(t);
        EXPECT_EQ(sequence.position[i], t);
        EXPECT_EQ(sequence.tokens[i] == kBos, bos && t == 0);
        EXPECT_NE(sequence.tokens[i], kPad);
        EXPECT_EQ(sequence.in_loss[i], t == 0 ? 0 : documents.in_loss[sequence.tokens[i]]);
        if (sequence.tokens[i] != kBos) {
          EXPECT_TRUE(seen.insert(sequence.tokens[i]).second);
        }
      }
    }
    EXPECT_EQ(static_cast<int64_t>(seen.size()), total / take * take) << "less than a sequence is left over";
  }
}

TEST(PackedSource, NoneIsOneDocumentPerSequence) {
  TokenStore store;
  store.Append(std::vector<int32_t>{10, 11, 12, 13, 14, 15}, std::vector<uint8_t>{0, 0, 1, 1, 1, 1});  // cut
  store.Append(std::vector<int32_t>{20, 21}, std::vector<uint8_t>{1, 1});                              // padded
  store.Append(std::vector<int32_t>{30, 31, 32, 33, 34}, std::vector<uint8_t>{0, 0, 0, 0, 1});         // all beyond
  PackedSource source(store, {Packing::kNone, 4, kBos, kPad}, 1, 0);
  EXPECT_EQ(source.sequences_per_epoch(), 2);
  EXPECT_EQ(source.cut(), 1);
  EXPECT_EQ(source.targetless(), 1);
  EXPECT_EQ(source.targets(), 3);
  std::vector<TrainSequence> sequences = EpochOf(source, 0);
  std::sort(sequences.begin(), sequences.end(), [](const auto& a, const auto& b) { return a.tokens < b.tokens; });
  EXPECT_EQ(sequences[0], (TrainSequence{{kBos, 10, 11, 12}, {0, 1, 2, 3}, {0, 0, 0, 1}}));
  EXPECT_EQ(sequences[1], (TrainSequence{{kBos, 20, 21, kPad}, {0, 1, 2, 0}, {0, 1, 1, 0}}));
}

TEST(PackedSource, SequencesFollowFromSeedSourceAndIndexAlone) {
  std::mt19937 random(5);
  const Documents documents = MakeDocuments(RandomLengths(&random, 50, 30), 3);
  for (const Packing packing : {Packing::kMasked, Packing::kJoined, Packing::kNone}) {
    const PackOptions options = {packing, 16, kBos, kPad};
    PackedSource forward(documents.store, options, 1, 0);
    const int64_t per_epoch = forward.sequences_per_epoch();
    std::vector<TrainSequence> expected;
    for (int64_t n = 0; n < 3 * per_epoch; ++n) expected.push_back(forward.Sequence(n));
    PackedSource jumping(documents.store, options, 1, 0);
    for (int i = 0; i < 200; ++i) {
      const size_t n = random() % expected.size();
      ASSERT_EQ(jumping.Sequence(static_cast<int64_t>(n)), expected[n]) << n;
    }
    const auto first_epoch = [&](uint64_t seed, uint64_t source) {
      PackedSource packed(documents.store, options, seed, source);
      return EpochOf(packed, 0);
    };
    const auto mine = first_epoch(1, 0);
    EXPECT_EQ(mine, first_epoch(1, 0));
    EXPECT_NE(mine, first_epoch(2, 0));
    EXPECT_NE(mine, first_epoch(1, 1));
    EXPECT_NE(mine, EpochOf(forward, 1)) << "epochs differ";
    EXPECT_NE(EpochOf(forward, 1), EpochOf(forward, 2));
  }
}

// A batch is not four pages of one book in a row.
TEST(PackedSource, PartsOfALongDocumentDoNotFollowEachOther) {
  const Documents documents = MakeDocuments({1600}, 3);
  PackedSource source(documents.store, {Packing::kMasked, 16, std::nullopt, kPad}, 1, 0);
  const auto sequences = EpochOf(source, 0);
  ASSERT_EQ(sequences.size(), 100U);
  int neighbours = 0;
  for (size_t n = 1; n < 100; ++n) neighbours += sequences[n].tokens[0] == sequences[n - 1].tokens[0] + 16 ? 1 : 0;
  EXPECT_LT(neighbours, 10) << "one on average, were they drawn at random";
}

// Not only are the sequences shuffled: documents meet other neighbours and are cut elsewhere in every epoch.
TEST(PackedSource, EpochsAreCutElsewhere) {
  std::mt19937 random(6);
  const Documents documents = MakeDocuments(RandomLengths(&random, 50, 30), 3);
  PackedSource source(documents.store, {Packing::kMasked, 16, kBos, kPad}, 1, 0);
  const auto sorted = [&](int64_t epoch) {
    std::set<std::vector<int32_t>> tokens;
    for (const TrainSequence& sequence : EpochOf(source, epoch)) tokens.insert(sequence.tokens);
    return tokens;
  };
  EXPECT_NE(sorted(0), sorted(1));
}

TEST(TokenStore, KeepRedrawsDocuments) {
  TokenStore store;
  store.Append(std::vector<int32_t>{1, 2}, std::vector<uint8_t>{0, 1});
  store.Append(std::vector<int32_t>{3, 4, 5}, std::vector<uint8_t>{1, 0, 1});
  store.Append(std::vector<int32_t>{6}, std::vector<uint8_t>{1});
  store.Keep({2, 4, 5});
  ASSERT_EQ(store.size(), 2U);
  EXPECT_EQ(store.Length(0), 2);
  EXPECT_EQ(store.Id(0, 0), 3);
  EXPECT_EQ(store.Id(0, 1), 4);
  EXPECT_EQ(store.InLoss(0, 1), 0);
  EXPECT_EQ(store.Id(1, 0), 5);
  EXPECT_EQ(store.InLoss(1, 0), 1);
  EXPECT_EQ(store.Words(1).size(), 1U);
}

}  // namespace
}  // namespace gateskip::train
