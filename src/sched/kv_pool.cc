// SPDX-License-Identifier: Apache-2.0
#include "sched/kv_pool.h"

#include <algorithm>

#include "base/check.h"

namespace gateskip {

KvPool::KvPool(const kernels::KvShape& shape, int num_layers, size_t max_pages, bool prefix_cache)
    : max_pages_(max_pages), prefix_cache_(prefix_cache), kv_(shape, num_layers), cache_(&kv_) {}

bool KvPool::Admit(const SkipPlanPtr& plan, bool use_adapter, std::span<const int32_t> ids, size_t worst_pages,
                   size_t max_cached, bool even_if, KvLease* lease, KvSequence* sequence) {
  PrefixCache::Path path = cache_.Open(plan, use_adapter);
  const PrefixCache::Match match = cache_.Find(path, ids, prefix_cache_ ? max_cached : 0);
  const size_t shared = cache_.pages() - cache_.idle_pages() + match.idle;
  if (!even_if && reserved_ + shared + worst_pages - match.pages > max_pages_) {
    cache_.Close(&path);
    return false;
  }
  *lease = {.path = path, .reserved = worst_pages};
  reserved_ += worst_pages;
  TakeCached(lease, ids, max_cached, sequence);
  return true;
}

void KvPool::End(KvLease* lease) {
  cache_.Close(&lease->path);
  reserved_ -= lease->reserved;
  lease->reserved = 0;
}

size_t KvPool::TakeCached(KvLease* lease, std::span<const int32_t> ids, size_t max_cached, KvSequence* sequence) {
  if (!prefix_cache_) return 0;
  const size_t taken = cache_.Take(&lease->path, ids, max_cached, sequence);
  lease->reserved -= taken;
  reserved_ -= taken;
  return taken;
}

void KvPool::Offer(KvLease* lease, std::span<const int32_t> ids, size_t positions, KvSequence* sequence) {
  if (!prefix_cache_) return;
  const size_t shared = cache_.Offer(&lease->path, ids, positions / kernels::kKvPagePositions, sequence);
  lease->reserved -= shared;
  reserved_ -= shared;
}

void KvPool::Return(const KvLease& lease, std::span<const int32_t> ids, KvSequence* sequence) {
  if (prefix_cache_) cache_.Leave(lease.path, ids, ids.size() / kernels::kKvPagePositions, sequence);
  kv_.Shrink(sequence, 0);
}

void KvPool::MakeRoom(size_t pages) {
  while (kv_.pages_in_use() + pages > max_pages_ && cache_.EvictOne()) {
  }
}

void KvPool::Grow(KvSequence* sequence, size_t length) {
  const size_t needed = KvCache::PagesFor(length);
  if (needed > sequence->pages.size()) MakeRoom(needed - sequence->pages.size());
  kv_.Grow(sequence, length);
}

KvSequence KvPool::Fork(const KvSequence& from, size_t length) {
  if (length % kernels::kKvPagePositions != 0) MakeRoom(1);
  return kv_.Fork(from, length);
}

}  // namespace gateskip
