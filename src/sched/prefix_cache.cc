// SPDX-License-Identifier: Apache-2.0
#include "sched/prefix_cache.h"

#include <algorithm>

#include "base/check.h"

namespace gateskip {

struct PrefixCache::Node {
  Node* parent = nullptr;  // none: the root of a tree, which has no page
  std::byte* page = nullptr;
  std::vector<uint16_t> sources;  // KvSequence::PageSources
  Children children;
  Children::iterator self;           // in the parent's children
  size_t paths = 0;                  // that lead here or further
  std::list<Node*>::iterator place;  // in idle_ if no path does
};

struct PrefixCache::Tree {
  SkipPlanPtr plan;
  bool use_adapter;
  Node root = {};
};

PrefixCache::PrefixCache(KvCache* kv) : kv_(kv) {}
PrefixCache::~PrefixCache() = default;

PrefixCache::PageIds PrefixCache::IdsOfPage(std::span<const int32_t> ids, size_t page) {
  PageIds result;
  std::ranges::copy(ids.subspan(page * result.size(), result.size()), result.begin());
  return result;
}

PrefixCache::Node* PrefixCache::ChildOf(const Node& node, std::span<const int32_t> ids, size_t page) {
  const auto child = node.children.find(IdsOfPage(ids, page));
  return child == node.children.end() ? nullptr : child->second.get();
}

PrefixCache::Path PrefixCache::Open(const SkipPlanPtr& plan, bool use_adapter) {
  auto tree = std::ranges::find_if(
      trees_, [&](const Tree& t) { return t.use_adapter == use_adapter && (t.plan == plan || *t.plan == *plan); });
  if (tree == trees_.end()) tree = trees_.insert(tree, {.plan = plan, .use_adapter = use_adapter});
  Path path;
  path.end_ = &tree->root;
  ++tree->root.paths;
  return path;
}

void PrefixCache::Close(Path* path) {
  Release(path->end_, nullptr);
  *path = {};
}

void PrefixCache::Release(Node* end, const Node* until) {
  while (end != until) {
    Node* parent = end->parent;
    if (--end->paths == 0 && parent != nullptr) end->place = idle_.insert(idle_.end(), end);
    if (parent == nullptr) DropIfEmpty(end);
    end = parent;
  }
}

void PrefixCache::DropIfEmpty(const Node* root) {
  if (root->paths > 0 || !root->children.empty()) return;
  trees_.remove_if([&](const Tree& tree) { return &tree.root == root; });
}

PrefixCache::Match PrefixCache::Find(const Path& path, std::span<const int32_t> ids, size_t max_pages) const {
  Match match;
  const Node* node = path.end_;
  for (size_t page = path.pages_; page < max_pages; ++page) {
    node = ChildOf(*node, ids, page);
    if (node == nullptr) break;
    ++match.pages;
    match.idle += node->paths == 0 ? 1 : 0;
  }
  return match;
}

void PrefixCache::Extend(Path* path, Node* node) {
  if (node->paths++ == 0) idle_.erase(node->place);
  path->end_ = node;
  ++path->pages_;
}

size_t PrefixCache::Take(Path* path, std::span<const int32_t> ids, size_t max_pages, KvSequence* sequence) {
  GS_CHECK(sequence->pages.size() == path->pages_);
  const size_t before = path->pages_;
  while (path->pages_ < max_pages) {
    Node* node = ChildOf(*path->end_, ids, path->pages_);
    if (node == nullptr) break;
    Extend(path, node);
    kv_->AddOwner(node->page);
    sequence->AppendPage(node->page, node->sources);
  }
  return path->pages_ - before;
}

size_t PrefixCache::Offer(Path* path, std::span<const int32_t> ids, size_t pages, KvSequence* sequence) {
  const size_t before = path->pages_;
  while (path->pages_ < pages) {
    const size_t page = path->pages_;
    const auto [child, is_new] = path->end_->children.try_emplace(IdsOfPage(ids, page));
    if (is_new) {
      child->second = std::make_unique<Node>();
      Node& node = *child->second;
      node.parent = path->end_;
      node.page = sequence->pages[page];
      node.sources = sequence->PageSources(page);
      node.self = child;
      node.place = idle_.insert(idle_.end(), &node);
      kv_->AddOwner(node.page);
      ++pages_;
    } else if (child->second->page != sequence->pages[page]) {
      kv_->AddOwner(child->second->page);
      kv_->ReturnPage(sequence->pages[page]);
      sequence->pages[page] = child->second->page;
    }
    Extend(path, child->second.get());
  }
  return path->pages_ - before;
}

void PrefixCache::Leave(const Path& path, std::span<const int32_t> ids, size_t pages, KvSequence* sequence) {
  Path longer = path;
  Offer(&longer, ids, pages, sequence);
  Release(longer.end_, path.end_);
}

bool PrefixCache::EvictOne() {
  if (idle_.empty()) return false;
  Node* node = idle_.front();
  GS_CHECK(node->children.empty());
  idle_.pop_front();
  kv_->ReturnPage(node->page);
  --pages_;
  Node* parent = node->parent;
  parent->children.erase(node->self);
  if (parent->parent == nullptr) DropIfEmpty(parent);
  return true;
}

}  // namespace gateskip
