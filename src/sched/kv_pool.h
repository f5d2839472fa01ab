// SPDX-License-Identifier: Apache-2.0
// The KV pages of all running requests and of the prefix cache, under one limit. A request is admitted with its worst
// case: pages reserved for it alone and pages in use from the prefix cache never exceed the limit together, so a page
// that a running request needs is free or can be evicted.
#pragma once

#include <span>

#include "runtime/kv_cache.h"
#include "sched/prefix_cache.h"

namespace gateskip {

// What a running request holds.
struct KvLease {
  PrefixCache::Path path;  // pages that it shares through the prefix cache
  size_t reserved = 0;     // pages for itself, had or yet to be had
};

class KvPool {
 public:
  KvPool(const kernels::KvShape& shape, int num_layers, size_t max_pages, bool prefix_cache);

  // Begins a request that needs at most `worst_pages`, of which the first max_cached may come from the prefix cache and
  // if so are in `sequence` afterwards. False, and nothing has happened, when it does not fit. `even_if`: it is alone.
  bool Admit(const SkipPlanPtr& plan, bool use_adapter, std::span<const int32_t> ids, size_t worst_pages,
             size_t max_cached, bool even_if, KvLease* lease, KvSequence* sequence);
  // Whether this many pages are more than there will ever be.
  bool Exceeds(size_t pages) const { return pages > max_pages_; }
  void End(KvLease* lease);

  // Further pages that others have filled meanwhile; `sequence` has the lease's pages only. Returns how many.
  size_t TakeCached(KvLease* lease, std::span<const int32_t> ids, size_t max_cached, KvSequence* sequence);
  // The first `positions` of the prompt are filled: their whole pages can be shared from now on.
  void Offer(KvLease* lease, std::span<const int32_t> ids, size_t positions, KvSequence* sequence);
  // Ends a sequence of the request. `ids` are what is in it if others may go on from there, else empty.
  void Return(const KvLease& lease, std::span<const int32_t> ids, KvSequence* sequence);

  // As those of KvCache, with evictions.
  void Grow(KvSequence* sequence, size_t length);
  KvSequence Fork(const KvSequence& from, size_t length);

  size_t max_pages() const { return max_pages_; }
  size_t pages_in_use() const { return kv_.pages_in_use(); }
  const PrefixCache& cache() const { return cache_; }

 private:
  void MakeRoom(size_t pages);

  const size_t max_pages_;
  const bool prefix_cache_;
  KvCache kv_;
  PrefixCache cache_;
  size_t reserved_ = 0;  // of all leases
};

}  // namespace gateskip
