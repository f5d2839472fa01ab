// SPDX-License-Identifier: Apache-2.0
#include "train/data.h"

#include <algorithm>

#include "base/check.h"
#include "base/sha256.h"
#include "train/random.h"

namespace gateskip::train {

PackedSource::PackedSource(std::vector<std::vector<int32_t>> documents, int64_t sequence_length, uint64_t seed,
                           uint64_t source, std::optional<int32_t> bos)
    : documents_(std::move(documents)), length_(sequence_length), seed_(seed), source_(source), bos_(bos) {
  int64_t total = 0;
  for (const auto& document : documents_) total += static_cast<int64_t>(document.size());
  per_epoch_ = total / (length_ - (bos_ ? 1 : 0));
}

void PackedSource::BuildEpoch(int64_t epoch) {
  const auto order = Permutation(static_cast<int64_t>(documents_.size()),
                                 Random(seed_, Stream::kShuffle, source_ * 1'000'003 + static_cast<uint64_t>(epoch)));
  stream_.clear();
  for (const int64_t i : order) {
    const auto& document = documents_[static_cast<size_t>(i)];
    stream_.insert(stream_.end(), document.begin(), document.end());
  }
  epoch_ = epoch;
}

std::vector<int32_t> PackedSource::Sequence(int64_t n) {
  GS_CHECK(per_epoch_ > 0);
  if (n / per_epoch_ != epoch_) BuildEpoch(n / per_epoch_);
  std::vector<int32_t> sequence(static_cast<size_t>(length_));
  const int64_t prefix = bos_ ? 1 : 0;
  if (bos_) sequence[0] = *bos_;
  const int64_t take = length_ - prefix;
  std::copy_n(stream_.begin() + n % per_epoch_ * take, take, sequence.begin() + prefix);
  return sequence;
}

TrainData::TrainData(const std::vector<TrainSource>& sources, const Tokenizer& tokenizer, int64_t sequence_length,
                     uint64_t seed)
    : seed_(seed), taken_(sources.size()) {
  Sha256 hash;
  double total = 0;
  for (size_t s = 0; s < sources.size(); ++s) {
    std::vector<Document> documents = ReadDocuments(sources[s].path);
    const auto count = static_cast<double>(documents.size());
    const auto begin = static_cast<int64_t>(sources[s].begin * count);
    const auto end = static_cast<int64_t>(sources[s].end * count);
    documents = {documents.begin() + begin, documents.begin() + end};
    auto tokens = TokenizeDocuments(documents, tokenizer);
    for (const auto& ids : tokens) hash.Update(std::as_bytes(std::span<const int32_t>(ids)));
    sources_.emplace_back(std::move(tokens), sequence_length, seed, s,
                          tokenizer.add_bos() ? tokenizer.bos() : std::nullopt);
    if (sources_.back().sequences_per_epoch() == 0) {
      Fail(ErrorCode::kInvalidArgument,
           "[{}] training text: expected at least {} tokens, found fewer; use a longer "
           "file or a shorter sequence length",
           sources[s].path, sequence_length);
    }
    total += sources[s].weight;
    cumulative_.push_back(total);
  }
  sha256_ = hash.HexDigest();
}

size_t TrainData::Pick(int64_t n) const {
  const double u = Random(seed_, Stream::kSource, static_cast<uint64_t>(n)).Uniform() * cumulative_.back();
  const auto at =
      static_cast<size_t>(std::upper_bound(cumulative_.begin(), cumulative_.end(), u) - cumulative_.begin());
  return std::min(at, cumulative_.size() - 1);
}

std::vector<int32_t> TrainData::Sequence(int64_t n) {
  if (n < drawn_) {
    drawn_ = 0;
    std::fill(taken_.begin(), taken_.end(), 0);
  }
  for (; drawn_ < n; ++drawn_) ++taken_[Pick(drawn_)];
  const size_t source = Pick(n);
  return sources_[source].Sequence(taken_[source]);
}

std::vector<std::vector<int32_t>> TrainData::InTurn(int64_t count) {
  std::vector<std::vector<int32_t>> result;
  for (int64_t i = 0; i < count; ++i) {
    const auto s = static_cast<size_t>(i) % sources_.size();
    result.push_back(sources_[s].Sequence(i / static_cast<int64_t>(sources_.size())));
  }
  return result;
}

int64_t TrainData::sequences_per_epoch() const {
  int64_t total = 0;
  for (const PackedSource& source : sources_) total += source.sequences_per_epoch();
  return total;
}

}  // namespace gateskip::train
