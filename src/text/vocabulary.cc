// SPDX-License-Identifier: Apache-2.0
// Token table and special-token cutting. Rules (longest token first, which types are matched when, names of the
// end-of-generation tokens) follow llama.cpp's src/llama-vocab.cpp, whose ids the tests compare with.
#include "text/vocabulary.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>

#include "base/check.h"

namespace gateskip {
namespace {

// Special tokens longer than this would make cutting them out quadratic; the longest known is about 60 bytes.
constexpr size_t kMaxSpecialBytes = 256;
constexpr size_t kMaxVocabulary = size_t{1} << 24;
constexpr size_t kMaxVocabularyBytes = size_t{1} << 29;
constexpr size_t kMaxTextBytes = size_t{1} << 30;

uint64_t ProcessSeed() {
  static const uint64_t seed = [] {
    static const char anchor = 0;
    const auto now = static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
    return (now * 0x9E3779B97F4A7C15u) ^ std::bit_cast<uintptr_t>(&anchor);
  }();
  return seed;
}

uint64_t Mix(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t Load(const char* p, size_t n) {
  uint64_t value = 0;
  std::memcpy(&value, p, n);
  return value;
}

}  // namespace

uint64_t HashText(std::string_view text) {
  constexpr uint64_t kA = 0xA0761D6478BD642Fu;
  constexpr uint64_t kB = 0xE7037ED1A0B428DBu;
  uint64_t hash = ProcessSeed() ^ (text.size() * kA);
  const char* p = text.data();
  size_t n = text.size();
  for (; n > 8; n -= 8, p += 8) hash = Mix(Load(p, 8) ^ kA, hash ^ kB);
  return Mix(Load(p, n) ^ kB, hash ^ kA);
}

size_t FlatMap64::Home(uint64_t key) const {
  return static_cast<size_t>(Mix(key ^ ProcessSeed(), 0xE7037ED1A0B428DBu)) & mask_;
}

void FlatMap64::Rehash(size_t num_slots) {
  std::vector<Slot> old(num_slots);
  old.swap(slots_);
  mask_ = num_slots - 1;
  for (const Slot& slot : old) {
    if (slot.key == kEmpty) continue;
    size_t i = Home(slot.key);
    while (slots_[i].key != kEmpty) i = (i + 1) & mask_;
    slots_[i] = slot;
  }
}

void FlatMap64::Reserve(size_t count) {
  const size_t wanted = std::bit_ceil(std::max<size_t>(16, count * 2));
  if (wanted > slots_.size()) Rehash(wanted);
}

bool FlatMap64::Insert(uint64_t key, uint64_t value) {
  Reserve(count_ + 1);
  size_t i = Home(key);
  for (; slots_[i].key != kEmpty; i = (i + 1) & mask_) {
    if (slots_[i].key == key) return false;
  }
  slots_[i] = {key, value};
  ++count_;
  return true;
}

const uint64_t* FlatMap64::Find(uint64_t key) const {
  if (count_ == 0) return nullptr;
  for (size_t i = Home(key); slots_[i].key != kEmpty; i = (i + 1) & mask_) {
    if (slots_[i].key == key) return &slots_[i].value;
  }
  return nullptr;
}

Vocabulary::Vocabulary(std::string origin, const std::vector<std::string_view>& texts, std::vector<TokenType> types)
    : origin_(std::move(origin)), types_(std::move(types)) {
  if (texts.empty() || texts.size() > kMaxVocabulary) {
    Fail(ErrorCode::kCorruptData, "[{}] tokens: expected 1 to {} of them, found {}; the file is damaged", origin_,
         kMaxVocabulary, texts.size());
  }
  if (types_.size() != texts.size()) {
    Fail(ErrorCode::kCorruptData, "[{}] token types: expected {}, one per token, found {}; the file is damaged",
         origin_, texts.size(), types_.size());
  }
  size_t total = 0;
  for (const std::string_view text : texts) total += std::max<size_t>(text.size(), 24);
  if (total > kMaxVocabularyBytes) {
    Fail(ErrorCode::kLimitExceeded, "[{}] tokens: expected at most {} bytes of text, found {}; the file is damaged",
         origin_, kMaxVocabularyBytes, total);
  }
  arena_.reserve(total);
  offsets_.reserve(texts.size() + 1);
  offsets_.push_back(0);
  const size_t num_slots = std::bit_ceil(texts.size() * 2 + 16);
  slots_.resize(num_slots);
  slot_tags_.resize(num_slots);
  for (size_t id = 0; id < texts.size(); ++id) {
    if (texts[id].empty()) {
      arena_ += fmt::format("[EMPTY_{}]", id);
    } else {
      arena_ += texts[id];
    }
    offsets_.push_back(static_cast<uint32_t>(arena_.size()));
    const std::string_view text = Text(static_cast<int32_t>(id));
    max_token_bytes_ = std::max(max_token_bytes_, text.size());
    const uint64_t hash = HashText(text);
    const auto tag = static_cast<uint32_t>(hash >> 32);
    size_t i = hash & (num_slots - 1);
    while (slots_[i] != 0 && (slot_tags_[i] != tag || Text(static_cast<int32_t>(slots_[i] - 1)) != text)) {
      i = (i + 1) & (num_slots - 1);
    }
    slots_[i] = static_cast<uint32_t>(id + 1);
    slot_tags_[i] = tag;
  }
}

int32_t Vocabulary::Find(std::string_view text) const {
  const uint64_t hash = HashText(text);
  const auto tag = static_cast<uint32_t>(hash >> 32);
  const size_t mask = slots_.size() - 1;
  for (size_t i = hash & mask; slots_[i] != 0; i = (i + 1) & mask) {
    const auto id = static_cast<int32_t>(slots_[i] - 1);
    if (slot_tags_[i] == tag && Text(id) == text) return id;
  }
  return -1;
}

int32_t Vocabulary::FindOrdinary(std::string_view text) const {
  const int32_t id = Find(text);
  return id < 0 || IsSpecial(id) || Type(id) == TokenType::kByte ? -1 : id;
}

void Vocabulary::SetStrip(int32_t id, bool left, bool right) {
  if (left || right) strips_.Insert(static_cast<uint64_t>(id), (left ? 1u : 0u) | (right ? 2u : 0u));
}

void Vocabulary::AddToTrie(int32_t id) {
  const std::string_view text = Text(id);
  if (text.size() > kMaxSpecialBytes) {
    Fail(ErrorCode::kLimitExceeded,
         "[{}] special token {}: expected at most {} bytes of text, found {}; the file is damaged", origin_, id,
         kMaxSpecialBytes, text.size());
  }
  uint64_t node = 0;
  for (const char c : text) {
    const uint64_t key = (node << 8) | static_cast<uint8_t>(c);
    const uint64_t* next = trie_edges_.Find(key);
    if (next != nullptr) {
      node = *next;
      continue;
    }
    node = trie_tokens_.size();
    trie_edges_.Insert(key, node);
    trie_tokens_.push_back(-1);
  }
  if (Find(text) == id) trie_tokens_[node] = id;  // of two tokens with one text, the one that Find gives
  starts_special_[static_cast<uint8_t>(text[0])] = true;
}

void Vocabulary::Finish() {
  trie_tokens_.assign(1, -1);
  for (int32_t id = 0; id < size(); ++id) {
    if (IsSpecial(id) || Type(id) == TokenType::kUserDefined) AddToTrie(id);
  }
}

Vocabulary::Match Vocabulary::LongestSpecial(std::string_view text, size_t offset, size_t max_length,
                                             bool parse_special) const {
  Match match;
  if (!starts_special_[static_cast<uint8_t>(text[offset])]) return match;
  uint64_t node = 0;
  const size_t limit = std::min(max_length, text.size() - offset);
  for (size_t i = 0; i < limit; ++i) {
    const uint64_t* next = trie_edges_.Find((node << 8) | static_cast<uint8_t>(text[offset + i]));
    if (next == nullptr) break;
    node = *next;
    const int32_t token = trie_tokens_[node];
    if (token >= 0 && (parse_special || !IsSpecial(token))) match = {token, static_cast<uint32_t>(i + 1)};
  }
  return match;
}

bool Vocabulary::SpecialMayBegin(std::string_view text, size_t offset) const {
  if (!starts_special_[static_cast<uint8_t>(text[offset])]) return false;
  uint64_t node = 0;
  for (const char c : text.substr(offset)) {
    const uint64_t* next = trie_edges_.Find((node << 8) | static_cast<uint8_t>(c));
    if (next == nullptr) return false;
    node = *next;
    const int32_t token = trie_tokens_[node];
    if (token >= 0 && IsSpecial(token)) return true;
  }
  return true;
}

// llama.cpp scans the text once per special token, longest token first, and never looks again at what a longer
// one took. The same cover, without the product of both lengths: every position enters the queue of its longest
// match; queues are emptied by falling length; a position whose match runs into a token already placed falls
// back to its longest match that still fits.
std::vector<TextPiece> Vocabulary::Partition(std::string_view text, bool parse_special) const {
  if (text.size() > kMaxTextBytes) {
    Fail(ErrorCode::kLimitExceeded, "[{}] text: expected at most {} bytes, found {}; split it", origin_, kMaxTextBytes,
         text.size());
  }
  std::vector<std::vector<std::pair<uint32_t, int32_t>>> queues(kMaxSpecialBytes + 1);  // (position, token)
  bool any = false;
  for (size_t pos = 0; pos < text.size(); ++pos) {
    const Match match = LongestSpecial(text, pos, kMaxSpecialBytes, parse_special);
    if (match.token < 0) continue;
    queues[match.length].emplace_back(static_cast<uint32_t>(pos), match.token);
    any = true;
  }
  std::vector<TextPiece> pieces;
  if (!any) {
    if (!text.empty()) pieces.push_back({text, -1});
    return pieces;
  }
  std::vector<uint8_t> taken(text.size(), 0);
  std::vector<std::pair<uint32_t, int32_t>> placed;
  for (size_t length = kMaxSpecialBytes; length > 0; --length) {
    auto& queue = queues[length];
    std::sort(queue.begin(), queue.end());
    for (const auto& [pos, token] : queue) {
      if (taken[pos] != 0) continue;
      // Tokens already placed are at least this long, so one that overlaps covers our first or last byte.
      if (taken[pos + length - 1] == 0) {
        std::fill_n(taken.begin() + pos, length, uint8_t{1});
        placed.emplace_back(pos, token);
        continue;
      }
      size_t fit = 1;
      while (taken[pos + fit] == 0) ++fit;
      const Match match = LongestSpecial(text, pos, fit, parse_special);
      if (match.token >= 0) queues[match.length].emplace_back(pos, match.token);
    }
  }
  std::sort(placed.begin(), placed.end());

  const auto is_space = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  size_t begin = 0;
  for (const auto& [pos, token] : placed) {
    const uint64_t* strip = strips_.Find(static_cast<uint64_t>(token));
    const size_t after = pos + Text(token).size();
    size_t end = std::max<size_t>(pos, begin);
    if (strip != nullptr && (*strip & 1) != 0) {
      while (end > begin && is_space(text[end - 1])) --end;
    }
    if (end > begin) pieces.push_back({text.substr(begin, end - begin), -1});
    pieces.push_back({text.substr(pos, after - pos), token});
    begin = after;
    if (strip != nullptr && (*strip & 2) != 0) {
      while (begin < text.size() && taken[begin] == 0 && is_space(text[begin])) ++begin;
    }
  }
  if (begin < text.size()) pieces.push_back({text.substr(begin), -1});
  return pieces;
}

std::vector<int32_t> FindEndOfGeneration(Vocabulary* vocabulary, std::optional<int32_t> eos, std::optional<int32_t> eot,
                                         std::optional<int32_t> eom) {
  static constexpr std::string_view kNames[] = {
      "<|eot_id|>",      "<|im_end|>",
      "<|end|>",         "<|return|>",
      "<|call|>",        "<|flush|>",
      "<|calls|>",       "<end_of_turn>",
      "<|endoftext|>",   "</s>",
      "<|eom_id|>",      "<EOT>",
      "_<EOT>",          "[EOT]",
      "[EOS]",           "<|EOT|>",
      "<|end_of_text|>", "<end_of_utterance>",
      "<eos>",           "<｜end▁of▁sentence｜>",
  };
  std::vector<int32_t> eog;
  const auto add = [&eog](int32_t id) {
    if (std::find(eog.begin(), eog.end(), id) == eog.end()) eog.push_back(id);
  };
  for (const std::string_view name : kNames) {
    const int32_t id = vocabulary->Find(name);
    if (id < 0) continue;
    add(id);
    vocabulary->SetType(id, TokenType::kControl);
  }
  for (const auto& id : {eos, eot, eom}) {
    if (id) add(*id);
  }
  return eog;
}

}  // namespace gateskip
