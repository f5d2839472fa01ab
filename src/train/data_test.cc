// SPDX-License-Identifier: Apache-2.0
// Training text: how documents are packed, and that (seed, index) alone says which sequence comes when.
#include "train/data.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "text/testing/byte_tokenizer.h"

namespace gateskip::train {
namespace {

using Ids = std::vector<int32_t>;

// `count` documents of different lengths; no token occurs twice.
std::vector<Ids> DistinctDocuments(int count) {
  std::vector<Ids> documents;
  int32_t next = 1000;
  for (int i = 0; i < count; ++i) {
    documents.emplace_back(static_cast<size_t>(1 + i * 7 % 11));
    std::iota(documents.back().begin(), documents.back().end(), next);
    next += static_cast<int32_t>(documents.back().size());
  }
  return documents;
}

Ids Epoch(PackedSource& source, int64_t epoch, int64_t length, std::optional<int32_t> bos) {
  Ids stream;
  for (int64_t n = 0; n < source.sequences_per_epoch(); ++n) {
    const Ids sequence = source.Sequence(epoch * source.sequences_per_epoch() + n);
    EXPECT_EQ(sequence.size(), static_cast<size_t>(length));
    if (bos) {
      EXPECT_EQ(sequence[0], *bos);
    }
    stream.insert(stream.end(), sequence.begin() + (bos ? 1 : 0), sequence.end());
  }
  return stream;
}

TEST(PackedSource, AnEpochHoldsEveryDocumentOnceAndInOrder) {
  const auto documents = DistinctDocuments(33);  // 3 times 66 tokens
  size_t total = 0;
  for (const Ids& document : documents) total += document.size();
  ASSERT_EQ(total, 198U);
  for (const std::optional<int32_t> bos :
       {std::optional<int32_t>(), std::optional<int32_t>(::gateskip::testing::kBos)}) {
    for (const int64_t take : {6, 11, 13}) {  // 13 leaves 3 tokens over
      const int64_t length = take + (bos ? 1 : 0);
      PackedSource source(documents, length, 5, 0, bos);
      ASSERT_EQ(source.sequences_per_epoch(), 198 / take);
      std::map<Ids, int> orders;
      for (int64_t epoch = 0; epoch < 4; ++epoch) {
        SCOPED_TRACE(fmt::format("take {} epoch {} bos {}", take, epoch, bos.has_value()));
        const Ids stream = Epoch(source, epoch, length, bos);
        ++orders[stream];
        // Walk the stream document by document: each is found by its first token, whole but for the last one.
        std::vector<int> seen(documents.size());
        for (size_t at = 0; at < stream.size();) {
          const auto document =
              std::find_if(documents.begin(), documents.end(), [&](const Ids& d) { return d[0] == stream[at]; });
          ASSERT_NE(document, documents.end()) << "at " << at << ": no document begins here";
          ++seen[static_cast<size_t>(document - documents.begin())];
          const size_t length_here = std::min(document->size(), stream.size() - at);
          ASSERT_TRUE(std::equal(document->begin(), document->begin() + static_cast<int64_t>(length_here),
                                 stream.begin() + static_cast<int64_t>(at)));
          at += length_here;
        }
        // What is over at the end of an epoch is less than a sequence, here of 3 tokens.
        EXPECT_LE(std::count(seen.begin(), seen.end(), 0), 198 % take);
        EXPECT_EQ(*std::max_element(seen.begin(), seen.end()), 1);
      }
      EXPECT_EQ(orders.size(), 4U) << "every epoch has its own order";
    }
  }
}

TEST(PackedSource, OrderFollowsFromSeedAndSourceAlone) {
  const auto documents = DistinctDocuments(40);
  const auto first_epoch = [&](uint64_t seed, uint64_t source) {
    PackedSource packed(documents, 8, seed, source, std::nullopt);
    return Epoch(packed, 0, 8, std::nullopt);
  };
  EXPECT_EQ(first_epoch(1, 0), first_epoch(1, 0));
  EXPECT_NE(first_epoch(1, 0), first_epoch(2, 0));
  EXPECT_NE(first_epoch(1, 0), first_epoch(1, 1));
  // Any order of asking gives the same sequences.
  PackedSource forward(documents, 8, 1, 0, std::nullopt);
  PackedSource backward(documents, 8, 1, 0, std::nullopt);
  std::vector<Ids> expected;
  for (int64_t n = 0; n < 3 * forward.sequences_per_epoch(); ++n) expected.push_back(forward.Sequence(n));
  for (auto n = static_cast<int64_t>(expected.size()) - 1; n >= 0; --n) {
    ASSERT_EQ(backward.Sequence(n), expected[static_cast<size_t>(n)]) << n;
  }
}

}  // namespace
}  // namespace gateskip::train
