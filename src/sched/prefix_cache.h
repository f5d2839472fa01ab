// SPDX-License-Identifier: Apache-2.0
// K/V pages by what is in them: the token ids of the page and of all pages before it, and the plan they were run under.
// A tree of whole pages per plan; a request that begins alike walks down it and runs only the rest (law L7: with the
// same bits, since rows depend on the rows before them only). Pages that no running request is on stay until they are
// evicted, least recently used first and the ends of branches before their beginnings.
//
// The idea: automatic prefix caching of vLLM, RadixAttention (arXiv 2312.07104).
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "gate/skip_plan.h"
#include "runtime/kv_cache.h"

namespace gateskip {

class PrefixCache {
  struct Node;
  struct Tree;

 public:
  // `kv` outlives it.
  explicit PrefixCache(KvCache* kv);
  ~PrefixCache();

  // The pages of a sequence that are in the tree, from its first; they are not evicted while a path leads to them.
  class Path {
   public:
    size_t pages() const { return pages_; }

   private:
    friend class PrefixCache;
    Node* end_ = nullptr;
    size_t pages_ = 0;
  };

  // An empty path in the tree of sequences that ran under this plan. Every path must be closed.
  Path Open(const SkipPlanPtr& plan, bool use_adapter);
  void Close(Path* path);

  struct Match {
    size_t pages = 0;
    size_t idle = 0;  // of those, on no path yet
  };
  // The next pages of `ids` after those of `path`, at most until there are max_pages in all.
  Match Find(const Path& path, std::span<const int32_t> ids, size_t max_pages) const;
  // Appends them to the path and to `sequence`, which has exactly the path's pages. Returns how many.
  size_t Take(Path* path, std::span<const int32_t> ids, size_t max_pages, KvSequence* sequence);
  // Adds the sequence's pages up to `pages`, which are full and in no other sequence, to the tree and to the path.
  // Where the tree has such a page, the sequence gets that one for its own. Returns how many.
  size_t Offer(Path* path, std::span<const int32_t> ids, size_t pages, KvSequence* sequence);
  // The same, leaving them idle: for a sequence that is about to end.
  void Leave(const Path& path, std::span<const int32_t> ids, size_t pages, KvSequence* sequence);

  // Gives the least recently used idle page back to the KvCache. False if there is none.
  bool EvictOne();

  size_t pages() const { return pages_; }
  size_t idle_pages() const { return idle_.size(); }

 private:
  using PageIds = std::array<int32_t, kernels::kKvPagePositions>;
  using Children = std::map<PageIds, std::unique_ptr<Node>>;

  static PageIds IdsOfPage(std::span<const int32_t> ids, size_t page);
  static Node* ChildOf(const Node& node, std::span<const int32_t> ids, size_t page);
  void Extend(Path* path, Node* node);
  void Release(Node* end, const Node* until);
  void DropIfEmpty(const Node* root);

  KvCache* kv_;
  std::list<Tree> trees_;
  std::list<Node*> idle_;  // least recently used first; a page always after the pages that follow it in the tree
  size_t pages_ = 0;
};

}  // namespace gateskip
