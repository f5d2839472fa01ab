// SPDX-License-Identifier: Apache-2.0
#include "runtime/kv_cache.h"

#include <cstring>
#include <new>

#include "base/check.h"

namespace gateskip {

KvCache::KvCache(const kernels::KvShape& shape, int num_layers)
    : page_bytes_(kernels::KvLayerBytes(shape) * static_cast<size_t>(num_layers)) {}

std::byte* KvCache::TakePage() {
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
  std::byte* page = free_.back();
  free_.pop_back();
  return page;
}

void KvCache::ReturnPage(std::byte* page) {
  const auto shared = further_owners_.find(page);
  if (shared == further_owners_.end()) {
    free_.push_back(page);
  } else if (--shared->second == 0) {
    further_owners_.erase(shared);
  }
}

void KvCache::Grow(KvSequence* sequence, size_t length) {
  const size_t needed = PagesFor(length);
  while (sequence->pages.size() < needed) sequence->pages.push_back(TakePage());
}

KvSequence KvCache::Fork(const KvSequence& from, size_t length) {
  GS_CHECK(PagesFor(length) <= from.pages.size());
  KvSequence fork = from;
  fork.pages.clear();
  fork.Truncate(static_cast<int32_t>(length));
  const size_t whole = length / kernels::kKvPagePositions;
  try {
    if (length % kernels::kKvPagePositions != 0) {
      std::byte* page = TakePage();
      std::memcpy(page, from.pages[whole], page_bytes_);
      fork.pages.push_back(page);
    }
    fork.pages.insert(fork.pages.begin(), from.pages.begin(), from.pages.begin() + static_cast<ptrdiff_t>(whole));
  } catch (...) {
    for (std::byte* page : fork.pages) ReturnPage(page);
    throw;
  }
  for (size_t i = 0; i < whole; ++i) AddOwner(fork.pages[i]);
  return fork;
}

void KvCache::Shrink(KvSequence* sequence, size_t length) {
  const size_t needed = PagesFor(length);
  while (sequence->pages.size() > needed) {
    ReturnPage(sequence->pages.back());
    sequence->pages.pop_back();
  }
  sequence->Truncate(static_cast<int32_t>(length));
  if (length % kernels::kKvPagePositions != 0 && needed == sequence->pages.size() &&
      further_owners_.contains(sequence->pages.back())) {
    std::byte* own = TakePage();
    std::memcpy(own, sequence->pages.back(), page_bytes_);
    ReturnPage(sequence->pages.back());
    sequence->pages.back() = own;
  }
}

}  // namespace gateskip
