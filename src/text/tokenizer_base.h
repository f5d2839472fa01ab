// SPDX-License-Identifier: Apache-2.0
// What both tokenizers share: the vocabulary, the special ids, and the cutting of special tokens. A tokenizer
// only adds how raw text becomes ids and how an ordinary token becomes bytes.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/merge_queue.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace gateskip {

struct SpecialTokens {
  std::optional<int32_t> bos;
  std::optional<int32_t> eos;
  std::optional<int32_t> unknown;
  bool add_bos = false;
  std::vector<int32_t> end_of_generation;
  std::string chat_template;
};

class TokenizerBase : public Tokenizer {
 public:
  TokenizerBase(Vocabulary vocabulary, SpecialTokens special);

  std::vector<int32_t> Encode(std::string_view text, bool parse_special) const override;
  std::string Guard(std::string_view text) const override;
  std::vector<int32_t> EncodeGuarded(std::string_view text) const override;
  std::string TokenBytes(int32_t id, bool special) const override;
  int32_t vocab_size() const override { return vocabulary_.size(); }
  std::optional<int32_t> bos() const override { return special_.bos; }
  std::optional<int32_t> eos() const override { return special_.eos; }
  bool add_bos() const override { return special_.add_bos; }
  bool IsEndOfGeneration(int32_t id) const override;
  std::optional<int32_t> FindSpecial(std::string_view text) const override;
  const std::string& chat_template() const override { return special_.chat_template; }

 protected:
  // `at_start`: nothing came before; `after_special`: nothing, or a special token.
  virtual void EncodeRaw(std::string_view text, bool at_start, bool after_special, MergeScratch* scratch,
                         std::vector<int32_t>* ids) const = 0;
  virtual std::string OrdinaryBytes(int32_t id) const = 0;

  const Vocabulary& vocabulary() const { return vocabulary_; }
  const SpecialTokens& special_tokens() const { return special_; }

 private:
  std::vector<int32_t> EncodePieces(std::string_view text, bool parse_special, bool guarded) const;

  Vocabulary vocabulary_;
  SpecialTokens special_;
};

// Merge rules over symbol ids. Texts of merge rules that are no token get ids from vocabulary.size() upwards, so
// that merging through them works as written; they are spelled out in bytes at the end. Rules that would make a special
// or byte token of text are left out.
class MergeTable {
 public:
  // pairs[i] has rank i; the first of two equal pairs counts.
  MergeTable(const Vocabulary& vocabulary, const std::vector<std::pair<std::string_view, std::string_view>>& pairs);

  bool Lookup(int32_t left, int32_t right, MergeCandidate* candidate) const {
    const uint64_t* value = table_.Find(Key(left, right));
    if (value == nullptr) return false;
    candidate->rank = static_cast<uint32_t>(*value >> 32);
    candidate->merged_id = static_cast<int32_t>(*value & 0xFFFFFFFFu);
    return true;
  }
  // The symbol of a text that is no token but occurs in a merge rule; -1 when it does not.
  int32_t FindExtra(std::string_view text) const;

 private:
  static uint64_t Key(int32_t left, int32_t right) {
    return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
  }
  FlatMap64 table_;
  std::vector<std::pair<std::string, int32_t>> extras_;  // sorted by text
};

// Byte-level BPE: bytes are written as 256 printable characters (GPT-2's table), words come from a splitter.
struct ByteLevelOptions {
  PreTokenizer pre_tokenizer = PreTokenizer::kGpt2;
  bool ignore_merges = false;  // a word that is a token is taken whole
};
std::shared_ptr<const Tokenizer> MakeByteLevelTokenizer(Vocabulary vocabulary, SpecialTokens special, MergeTable merges,
                                                        const ByteLevelOptions& options);

// Character BPE with byte fall-back: spaces become U+2581, characters merge, what stays unknown becomes bytes.
enum class SpacePrefix {
  kNever,
  kAfterSpecial,  // at the start and after every special token (sentencepiece's dummy prefix, Llama 2)
  kFirst,         // at the start only
};
struct CharBpeOptions {
  SpacePrefix prefix = SpacePrefix::kNever;
  bool prefix_only_if_missing = false;  // no prefix before a space
  bool split_at_spaces = false;         // a word never merges across the space before it
  bool fuse_unknown = false;
};
// `scores`: one per token, the highest-scoring merge first (sentencepiece).
std::shared_ptr<const Tokenizer> MakeScoreTokenizer(Vocabulary vocabulary, SpecialTokens special,
                                                    const std::vector<float>& scores, const CharBpeOptions& options);
// The same with ranked merge rules in place of scores (tokenizer.json).
std::shared_ptr<const Tokenizer> MakeCharBpeTokenizer(Vocabulary vocabulary, SpecialTokens special, MergeTable merges,
                                                      const CharBpeOptions& options);

}  // namespace gateskip
