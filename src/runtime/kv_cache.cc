// SPDX-License-Identifier: Apache-2.0
#include "runtime/kv_cache.h"

#include <new>

#include "base/check.h"

namespace gateskip {
namespace {

size_t PagesFor(size_t length) { return (length + kernels::kKvPagePositions - 1) / kernels::kKvPagePositions; }

}  // namespace

KvCache::KvCache(const kernels::KvShape& shape, int num_layers)
    : page_bytes_(kernels::KvLayerBytes(shape) * static_cast<size_t>(num_layers)) {}

void KvCache::Grow(KvSequence* sequence, size_t length) {
  const size_t needed = PagesFor(length);
  while (sequence->pages.size() < needed) {
    if (free_.empty()) {
      try {
        pages_.emplace_back(page_bytes_);
        free_.push_back(pages_.back().data());
      } catch (const std::bad_alloc&) {
        Fail(ErrorCode::kLimitExceeded,
             "[kv] memory: expected room for a page of {} bytes, found none ({} in use); use a "
             "shorter context",
             page_bytes_, bytes());
      }
    }
    sequence->pages.push_back(free_.back());
    free_.pop_back();
  }
}

void KvCache::Shrink(KvSequence* sequence, size_t length) {
  const size_t needed = PagesFor(length);
  while (sequence->pages.size() > needed) {
    free_.push_back(sequence->pages.back());
    sequence->pages.pop_back();
  }
  sequence->Truncate(static_cast<int32_t>(length));
}

}  // namespace gateskip
