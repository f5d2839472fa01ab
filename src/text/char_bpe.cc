// SPDX-License-Identifier: Apache-2.0
// SentencePiece-style BPE with byte fall-back (Kudo and Richardson 2018, arXiv 1808.06226): merge order by score,
// as GGUF vocabularies give it, or by ranked rules, as tokenizer.json does.
#include <array>
#include <bit>
#include <cmath>

#include "base/check.h"
#include "text/tokenizer_base.h"
#include "text/utf8.h"

namespace gateskip {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

// The byte of "<0xHH>", -1 for any other text.
int ParseByteToken(std::string_view text) {
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
  int value = 0;
  for (const char c : text.substr(3, 2)) {
    int digit = 0;
    if (c >= '0' && c <= '9') {
      digit = c - '0';
    } else if (c >= 'A' && c <= 'F') {
      digit = c - 'A' + 10;
    } else if (c >= 'a' && c <= 'f') {
      digit = c - 'a' + 10;
    } else {
      return -1;
    }
    value = value * 16 + digit;
  }
  return value;
}

// Larger score, smaller rank; equal scores, equal ranks.
uint32_t RankOfScore(float score) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);  // -0 and 0 are one score
  const uint32_t rising = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return ~rising;
}

class CharBpeTokenizer final : public TokenizerBase {
 public:
  CharBpeTokenizer(Vocabulary vocabulary, SpecialTokens special, std::optional<MergeTable> merges,
                   const std::vector<float>& scores, const CharBpeOptions& options)
      : TokenizerBase(std::move(vocabulary), std::move(special)), merges_(std::move(merges)), options_(options) {
    const Vocabulary& table = this->vocabulary();
    byte_tokens_.fill(-1);
    for (int32_t id = 0; id < table.size(); ++id) {
      const int byte = table.Type(id) == TokenType::kByte ? ParseByteToken(table.Text(id)) : -1;
      if (table.Type(id) == TokenType::kByte && byte < 0) {
        Fail(ErrorCode::kCorruptData,
             "[{}] byte token {}: expected <0x00> to <0xFF>, found other text; the file is damaged", table.origin(),
             id);
      }
      if (byte >= 0) byte_tokens_[static_cast<size_t>(byte)] = id;
    }
    for (int byte = 0; byte < 256; ++byte) {
      int32_t& id = byte_tokens_[static_cast<size_t>(byte)];
      if (id < 0) id = table.Find(fmt::format("<0x{:02X}>", byte));
      if (id < 0 && !merges_) id = table.Find(std::string(1, static_cast<char>(byte)));
    }
    if (merges_) return;
    if (scores.size() != static_cast<size_t>(table.size())) {
      Fail(ErrorCode::kCorruptData, "[{}] token scores: expected {}, one per token, found {}; the file is damaged",
           table.origin(), table.size(), scores.size());
    }
    ranks_.reserve(scores.size());
    for (const float score : scores) {
      if (std::isnan(score)) {
        Fail(ErrorCode::kCorruptData, "[{}] token scores: expected numbers, found NaN; the file is damaged",
             table.origin());
      }
      ranks_.push_back(RankOfScore(score));
    }
  }

 protected:
  void EncodeRaw(std::string_view text, bool at_start, bool after_special, MergeScratch* scratch,
                 std::vector<int32_t>* ids) const override {
    const bool wants_prefix = options_.prefix == SpacePrefix::kAfterSpecial
                                  ? after_special
                                  : options_.prefix == SpacePrefix::kFirst && at_start;
    const bool has_space = text.starts_with(' ') || text.starts_with(kSpaceMark);
    std::string marked;
    marked.reserve(text.size() + text.size() / 4 + 8);
    if (wants_prefix && !(options_.prefix_only_if_missing && has_space)) marked += kSpaceMark;
    for (const char c : text) {
      if (c == ' ') {
        marked += kSpaceMark;
      } else {
        marked.push_back(c);
      }
    }
    if (!options_.split_at_spaces) return EncodeWord(marked, scratch, ids);
    for (size_t begin = 0; begin < marked.size();) {
      const size_t next = std::min(marked.find(kSpaceMark, begin + 1), marked.size());
      EncodeWord(std::string_view(marked).substr(begin, next - begin), scratch, ids);
      begin = next;
    }
  }

  std::string OrdinaryBytes(int32_t id) const override {
    const std::string_view text = vocabulary().Text(id);
    if (vocabulary().Type(id) == TokenType::kByte) {
      return std::string(1, static_cast<char>(static_cast<uint8_t>(ParseByteToken(text))));
    }
    std::string bytes;
    for (size_t pos = 0; pos < text.size();) {
      const size_t mark = std::min(text.find(kSpaceMark, pos), text.size());
      bytes.append(text.substr(pos, mark - pos));
      if (mark < text.size()) bytes.push_back(' ');
      pos = mark + kSpaceMark.size();
    }
    return bytes;
  }

 private:
  void EncodeWord(std::string_view word, MergeScratch* scratch, std::vector<int32_t>* ids) const {
    if (word.empty()) return;
    scratch->Clear();
    for (size_t pos = 0; pos < word.size();) {
      // An invalid byte stands alone: llama.cpp takes as many bytes as a lead byte asks for, which can tear the mark
      // of a space apart, so that the text does not come back.
      const size_t length = DecodeUtf8(word, pos).length;
      const std::string_view character = word.substr(pos, length);
      int32_t id = vocabulary().FindOrdinary(character);
      if (id < 0 && merges_) id = merges_->FindExtra(character);
      scratch->Append(static_cast<uint32_t>(pos), static_cast<uint32_t>(length), id);
      pos += length;
    }
    if (merges_) {
      MergeSymbols([this](const MergeSymbol& left, const MergeSymbol& right,
                          MergeCandidate* candidate) { return merges_->Lookup(left.id, right.id, candidate); },
                   scratch);
    } else {
      MergeSymbols(
          [this, word](const MergeSymbol& left, const MergeSymbol& right, MergeCandidate* candidate) {
            if (candidate->length > vocabulary().max_token_bytes()) return false;
            const int32_t id = vocabulary().FindOrdinary(word.substr(left.start, left.length + right.length));
            if (id < 0) return false;
            candidate->rank = ranks_[static_cast<size_t>(id)];
            candidate->merged_id = id;
            return true;
          },
          scratch);
    }
    bool last_unknown = false;
    for (int32_t i = 0; i >= 0; i = scratch->symbols[static_cast<size_t>(i)].next) {
      const MergeSymbol& symbol = scratch->symbols[static_cast<size_t>(i)];
      if (vocabulary().IsValid(symbol.id)) {
        ids->push_back(symbol.id);
        last_unknown = false;
      } else {
        last_unknown = AppendBytes(word.substr(symbol.start, symbol.length), last_unknown, ids);
      }
    }
  }

  // Returns whether the last thing appended stands for an unknown character.
  bool AppendBytes(std::string_view text, bool last_unknown, std::vector<int32_t>* ids) const {
    bool all_bytes = true;
    for (const char c : text) all_bytes = all_bytes && byte_tokens_[static_cast<uint8_t>(c)] >= 0;
    if (all_bytes) {
      for (const char c : text) ids->push_back(byte_tokens_[static_cast<uint8_t>(c)]);
      return false;
    }
    if (special_tokens().unknown && !(options_.fuse_unknown && last_unknown)) ids->push_back(*special_tokens().unknown);
    return true;
  }

  std::optional<MergeTable> merges_;
  std::vector<uint32_t> ranks_;  // by token, when there are no merge rules
  CharBpeOptions options_;
  std::array<int32_t, 256> byte_tokens_{};  // -1: no such token
};

}  // namespace

std::shared_ptr<const Tokenizer> MakeScoreTokenizer(Vocabulary vocabulary, SpecialTokens special,
                                                    const std::vector<float>& scores, const CharBpeOptions& options) {
  return std::make_shared<CharBpeTokenizer>(std::move(vocabulary), std::move(special), std::nullopt, scores, options);
}

std::shared_ptr<const Tokenizer> MakeCharBpeTokenizer(Vocabulary vocabulary, SpecialTokens special, MergeTable merges,
                                                      const CharBpeOptions& options) {
  return std::make_shared<CharBpeTokenizer>(std::move(vocabulary), std::move(special), std::move(merges),
                                            std::vector<float>{}, options);
}

}  // namespace gateskip
