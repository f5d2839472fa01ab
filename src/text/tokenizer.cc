// SPDX-License-Identifier: Apache-2.0
// The shared half of the tokenizers, merge tables, Decode and StreamDecoder.
#include "text/tokenizer.h"

#include <algorithm>

#include "base/check.h"
#include "text/guarded_text.h"
#include "text/tokenizer_base.h"
#include "text/utf8.h"

namespace gateskip {

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool special) const {
  std::string text;
  for (const int32_t id : ids) text += TokenBytes(id, special);
  return text;
}

TokenizerBase::TokenizerBase(Vocabulary vocabulary, SpecialTokens special)
    : vocabulary_(std::move(vocabulary)), special_(std::move(special)) {
  for (const auto& [name, id] :
       {std::pair{"bos", special_.bos}, {"eos", special_.eos}, {"unknown", special_.unknown}}) {
    if (id && !vocabulary_.IsValid(*id)) {
      Fail(ErrorCode::kCorruptData, "[{}] {} token id: expected 0 to {}, found {}; the file is damaged",
           vocabulary_.origin(), name, vocabulary_.size() - 1, *id);
    }
  }
  std::sort(special_.end_of_generation.begin(), special_.end_of_generation.end());
}

std::vector<int32_t> TokenizerBase::Encode(std::string_view text, bool parse_special) const {
  return EncodePieces(text, parse_special, /*guarded=*/false);
}

std::vector<int32_t> TokenizerBase::EncodeGuarded(std::string_view text) const {
  return EncodePieces(text, /*parse_special=*/true, /*guarded=*/true);
}

std::string TokenizerBase::Guard(std::string_view text) const {
  std::string guarded;
  guarded.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Char c = DecodeUtf8(text, pos);
    bool replace = IsStandIn(c.code);
    for (size_t i = pos; i < pos + c.length; ++i) replace = replace || vocabulary_.SpecialMayBegin(text, i);
    if (replace) {
      AppendStandIns(text.substr(pos, c.length), &guarded);
    } else {
      guarded += text.substr(pos, c.length);
    }
    pos += c.length;
  }
  return guarded;
}

std::vector<int32_t> TokenizerBase::EncodePieces(std::string_view text, bool parse_special, bool guarded) const {
  std::vector<int32_t> ids;
  MergeScratch scratch;
  bool at_start = true;
  bool after_special = true;
  for (const TextPiece& piece : vocabulary_.Partition(text, parse_special)) {
    if (piece.token >= 0) {
      ids.push_back(piece.token);
      after_special = true;
    } else {
      const std::string replaced = guarded ? ReplaceStandIns(piece.text) : std::string();
      EncodeRaw(guarded ? replaced : piece.text, at_start, after_special, &scratch, &ids);
      after_special = false;
    }
    at_start = false;
  }
  return ids;
}

std::string TokenizerBase::TokenBytes(int32_t id, bool special) const {
  if (!vocabulary_.IsValid(id)) {
    Fail(ErrorCode::kInvalidArgument, "[{}] token id: expected 0 to {}, found {}; use this model's tokenizer",
         vocabulary_.origin(), vocabulary_.size() - 1, id);
  }
  switch (vocabulary_.Type(id)) {
    case TokenType::kControl:
    case TokenType::kUnknown:
      return special ? std::string(vocabulary_.Text(id)) : std::string();
    case TokenType::kUserDefined:
      return std::string(vocabulary_.Text(id));
    case TokenType::kUnused:
      return {};
    case TokenType::kNormal:
    case TokenType::kByte:
      break;
  }
  return OrdinaryBytes(id);
}

bool TokenizerBase::IsEndOfGeneration(int32_t id) const {
  return std::binary_search(special_.end_of_generation.begin(), special_.end_of_generation.end(), id);
}

std::optional<int32_t> TokenizerBase::FindSpecial(std::string_view text) const {
  const int32_t id = vocabulary_.Find(text);
  if (id < 0 || (!vocabulary_.IsSpecial(id) && vocabulary_.Type(id) != TokenType::kUserDefined)) return std::nullopt;
  return id;
}

MergeTable::MergeTable(const Vocabulary& vocabulary,
                       const std::vector<std::pair<std::string_view, std::string_view>>& pairs) {
  struct Rule {
    int32_t left, right, merged;
  };
  std::vector<Rule> rules;
  rules.reserve(pairs.size());
  std::vector<std::string> extra_texts;  // texts of rules that are no token; usually none
  std::string merged;
  const auto find = [&](std::string_view text) {
    const int32_t id = vocabulary.Find(text);
    if (id < 0) extra_texts.emplace_back(text);
    return id;
  };
  for (const auto& [left, right] : pairs) {
    merged.assign(left).append(right);
    rules.push_back({find(left), find(right), find(merged)});
  }
  std::sort(extra_texts.begin(), extra_texts.end());
  extra_texts.erase(std::unique(extra_texts.begin(), extra_texts.end()), extra_texts.end());
  int32_t next_id = vocabulary.size();
  for (std::string& text : extra_texts) extras_.emplace_back(std::move(text), next_id++);

  table_.Reserve(pairs.size());
  for (size_t rank = 0; rank < pairs.size(); ++rank) {
    Rule& rule = rules[rank];
    const auto& [left, right] = pairs[rank];
    if (rule.left < 0) rule.left = FindExtra(left);
    if (rule.right < 0) rule.right = FindExtra(right);
    merged.assign(left).append(right);
    if (rule.merged < 0) {
      rule.merged = FindExtra(merged);
    } else if (vocabulary.FindOrdinary(merged) < 0) {
      continue;  // would make a special token of text
    }
    table_.Insert(Key(rule.left, rule.right), (static_cast<uint64_t>(rank) << 32) | static_cast<uint32_t>(rule.merged));
  }
}

int32_t MergeTable::FindExtra(std::string_view text) const {
  const auto it = std::lower_bound(extras_.begin(), extras_.end(), text,
                                   [](const auto& entry, std::string_view wanted) { return entry.first < wanted; });
  return it != extras_.end() && it->first == text ? it->second : -1;
}

StreamDecoder::StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool special)
    : tokenizer_(std::move(tokenizer)), special_(special) {}

namespace {

// Moves what is complete from `bytes` to the result; an invalid sequence becomes one U+FFFD per maximal part.
std::string TakeComplete(std::string* bytes, bool finish) {
  std::string text;
  size_t pos = 0;
  while (pos < bytes->size()) {
    const Utf8Char c = DecodeUtf8(*bytes, pos);
    if (c.code != kInvalidCodePoint) {
      text.append(*bytes, pos, c.length);
      pos += c.length;
      continue;
    }
    const size_t truncated = TruncatedUtf8(*bytes, pos);
    if (truncated != 0 && !finish) break;
    AppendUtf8(0xFFFD, &text);
    // The part of a character that was well-formed so far counts as one error.
    size_t bad = 1;
    while (truncated == 0 && pos + bad < bytes->size() &&
           TruncatedUtf8(std::string_view(*bytes).substr(0, pos + bad + 1), pos) != 0) {
      ++bad;
    }
    pos += std::max(bad, truncated);
  }
  bytes->erase(0, pos);
  return text;
}

}  // namespace

std::string StreamDecoder::Push(int32_t id) {
  pending_ += tokenizer_->TokenBytes(id, special_);
  return TakeComplete(&pending_, false);
}

std::string StreamDecoder::Finish() { return TakeComplete(&pending_, true); }

}  // namespace gateskip
