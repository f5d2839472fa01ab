// SPDX-License-Identifier: Apache-2.0
// Tokenizers of GGUF files with hand-made vocabularies: ids worked out by hand, the merge loop and the cutting of
// special tokens against slow and plain versions of themselves, bad files, StreamDecoder, and 1 MiB of every hostile
// text. Nothing here measures time: a loop that is not linear runs into the time limit of the test by hours.
#include "text/tokenizer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "io/gguf.h"
#include "io/testing/expect_error.h"
#include "text/merge_queue.h"
#include "text/pretokenizer.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

namespace gateskip::testing {
namespace {

using Ids = std::vector<int32_t>;
using Words = std::vector<std::string_view>;

constexpr int32_t kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kByte = 6;

// A GGUF with tokenizer.ggml.* metadata only. Keys set to nothing are left out.
struct TinyModel {
  std::string model = "gpt2";
  std::optional<std::string> pre = "gpt-2";
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  std::vector<float> scores;
  std::vector<std::string> merges;
  std::map<std::string, uint32_t> ids = {};   // bos_token_id, ...
  std::map<std::string, bool> switches = {};  // add_bos_token, ...

  int32_t Add(std::string text, int32_t type = kNormal, float score = 0) {
    tokens.push_back(std::move(text));
    types.push_back(type);
    scores.push_back(score);
    return static_cast<int32_t>(tokens.size() - 1);
  }
  std::shared_ptr<const Tokenizer> Load() const {
    GgufWriter writer;
    writer.SetString("tokenizer.ggml.model", model);
    if (pre) writer.SetString("tokenizer.ggml.pre", *pre);
    writer.SetStrings("tokenizer.ggml.tokens", tokens);
    writer.SetInt32s("tokenizer.ggml.token_type", types);
    if (model == "llama") writer.SetFloats("tokenizer.ggml.scores", scores);
    if (model == "gpt2") writer.SetStrings("tokenizer.ggml.merges", merges);
    for (const auto& [key, id] : ids) writer.SetUint32("tokenizer.ggml." + key, id);
    for (const auto& [key, on] : switches) writer.SetBool("tokenizer.ggml." + key, on);
    writer.SetString("tokenizer.chat_template", "{{ messages }}");
    return Tokenizer::FromGguf(*GgufFile::Parse(writer.Serialize(), "tiny.gguf"));
  }
};

// Ids 0 to 255 are the bytes, in GPT-2's spelling.
TinyModel ByteLevel(std::string pre = "gpt-2") {
  TinyModel model;
  model.pre = std::move(pre);
  uint32_t next = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    std::string text;
    AppendUtf8(printable ? byte : next++, &text);
    model.Add(text);
  }
  return model;
}

// 0 <unk>, 1 <s>, 2 </s>, 3 to 258 the bytes.
TinyModel CharLevel() {
  TinyModel model;
  model.model = "llama";
  model.pre.reset();
  model.Add("<unk>", kUnknown);
  model.Add("<s>", kControl);
  model.Add("</s>", kControl);
  for (int byte = 0; byte < 256; ++byte) model.Add(fmt::format("<0x{:02X}>", byte), kByte);
  return model;
}

TEST(ByteLevelTokenizer, MergesInOrderOfRank) {
  TinyModel model = ByteLevel();
  const int32_t ab = model.Add("ab");
  const int32_t bc = model.Add("bc");
  const int32_t space_ab = model.Add("\u0120ab");
  model.merges = {"b c", "a b", "\u0120 ab"};
  const auto tokenizer = model.Load();
  EXPECT_EQ(tokenizer->Encode("ab", true), Ids{ab});
  EXPECT_EQ(tokenizer->Encode("abc", true), (Ids{'a', bc}));  // b c before a b
  EXPECT_EQ(tokenizer->Encode("ab ab", true), (Ids{ab, space_ab}));
  EXPECT_EQ(tokenizer->Encode("", true), Ids{});
  EXPECT_EQ(tokenizer->Encode("\xFF\x80z", true), (Ids{0xFF, 0x80, 'z'}));
  EXPECT_EQ(tokenizer->TokenBytes(space_ab, false), " ab");
  EXPECT_EQ(tokenizer->TokenBytes(0, false), std::string(1, '\0'));
  EXPECT_EQ(tokenizer->chat_template(), "{{ messages }}");
  ExpectError([&] { tokenizer->TokenBytes(-1, false); }, ErrorCode::kInvalidArgument, "token id");
  ExpectError([&] { tokenizer->TokenBytes(tokenizer->vocab_size(), false); }, ErrorCode::kInvalidArgument, "token id");
}

TEST(ByteLevelTokenizer, MergesThroughTextsThatAreNoToken) {
  TinyModel model = ByteLevel();
  const int32_t abc = model.Add("abc");
  model.merges = {"a b", "ab c"};  // "ab" is no token
  const auto tokenizer = model.Load();
  EXPECT_EQ(tokenizer->Encode("abc", true), Ids{abc});
  EXPECT_EQ(tokenizer->Encode("abd", true), (Ids{'a', 'b', 'd'}));
}

TEST(ByteLevelTokenizer, TakesWholeWordsWhereTheModelDoes) {
  TinyModel model = ByteLevel("llama-bpe");
  const int32_t abc = model.Add("abc");  // no merge makes it
  EXPECT_EQ(model.Load()->Encode("abc", true), Ids{abc});
  model.pre = "qwen2";
  EXPECT_EQ(model.Load()->Encode("abc", true), (Ids{'a', 'b', 'c'}));
}

TEST(ByteLevelTokenizer, DropsBytesItHasNoTokenFor) {
  TinyModel model;
  model.Add("a");
  model.merges = {};
  EXPECT_EQ(model.Load()->Encode("bab", true), Ids{0});
}

TEST(ScoreTokenizer, MergesHighestScoreFirst) {
  TinyModel model = CharLevel();
  const int32_t mark = model.Add("\u2581");
  const int32_t a = model.Add("a");
  model.Add("b");
  const int32_t c = model.Add("c");
  const int32_t ab = model.Add("ab", kNormal, -1);
  const int32_t bc = model.Add("bc", kNormal, -2);
  const int32_t mark_a = model.Add("\u2581a", kNormal, -3);
  model.switches["add_space_prefix"] = false;
  auto tokenizer = model.Load();
  EXPECT_EQ(tokenizer->Encode("abc", true), (Ids{ab, c}));
  EXPECT_EQ(tokenizer->Encode("cbc", true), (Ids{c, bc}));
  EXPECT_EQ(tokenizer->Encode("a a", true), (Ids{a, mark_a}));
  EXPECT_EQ(tokenizer->Encode("\u00e9", true), (Ids{3 + 0xC3, 3 + 0xA9}));
  EXPECT_EQ(tokenizer->Encode("\xC3", true), Ids{3 + 0xC3});
  EXPECT_EQ(tokenizer->Encode("\xE2 a", true), (Ids{3 + 0xE2, mark_a}));  // no byte of the space is torn off
  EXPECT_EQ(tokenizer->Decode(Ids{3 + 0xC3, 3 + 0xA9, mark_a}, false), "\u00e9 a");
  EXPECT_EQ(tokenizer->bos(), 1);  // llama.cpp's defaults
  EXPECT_EQ(tokenizer->eos(), 2);
  EXPECT_TRUE(tokenizer->add_bos());

  model.switches["add_space_prefix"] = true;
  model.switches["add_bos_token"] = false;
  tokenizer = model.Load();
  EXPECT_FALSE(tokenizer->add_bos());
  EXPECT_EQ(tokenizer->Encode("a", true), Ids{mark_a});
  EXPECT_EQ(tokenizer->Encode(" a", true), (Ids{mark, mark_a}));
  EXPECT_EQ(tokenizer->Encode("a<s>a", true), (Ids{mark_a, 1, mark_a}));
  EXPECT_EQ(tokenizer->Encode("", true), Ids{});
}

TEST(ScoreTokenizer, UnknownWithoutBytes) {
  TinyModel model;
  model.model = "llama";
  model.Add("<unk>", kUnknown);
  model.Add("<s>", kControl);
  model.Add("</s>", kControl);
  const int32_t a = model.Add("a");
  model.switches["add_space_prefix"] = false;
  EXPECT_EQ(model.Load()->Encode("a\u00e9a", true), (Ids{a, 0, a}));
}

TEST(Tokenizer, SpecialTokensInTheText) {
  TinyModel model = ByteLevel();
  const int32_t end = model.Add("<|im_end|>", kControl);
  const int32_t keep = model.Add("<keep>", kUserDefined);
  const int32_t eot = model.Add("<|eot_id|>");  // the file forgot to say that it is a control token
  model.ids["bos_token_id"] = static_cast<uint32_t>(end);
  const auto tokenizer = model.Load();
  EXPECT_EQ(tokenizer->Encode("a<|im_end|>b", true), (Ids{'a', end, 'b'}));
  EXPECT_EQ(tokenizer->Encode("a<|im_end|>b", false).size(), 12U);
  EXPECT_EQ(tokenizer->Encode("<keep>", false), Ids{keep});
  EXPECT_EQ(tokenizer->Encode("<|im_end|", true).size(), 9U);
  EXPECT_EQ(tokenizer->FindSpecial("<|im_end|>"), end);
  EXPECT_EQ(tokenizer->FindSpecial("<keep>"), keep);
  EXPECT_EQ(tokenizer->FindSpecial("a"), std::nullopt);
  EXPECT_EQ(tokenizer->FindSpecial("none"), std::nullopt);
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(end));
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(eot));
  EXPECT_FALSE(tokenizer->IsEndOfGeneration(keep));
  EXPECT_EQ(tokenizer->bos(), end);
  EXPECT_EQ(tokenizer->eos(), std::nullopt);
  EXPECT_EQ(tokenizer->TokenBytes(end, true), "<|im_end|>");
  EXPECT_EQ(tokenizer->TokenBytes(end, false), "");
  EXPECT_EQ(tokenizer->TokenBytes(keep, false), "<keep>");
}

// Text that spells a special token stays text, though merges lead up to it: a message must not end its own turn. Nor
// does it become a byte token, which would stand for another text. As in sentencepiece, not llama.cpp.
TEST(Tokenizer, TextNeverMergesIntoSpecialTokens) {
  TinyModel model = CharLevel();
  model.switches["add_space_prefix"] = false;
  for (const char c : std::string_view("</s>0x41")) model.Add(std::string(1, c));
  const int32_t left = model.Add("</");
  const int32_t right = model.Add("s>");
  const int32_t code = model.Add("<0x41");
  model.Add("<0x4");
  model.Add("<0x");
  model.Add("<0");
  auto tokenizer = model.Load();
  EXPECT_EQ(tokenizer->Encode("</s>", false), (Ids{left, right}));
  EXPECT_EQ(tokenizer->Encode("</s>", true), Ids{2});
  EXPECT_EQ(tokenizer->Encode("<0x41>", false), (Ids{code, *tokenizer->Encode(">", false).begin()}));
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("<0x41></s>", false), false), "<0x41></s>");

  model = ByteLevel("llama-bpe");  // which takes whole words
  const int32_t eot = model.Add("EOT", kControl);
  const int32_t eo = model.Add("EO");
  model.merges = {"E O", "EO T"};
  tokenizer = model.Load();
  EXPECT_EQ(tokenizer->Encode("EOT", false), (Ids{eo, 'T'}));
  EXPECT_EQ(tokenizer->Encode("EOT", true), Ids{eot});
  model.pre = "gpt-2";
  EXPECT_EQ(model.Load()->Encode("EOT", false), (Ids{eo, 'T'}));
}

TEST(PreTokenizer, Words) {
  const auto split = [](const char* name, std::string_view text) {
    Words words;
    SplitWords(*PreTokenizerFromName(name), text, &words);
    return words;
  };
  EXPECT_EQ(split("gpt-2", "it's 123,  x"), (Words{"it", "'s", " 123", ",", " ", " x"}));
  EXPECT_EQ(split("smollm", "x12 3"), (Words{"x", "1", "2", " ", "3"}));
  EXPECT_EQ(split("llama-bpe", "IT'S 1234\n\n a"), (Words{"IT", "'S", " ", "123", "4", "\n\n", " a"}));
  EXPECT_EQ(split("qwen2", "x 12"), (Words{"x", " ", "1", "2"}));
  // Marks alone, then words, then digits in threes; what is left between threes stays whole.
  EXPECT_EQ(split("default", "a+=b 12345 c"), (Words{"a", "+=", "b", " ", "123", "45", " c"}));
  EXPECT_EQ(split("default", ""), Words{});
  EXPECT_EQ(PreTokenizerFromName("unknown"), std::nullopt);
}

TEST(PreTokenizer, WordsAlwaysAddUpToTheText) {
  std::mt19937 random(7);
  constexpr std::string_view kPieces[] = {
      "a",      "Z",      "'s",     "'LL",    "1",    " ",    "  ",   "\n",         "\r\n",    "\t",     ".",       "+",
      "\u00e9", "\u0663", "\u3000", "\u4e2d", "\xFF", "\xE2", "\xF0", "\U0001f600", "e\u0301", "\u2581", "\xC0\xAF"};
  for (int round = 0; round < 400; ++round) {
    std::string text;
    for (int i = 0; i < 30; ++i) text += kPieces[random() % std::size(kPieces)];
    for (const char* name : {"gpt-2", "default", "smollm", "llama-bpe", "qwen2"}) {
      Words words;
      SplitWords(*PreTokenizerFromName(name), text, &words);
      std::string joined;
      for (const std::string_view word : words) {
        EXPECT_FALSE(word.empty());
        joined += word;
      }
      EXPECT_EQ(joined, text) << name;
    }
  }
}

// The textbook loop: merge the pair of lowest rank, the leftmost of equals, until none is left.
std::string SlowMerge(std::string text, const std::map<std::pair<char, char>, std::pair<uint32_t, char>>& rules) {
  while (true) {
    size_t best = text.size();
    for (size_t i = 0; i + 1 < text.size(); ++i) {
      const auto it = rules.find({text[i], text[i + 1]});
      if (it == rules.end()) continue;
      if (best == text.size() || it->second.first < rules.at({text[best], text[best + 1]}).first) best = i;
    }
    if (best == text.size()) return text;
    text[best] = rules.at({text[best], text[best + 1]}).second;
    text.erase(best + 1, 1);
  }
}

TEST(MergeQueue, EqualsTheSlowLoop) {
  std::mt19937 random(11);
  int merges = 0;
  for (int round = 0; round < 2000; ++round) {
    std::map<std::pair<char, char>, std::pair<uint32_t, char>> rules;
    for (int i = 0; i < 12; ++i) {  // letters from a few, so that rules chain; ranks repeat
      rules[{static_cast<char>('a' + random() % 6), static_cast<char>('a' + random() % 6)}] = {
          random() % 6, static_cast<char>('a' + random() % 8)};
    }
    std::string text;
    for (auto i = random() % 40; i > 0; --i) text += static_cast<char>('a' + random() % 4);
    MergeScratch scratch;
    for (size_t i = 0; i < text.size(); ++i) scratch.Append(static_cast<uint32_t>(i), 1, text[i]);
    MergeSymbols(
        [&](const MergeSymbol& left, const MergeSymbol& right, MergeCandidate* candidate) {
          const auto it = rules.find({static_cast<char>(left.id), static_cast<char>(right.id)});
          if (it == rules.end()) return false;
          candidate->rank = it->second.first;
          candidate->merged_id = it->second.second;
          return true;
        },
        &scratch);
    std::string merged;
    for (int32_t i = text.empty() ? -1 : 0; i >= 0; i = scratch.symbols[static_cast<size_t>(i)].next) {
      merged += static_cast<char>(scratch.symbols[static_cast<size_t>(i)].id);
    }
    const std::string wanted = SlowMerge(text, rules);
    merges += static_cast<int>(text.size() - wanted.size());
    ASSERT_EQ(merged, wanted) << text;
  }
  EXPECT_GT(merges, 5000);
}

// llama.cpp's way: for every special token, longest first, a scan over what is still raw.
std::vector<std::pair<std::string, int32_t>> SlowPartition(const std::string& text, std::vector<std::string> tokens) {
  std::vector<std::pair<std::string, int32_t>> pieces = {{text, -1}};
  std::vector<int32_t> order(tokens.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  const auto& by_id = tokens;
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return by_id[static_cast<size_t>(a)].size() > by_id[static_cast<size_t>(b)].size();
  });
  for (const int32_t id : order) {
    const std::string& token = tokens[static_cast<size_t>(id)];
    std::vector<std::pair<std::string, int32_t>> next;
    for (const auto& [piece, found] : pieces) {
      if (found >= 0) {
        next.emplace_back(piece, found);
        continue;
      }
      size_t begin = 0;
      for (size_t at = piece.find(token); at != piece.npos; at = piece.find(token, begin)) {
        if (at > begin) next.emplace_back(piece.substr(begin, at - begin), -1);
        next.emplace_back(token, id);
        begin = at + token.size();
      }
      if (begin < piece.size()) next.emplace_back(piece.substr(begin), -1);
    }
    pieces = std::move(next);
  }
  if (text.empty()) pieces.clear();
  return pieces;
}

TEST(Vocabulary, CutsSpecialTokensAsTheSlowScanDoes) {
  std::mt19937 random(13);
  const auto letters = [&](uint64_t length) {
    std::string text;
    for (uint64_t i = 0; i < length; ++i) text += static_cast<char>('a' + random() % 2);
    return text;
  };
  size_t placed = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> tokens;
    for (int i = 0; i < 5; ++i) {
      const std::string token = letters(1 + random() % 6);
      if (std::find(tokens.begin(), tokens.end(), token) == tokens.end()) tokens.push_back(token);
    }
    // Tokens of one length that overlap each other: llama.cpp takes them in order of id, Partition from the left.
    std::map<size_t, int> lengths;
    for (const std::string& token : tokens) ++lengths[token.size()];
    if (std::any_of(lengths.begin(), lengths.end(), [](const auto& row) { return row.second > 1; })) continue;
    const std::string text = letters(random() % 40);
    Vocabulary vocabulary("x", {tokens.begin(), tokens.end()},
                          std::vector<TokenType>(tokens.size(), TokenType::kControl));
    vocabulary.Finish();
    std::vector<std::pair<std::string, int32_t>> pieces;
    for (const TextPiece& piece : vocabulary.Partition(text, true)) pieces.emplace_back(piece.text, piece.token);
    EXPECT_EQ(pieces, SlowPartition(text, tokens)) << text;
    placed += pieces.size();
  }
  EXPECT_GT(placed, 2000U);
}

TEST(GgufTokenizer, BadFilesAreRefused) {
  const auto expect = [](const std::function<void(TinyModel*)>& damage, ErrorCode code, std::string_view words,
                         bool byte_level = true) {
    TinyModel model = byte_level ? ByteLevel() : CharLevel();
    damage(&model);
    ExpectError([&] { model.Load(); }, code, words);
  };
  constexpr ErrorCode kBad = ErrorCode::kCorruptData;
  expect([](TinyModel* m) { m->model = "t5"; }, ErrorCode::kUnsupported, "found t5");
  expect([](TinyModel* m) { m->pre = "chameleon"; }, ErrorCode::kUnsupported, "found chameleon");
  expect([](TinyModel* m) { m->types.pop_back(); }, kBad, "token_type");
  expect([](TinyModel* m) { m->types[5] = 7; }, kBad, "token_type");
  expect([](TinyModel* m) { m->types[5] = -1; }, kBad, "token_type");
  expect([](TinyModel* m) { m->ids["eos_token_id"] = 256; }, kBad, "eos");
  expect([](TinyModel* m) { m->ids["eot_token_id"] = 0xFFFFFFFFU; }, kBad, "eot");
  expect([](TinyModel* m) { m->merges = {"ab"}; }, kBad, "merges");
  expect([](TinyModel* m) { m->merges = {"a "}; }, kBad, "merges");
  expect([](TinyModel* m) { m->merges = {""}; }, kBad, "merges");
  expect([](TinyModel* m) { m->Add(std::string(257, 'x'), kControl); }, ErrorCode::kLimitExceeded, "special token");
  expect([](TinyModel* m) { m->tokens.clear(), m->types.clear(); }, kBad, "tokens");
  expect([](TinyModel* m) { m->scores.pop_back(); }, kBad, "scores", false);
  expect([](TinyModel* m) { m->scores[4] = std::numeric_limits<float>::quiet_NaN(); }, kBad, "scores", false);
  expect([](TinyModel* m) { m->tokens[5] = "<0xGG>"; }, kBad, "byte token", false);
}

bool IsWholeUtf8(std::string_view text) {
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Char c = DecodeUtf8(text, pos);
    if (c.code == kInvalidCodePoint) return false;
    pos += c.length;
  }
  return true;
}

TEST(StreamDecoder, NeverEmitsHalfACharacter) {
  const auto tokenizer = ByteLevel().Load();
  const std::string text = "a\u00e9\u4e2d\U0001f600z\u2581\U0010ffff";
  StreamDecoder decoder(tokenizer, true);
  std::string out;
  for (const char c : text) {
    const std::string part = decoder.Push(static_cast<uint8_t>(c));
    EXPECT_TRUE(IsWholeUtf8(part));
    out += part;
  }
  EXPECT_EQ(out, text);
  EXPECT_EQ(decoder.Finish(), "");
}

TEST(StreamDecoder, InvalidBytesBecomeReplacementCharacters) {
  // As bytes.decode("utf-8", "replace") of Python gives them.
  const std::pair<std::string_view, std::string_view> kCases[] = {
      {"\xFF", "\uFFFD"},
      {"a\x80z", "a\uFFFDz"},
      {"\xE2\x82", "\uFFFD"},
      {"\xE2\x82z", "\uFFFDz"},
      {"\xE2z\x82", "\uFFFDz\uFFFD"},
      {"\xF0\x9F\x98", "\uFFFD"},
      {"\xF0\x9F\x98\xF0\x9F\x98\x80", "\uFFFD\U0001f600"},
      {"\xC0\xAF", "\uFFFD\uFFFD"},
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
      {"\xE0\x80\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\xF8\x88\x80\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"},
      {"\xC3\xC3\xA9", "\uFFFD\u00e9"},
  };
  const auto tokenizer = ByteLevel().Load();
  for (const auto& [bytes, wanted] : kCases) {
    StreamDecoder decoder(tokenizer, true);
    std::string out;
    for (const char c : bytes) out += decoder.Push(static_cast<uint8_t>(c));
    EXPECT_EQ(out + decoder.Finish(), wanted);
  }
}

TEST(StreamDecoder, RandomBytesAreAlwaysWhole) {
  const auto tokenizer = ByteLevel().Load();
  std::mt19937 random(17);
  constexpr uint8_t kBytes[] = {0x00, 0x41, 0x80, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xDF,
                                0xE0, 0xE2, 0xED, 0xEF, 0xF0, 0xF4, 0xF5, 0xFF};
  for (int round = 0; round < 500; ++round) {
    StreamDecoder decoder(tokenizer, true);
    for (int i = 0; i < 40; ++i) {
      EXPECT_TRUE(IsWholeUtf8(decoder.Push(kBytes[random() % std::size(kBytes)])));
    }
    EXPECT_TRUE(IsWholeUtf8(decoder.Finish()));
    EXPECT_EQ(decoder.Finish(), "");
  }
}

TEST(HostileText, OneMebibyteOfEverything) {
  std::vector<std::shared_ptr<const Tokenizer>> tokenizers;
  for (const char* pre : {"gpt-2", "default", "smollm", "llama-bpe", "qwen2"}) {
    TinyModel model = ByteLevel(pre);
    // Runs of one letter and of spaces merge all the way up; special tokens that nearly match.
    for (const std::string letter : {"a", "\u0120"}) {
      for (std::string run = letter; run.size() < 64; run += run) {
        model.merges.push_back(run + " " + run);
        model.Add(run + run);
      }
    }
    for (const char* special : {"<|x|>", "<|x|><|x|", "<|", "|><", "aaaaaaaab"}) model.Add(special, kControl);
    tokenizers.push_back(model.Load());
  }
  for (const bool prefix : {false, true}) {
    TinyModel model = CharLevel();
    model.switches["add_space_prefix"] = prefix;
    for (const std::string letter : {"a", "\u2581"}) {
      float score = 0;
      for (std::string run = letter; run.size() < 200; run += run) model.Add(run, kNormal, score -= 1);
      for (std::string run = letter; run.size() < 100; run += letter) model.Add(run, kNormal, score -= 1);
    }
    for (const char* special : {"<|x|>", "<|x|><|x|", "<|", "|><", "aaaaaaaab"}) model.Add(special, kControl);
    tokenizers.push_back(model.Load());
  }
  std::mt19937 random(19);
  std::string noise(size_t{1} << 20, '\0');
  for (char& c : noise) c = static_cast<char>(random());
  std::vector<std::string> texts = {noise};
  for (const std::string_view unit :
       {"a", " ",        "\n",         "\t ",    "1",    "'",        ".",        "ab",     "a ",   "<|x|",    "<|x|>",
        "<", "aaaaaaaa", "\U0001f600", "\u4e2d", "\xFF", "\xF0\x9F", "\xE2\x96", "\u2581", "\r\n", "e\u0301", "\0"}) {
    std::string text;
    while (text.size() < (size_t{1} << 20)) text += unit.empty() ? std::string_view("\0", 1) : unit;
    texts.push_back(std::move(text));
  }
  for (size_t t = 0; t < tokenizers.size(); ++t) {
    const bool prefix = t + 1 == tokenizers.size();
    for (const std::string& whole : texts) {
      // Three kinds of loops at full length are enough; the others share them.
      const std::string text = t == 0 || t == 3 || t == 5 ? whole : whole.substr(0, size_t{1} << 17);
      const Ids ids = tokenizers[t]->Encode(text, true);
      EXPECT_LE(ids.size(), text.size() + 1);
      // U+2581 is how these models write a space; a prefix is put before every piece.
      if (prefix || (t >= 5 && text.find("\u2581") != text.npos)) continue;
      EXPECT_TRUE(tokenizers[t]->Decode(ids, true) == text) << text.substr(0, 8);
    }
  }
}

}  // namespace
}  // namespace gateskip::testing
