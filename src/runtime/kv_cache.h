// SPDX-License-Identifier: Apache-2.0
// The pages behind KV sequences. A page holds kKvPagePositions positions of one sequence for all layers; pages
// are taken as a sequence grows and returned when it shrinks or ends. Sequences with a common beginning share its whole
// pages; a page that is not full is never shared, so that what is written goes to a page of the sequence's own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/aligned_buffer.h"
#include "kernels/kernels.h"
#include "model/kv_sequence.h"

namespace gateskip {

class KvCache {
 public:
  KvCache(const kernels::KvShape& shape, int num_layers);

  static size_t PagesFor(size_t positions) {
    return (positions + kernels::kKvPagePositions - 1) / kernels::kKvPagePositions;
  }

  // Gives `sequence` pages for positions [0, length). Throws Error(kLimitExceeded) when memory runs out; the
  // sequence keeps what it had.
  void Grow(KvSequence* sequence, size_t length);
  // A sequence of its own that begins with the first `length` positions of `from`, which must be filled: nothing is
  // computed again. Throws as Grow.
  KvSequence Fork(const KvSequence& from, size_t length);
  // Forgets positions >= length and takes back whole pages.
  void Shrink(KvSequence* sequence, size_t length);

  // A further owner of a full page; every owner, sequences included, returns it once.
  void AddOwner(std::byte* page) { ++further_owners_[page]; }
  void ReturnPage(std::byte* page);

  size_t page_bytes() const { return page_bytes_; }
  size_t bytes() const { return pages_.size() * page_bytes_; }  // taken from the system so far
  size_t pages_in_use() const { return pages_.size() - free_.size(); }

 private:
  std::byte* TakePage();

  size_t page_bytes_;
  std::vector<AlignedBuffer<std::byte>> pages_;
  std::vector<std::byte*> free_;
  std::unordered_map<std::byte*, uint32_t> further_owners_;  // of pages with more than one
};

}  // namespace gateskip
