// SPDX-License-Identifier: Apache-2.0
#include "text/testing/small_tokenizers.h"

#include <fmt/format.h>

#include "text/tokenizer_base.h"
#include "text/utf8.h"

namespace gateskip::testing {
namespace {

constexpr std::string_view kMark = "\u2581";
using Pairs = std::vector<std::pair<std::string_view, std::string_view>>;

struct Table {
  std::vector<std::string> texts;
  std::vector<TokenType> types;
  std::vector<float> scores;

  void Add(std::string_view text, TokenType type = TokenType::kNormal) {
    texts.emplace_back(text);
    types.push_back(type);
    scores.push_back(type == TokenType::kNormal ? -static_cast<float>(texts.size()) : 0.0F);
  }
  void AddSpecials() {
    for (const char* text : {"</s>", "EOT", "<|x|>", "<|x|>1"}) Add(text, TokenType::kControl);
  }
  Vocabulary Build() const {
    Vocabulary vocabulary("small", {texts.begin(), texts.end()}, types);
    vocabulary.Finish();
    return vocabulary;
  }
};

std::shared_ptr<const Tokenizer> ByteLevel(PreTokenizer kind, bool ignore_merges) {
  Table table;
  uint32_t next = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    std::string text;
    AppendUtf8(printable ? byte : next++, &text);
    table.Add(text);
  }
  // "ll" is no token; E2 96 is a part of a character, C3 A9 a whole one.
  const Pairs merges = {{"h", "e"},           {"l", "l"},           {"ll", "o"}, {"he", "llo"},
                        {"\u0120", "he"},     {"\u00c3", "\u00a9"}, {"1", "2"},  {"\u00e2", "\u0138"},
                        {"\u010a", "\u010a"}, {"\u0120", "\u0120"}, {"<", "/"},  {"s", ">"},
                        {"</", "s>"},         {"<", "|"},           {"E", "O"},  {"EO", "T"}};
  for (const auto& [left, right] : merges) {
    const std::string merged = std::string(left) + std::string(right);
    if (merged != "ll" && merged != "</s>" && merged != "EOT") table.Add(merged);
  }
  table.Add("<keep>", TokenType::kUserDefined);
  table.AddSpecials();
  Vocabulary vocabulary = table.Build();
  MergeTable rules(vocabulary, merges);
  return MakeByteLevelTokenizer(std::move(vocabulary), {}, std::move(rules), {kind, ignore_merges});
}

std::shared_ptr<const Tokenizer> CharLevel(bool by_score, bool user_defined, const CharBpeOptions& options) {
  Table table;
  table.Add("<unk>", TokenType::kUnknown);
  for (int byte = 0; byte < 256; ++byte) table.Add(fmt::format("<0x{:02X}>", byte), TokenType::kByte);
  for (const std::string_view text : {kMark, std::string_view("\u00e9")}) table.Add(text);
  for (const char c : std::string_view("helo</s>EOTx014")) table.Add({&c, 1});
  const Pairs merges = {{"h", "e"},  {"l", "l"}, {"ll", "o"},   {kMark, "he"}, {kMark, kMark}, {"o", kMark},
                        {"<", "/"},  {"s", ">"}, {"</", "s>"},  {"E", "O"},    {"EO", "T"},    {"<", "0"},
                        {"<0", "x"}, {"4", "1"}, {"<0x", "41"}, {"<0x41", ">"}};
  for (const auto& [left, right] : merges) {
    const std::string merged = std::string(left) + std::string(right);
    if (merged != "</s>" && merged != "EOT" && merged != "<0x41>") table.Add(merged);
  }
  if (user_defined) table.Add("<keep>", TokenType::kUserDefined);
  table.AddSpecials();
  SpecialTokens special;
  special.unknown = 0;
  Vocabulary vocabulary = table.Build();
  if (by_score) return MakeScoreTokenizer(std::move(vocabulary), special, table.scores, options);
  MergeTable rules(vocabulary, merges);
  return MakeCharBpeTokenizer(std::move(vocabulary), special, std::move(rules), options);
}

// The mark in a text cannot be told from a space.
std::string Unmarked(std::string_view text) {
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    const size_t mark = std::min(text.find(kMark, pos), text.size());
    out += text.substr(pos, mark - pos);
    if (mark < text.size()) out += ' ';
    pos = mark + kMark.size();
  }
  return out;
}
std::string Prefixed(std::string_view text) { return text.empty() ? "" : fmt::format(" {}", Unmarked(text)); }
std::string PrefixedIfMissing(std::string_view text) {
  return text.starts_with(' ') || text.starts_with(kMark) ? Unmarked(text) : Prefixed(text);
}

}  // namespace

const std::vector<SmallTokenizer>& SmallTokenizers() {
  using enum SpacePrefix;
  static const auto same = [](std::string_view text) { return std::string(text); };
  static const std::vector<SmallTokenizer> all = {
      {"gpt2", ByteLevel(PreTokenizer::kGpt2, false), same, false},
      {"default", ByteLevel(PreTokenizer::kDefault, false), same, false},
      {"smollm", ByteLevel(PreTokenizer::kSmolLm, false), same, false},
      {"llama3", ByteLevel(PreTokenizer::kLlama3, true), same, false},
      {"qwen2", ByteLevel(PreTokenizer::kQwen2, false), same, false},
      {"score", CharLevel(true, true, {kNever, false, false, false}), Unmarked, false},
      {"score_prefix", CharLevel(true, false, {kAfterSpecial, false, false, false}), Prefixed, true},
      {"ranked", CharLevel(false, true, {kNever, false, false, true}), Unmarked, false},
      {"ranked_first", CharLevel(false, false, {kFirst, true, false, false}), PrefixedIfMissing, true},
      {"ranked_split", CharLevel(false, false, {kAfterSpecial, true, true, false}), PrefixedIfMissing, true},
  };
  return all;
}

}  // namespace gateskip::testing
