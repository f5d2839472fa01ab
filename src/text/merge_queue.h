// SPDX-License-Identifier: Apache-2.0
// The merge loop of byte pair encoding, O(n log n): symbols in a linked list, candidate pairs in a heap. A pair
// that went stale stays in the heap and is recognised by its length when it comes up.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace gateskip {

struct MergeSymbol {
  uint32_t start;   // byte offset in the text
  uint32_t length;  // bytes; 0 once merged into its left neighbour
  int32_t id;
  int32_t prev;
  int32_t next;  // -1 at the end
};

struct MergeCandidate {
  uint32_t rank;  // lower merges first; ties go to the leftmost
  int32_t left;
  uint32_t length;
  int32_t merged_id;
};

// Scratch of one Encode call.
struct MergeScratch {
  std::vector<MergeSymbol> symbols;
  std::vector<MergeCandidate> heap;

  void Clear() {
    symbols.clear();
    heap.clear();
  }
  void Append(uint32_t start, uint32_t length, int32_t id) {
    const auto index = static_cast<int32_t>(symbols.size());
    if (index > 0) symbols.back().next = index;
    symbols.push_back({start, length, id, index - 1, -1});
  }
};

// `lookup(left, right, &candidate)` fills rank and merged_id and returns true when the pair may merge. Afterwards
// the symbols reachable over `next` from index 0 are the result.
template <typename Lookup>
void MergeSymbols(const Lookup& lookup, MergeScratch* scratch) {
  auto& symbols = scratch->symbols;
  auto& heap = scratch->heap;
  const auto later = [](const MergeCandidate& a, const MergeCandidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  };
  const auto consider = [&](int32_t left, bool sift) {
    const int32_t right = symbols[static_cast<size_t>(left)].next;
    if (right < 0) return;
    const MergeSymbol& a = symbols[static_cast<size_t>(left)];
    const MergeSymbol& b = symbols[static_cast<size_t>(right)];
    MergeCandidate candidate{0, left, a.length + b.length, -1};
    if (!lookup(a, b, &candidate)) return;
    heap.push_back(candidate);
    if (sift) std::push_heap(heap.begin(), heap.end(), later);
  };
  for (size_t i = 0; i + 1 < symbols.size(); ++i) consider(static_cast<int32_t>(i), false);
  std::make_heap(heap.begin(), heap.end(), later);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const MergeCandidate best = heap.back();
    heap.pop_back();
    MergeSymbol& a = symbols[static_cast<size_t>(best.left)];
    if (a.length == 0 || a.next < 0) continue;
    MergeSymbol& b = symbols[static_cast<size_t>(a.next)];
    if (a.length + b.length != best.length) continue;
    a.length = best.length;
    a.id = best.merged_id;
    b.length = 0;
    a.next = b.next;
    if (a.next >= 0) symbols[static_cast<size_t>(a.next)].prev = best.left;
    if (a.prev >= 0) consider(a.prev, true);
    consider(best.left, true);
  }
}

}  // namespace gateskip
