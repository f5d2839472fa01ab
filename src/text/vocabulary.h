// SPDX-License-Identifier: Apache-2.0
// The token table every tokenizer shares: texts, types, special ids, lookup by text, and the cutting of special
// tokens out of a text. Owns its bytes; nothing refers to the file it came from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gateskip {

enum class TokenType : uint8_t {  // numbered as in tokenizer.ggml.token_type
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

// Hash of a text, seeded once per process so that no vocabulary can be built to collide.
uint64_t HashText(std::string_view text);

// A fixed-purpose map from 64-bit keys to 64-bit values: open addressing, grows, never erases.
class FlatMap64 {
 public:
  void Reserve(size_t count);
  // Keeps the first value of a key. Returns whether the key was new.
  bool Insert(uint64_t key, uint64_t value);
  const uint64_t* Find(uint64_t key) const;

 private:
  struct Slot {
    uint64_t key = kEmpty;
    uint64_t value = 0;
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};  // never a key of ours
  size_t Home(uint64_t key) const;
  void Rehash(size_t num_slots);

  std::vector<Slot> slots_;
  size_t mask_ = 0;
  size_t count_ = 0;
};

// A piece of a text after special tokens were cut out: either raw text or one token.
struct TextPiece {
  std::string_view text;
  int32_t token;  // -1: raw text
};

class Vocabulary {
 public:
  // `origin` names the file in messages. Throws Error(kCorruptData, kLimitExceeded).
  Vocabulary(std::string origin, const std::vector<std::string_view>& texts, std::vector<TokenType> types);

  const std::string& origin() const { return origin_; }
  int32_t size() const { return static_cast<int32_t>(types_.size()); }
  std::string_view Text(int32_t id) const {
    const auto i = static_cast<size_t>(id);
    return std::string_view(arena_).substr(offsets_[i], offsets_[i + 1] - offsets_[i]);
  }
  TokenType Type(int32_t id) const { return types_[static_cast<size_t>(id)]; }
  bool IsValid(int32_t id) const { return id >= 0 && id < size(); }
  bool IsSpecial(int32_t id) const { return Type(id) == TokenType::kControl || Type(id) == TokenType::kUnknown; }
  size_t max_token_bytes() const { return max_token_bytes_; }
  // The last of several tokens with one text, as llama.cpp has it; -1 when absent.
  int32_t Find(std::string_view text) const;
  // The same, but -1 too for what text never merges into, as in sentencepiece: a control or unknown token, which would
  // let a message end a turn, and a byte token, whose text ("<0x41>") is not what it stands for.
  int32_t FindOrdinary(std::string_view text) const;

  // Before Finish(): spaces beside the token in the text are swallowed by it (tokenizer.json's added tokens).
  void SetStrip(int32_t id, bool left, bool right);
  void SetType(int32_t id, TokenType type) { types_[static_cast<size_t>(id)] = type; }
  // Builds the index of special tokens; call once, after the types are final.
  void Finish();

  // Cuts special tokens out of `text`: longest tokens first over the whole text, as llama.cpp does, in time
  // linear in the text. User-defined tokens always, control and unknown ones only if parse_special.
  std::vector<TextPiece> Partition(std::string_view text, bool parse_special) const;

  // Whether a control or unknown token is spelled from text[offset] on, or might be if something followed the text.
  bool SpecialMayBegin(std::string_view text, size_t offset) const;

 private:
  struct Match {
    int32_t token = -1;
    uint32_t length = 0;
  };
  // The longest special token at text[offset], no longer than max_length.
  Match LongestSpecial(std::string_view text, size_t offset, size_t max_length, bool parse_special) const;
  void AddToTrie(int32_t id);

  std::string origin_;
  std::string arena_;
  std::vector<uint32_t> offsets_;
  std::vector<TokenType> types_;
  std::vector<uint32_t> slots_;      // token id + 1, by hash of text; 0 = free
  std::vector<uint32_t> slot_tags_;  // upper hash bits, to spare most comparisons
  size_t max_token_bytes_ = 0;
  FlatMap64 trie_edges_;              // node << 8 | byte -> node
  std::vector<int32_t> trie_tokens_;  // by node; -1: no token ends here
  bool starts_special_[256] = {};
  FlatMap64 strips_;  // token -> 1 left | 2 right
};

// Adds the ids that end a generation to `eog` by the names models give them, and makes them control tokens
// where the file forgot to. `eos` may be absent.
std::vector<int32_t> FindEndOfGeneration(Vocabulary* vocabulary, std::optional<int32_t> eos, std::optional<int32_t> eot,
                                         std::optional<int32_t> eom);

}  // namespace gateskip
