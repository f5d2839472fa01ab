// SPDX-License-Identifier: Apache-2.0
#include "train/packing.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "train/random.h"

namespace gateskip::train {

void TokenStore::Append(std::span<const int32_t> ids, std::span<const uint8_t> in_loss) {
  GS_CHECK(!ids.empty() && ids.size() == in_loss.size());
  for (size_t i = 0; i < ids.size(); ++i) words_.push_back(static_cast<uint32_t>(ids[i]) << 1 | in_loss[i]);
  begins_.push_back(static_cast<int64_t>(words_.size()));
}

void TokenStore::Keep(std::vector<int64_t> begins) {
  words_.resize(static_cast<size_t>(begins.back()));
  words_.erase(words_.begin(), words_.begin() + static_cast<ptrdiff_t>(begins.front()));
  words_.shrink_to_fit();
  const int64_t dropped = begins.front();
  for (int64_t& begin : begins) begin -= dropped;
  begins_ = std::move(begins);
}

std::span<const uint32_t> TokenStore::Words(size_t document) const {
  return std::span(words_).subspan(static_cast<size_t>(begins_[document]), static_cast<size_t>(Length(document)));
}

PackedSource::PackedSource(TokenStore documents, const PackOptions& options, uint64_t seed, uint64_t source)
    : documents_(std::move(documents)), options_(options), seed_(seed), source_(source) {
  GS_CHECK(options_.length >= 2);
  CountDocuments();
}

void PackedSource::CountDocuments() {
  const bool none = options_.packing == Packing::kNone;
  const int64_t prefix = options_.bos ? 1 : 0;
  const int64_t take = options_.length - prefix;
  int64_t stream = 0;
  for (size_t d = 0; d < documents_.size(); ++d) {
    const int64_t length = documents_.Length(d);
    const int64_t seen = none ? std::min(length, take) : length;
    int64_t targets = 0;
    // The first token of a document has nothing before it but BOS.
    const bool first_counts = options_.bos.has_value() || options_.packing == Packing::kJoined;
    for (int64_t i = first_counts ? 0 : 1; i < seen; ++i) targets += documents_.InLoss(d, i);
    if (none && targets == 0) {
      ++targetless_;
      continue;
    }
    if (seen < length) ++cut_;
    targets_ += targets;
    stream += length + (options_.packing == Packing::kMasked ? prefix : 0);
    used_.push_back(d);
  }
  per_epoch_ = none                                   ? static_cast<int64_t>(used_.size())
               : options_.packing == Packing::kJoined ? stream / take
                                                      : (stream + take - 1) / take;
}

void PackedSource::LayOut(int64_t epoch) {
  const uint64_t key = ((source_ << 32) + static_cast<uint64_t>(epoch)) * 2;
  order_.clear();
  for (const int64_t i : Permutation(static_cast<int64_t>(used_.size()), Random(seed_, Stream::kShuffle, key))) {
    order_.push_back(used_[static_cast<size_t>(i)]);
  }
  starts_.clear();
  sequence_order_.clear();
  epoch_ = epoch;
  if (options_.packing == Packing::kNone) return;
  const int64_t prefix = options_.packing == Packing::kMasked && options_.bos ? 1 : 0;
  int64_t at = 0;
  for (const size_t document : order_) {
    starts_.push_back(at);
    at += documents_.Length(document) + prefix;
  }
  starts_.push_back(at);
  if (options_.packing == Packing::kMasked) {
    sequence_order_ = Permutation(per_epoch_, Random(seed_, Stream::kShuffle, key + 1));
  }
}

void PackedSource::AddPart(size_t document, int64_t begin, int64_t end, TrainSequence* sequence) const {
  const bool joined = options_.packing == Packing::kJoined;
  auto position = joined ? static_cast<int32_t>(sequence->tokens.size()) : 0;
  const auto add = [&](int32_t id, uint8_t in_loss) {
    sequence->tokens.push_back(id);
    sequence->in_loss.push_back(position > 0 ? in_loss : uint8_t{0});
    sequence->position.push_back(position++);
  };
  if (options_.bos && (!joined || position == 0)) add(*options_.bos, 0);
  for (int64_t i = begin; i < end; ++i) add(documents_.Id(document, i), documents_.InLoss(document, i));
}

void PackedSource::Finish(TrainSequence* sequence) const {
  for (int32_t position = 0; static_cast<int64_t>(sequence->tokens.size()) < options_.length; ++position) {
    sequence->tokens.push_back(options_.pad);
    sequence->position.push_back(position);
    sequence->in_loss.push_back(0);
  }
  GS_CHECK(static_cast<int64_t>(sequence->tokens.size()) == options_.length);
}

TrainSequence PackedSource::Sequence(int64_t n) {
  GS_CHECK(per_epoch_ > 0 && n >= 0);
  if (n / per_epoch_ != epoch_) LayOut(n / per_epoch_);
  const auto index = static_cast<size_t>(n % per_epoch_);
  const int64_t prefix = options_.bos ? 1 : 0;
  const int64_t take = options_.length - prefix;
  TrainSequence sequence;
  if (options_.packing == Packing::kNone) {
    AddPart(order_[index], 0, std::min(documents_.Length(order_[index]), take), &sequence);
    Finish(&sequence);
    return sequence;
  }
  // In the stream a document is its tokens, for kMasked behind its own BOS.
  const int64_t own_bos = options_.packing == Packing::kMasked ? prefix : 0;
  const int64_t begin = (sequence_order_.empty() ? static_cast<int64_t>(index) : sequence_order_[index]) * take;
  const int64_t end = std::min(begin + take, starts_.back());
  auto k = static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end(), begin) - starts_.begin()) - 1;
  for (int64_t at = begin; at < end; at = starts_[++k]) {
    const int64_t from = std::max<int64_t>(0, at - starts_[k] - own_bos);
    const int64_t to = std::min(end, starts_[k + 1]) - starts_[k] - own_bos;
    AddPart(order_[k], from, to, &sequence);
  }
  Finish(&sequence);
  return sequence;
}

}  // namespace gateskip::train
