// SPDX-License-Identifier: Apache-2.0
// The pages behind KV sequences. A page holds kKvPagePositions positions of one sequence for all layers; pages
// are taken as a sequence grows and returned when it shrinks or ends.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "base/aligned_buffer.h"
#include "kernels/kernels.h"
#include "model/kv_sequence.h"

namespace gateskip {

class KvCache {
 public:
  KvCache(const kernels::KvShape& shape, int num_layers);

  // Gives `sequence` pages for positions [0, length). Throws Error(kLimitExceeded) when memory runs out; the
  // sequence keeps what it had.
  void Grow(KvSequence* sequence, size_t length);
  // Forgets positions >= length and takes back whole pages.
  void Shrink(KvSequence* sequence, size_t length);

  size_t page_bytes() const { return page_bytes_; }
  size_t bytes() const { return pages_.size() * page_bytes_; }  // taken from the system so far

 private:
  size_t page_bytes_;
  std::vector<AlignedBuffer<std::byte>> pages_;
  std::vector<std::byte*> free_;
};

}  // namespace gateskip
