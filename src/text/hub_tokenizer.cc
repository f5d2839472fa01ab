// SPDX-License-Identifier: Apache-2.0
#include "text/hub_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/check.h"
#include "io/gguf.h"
#include "text/hub_patterns.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

namespace gateskip {
namespace {

using Json = nlohmann::json;

struct Table {
  std::vector<std::string_view> texts;
  std::vector<TokenType> types;
};

// Tokenizer::FromGguf has accepted the file.
Table ReadTable(const GgufFile& file) {
  Table table;
  table.texts = file.GetStrings("tokenizer.ggml.tokens");
  table.types.assign(table.texts.size(), TokenType::kNormal);
  if (file.Has("tokenizer.ggml.token_type")) {
    const std::vector<int64_t> types = file.GetInts("tokenizer.ggml.token_type");
    for (size_t i = 0; i < types.size(); ++i) {
      if (types[i] != 0) table.types[i] = static_cast<TokenType>(types[i]);
    }
  }
  return table;
}

Json VocabularyJson(const Table& table, const std::string& origin) {
  Json vocabulary = Json::object();
  for (size_t i = 0; i < table.texts.size(); ++i) {
    const std::string text(table.texts[i]);
    if (ReadableText(text, std::string::npos) != text) {
      Fail(ErrorCode::kUnsupported,
           "[{}] token {}: expected UTF-8, which tokenizer.json must be, found other bytes; export to gguf", origin, i);
    }
    if (!vocabulary.emplace(text, i).second) {
      Fail(ErrorCode::kUnsupported,
           "[{}] tokens: expected each text once, which is all tokenizer.json can hold, found {} twice; export to gguf",
           origin, Json(ReadableText(text, 80)).dump());
    }
  }
  return vocabulary;
}

Json AddedTokens(const Table& table) {
  Json added = Json::array();
  for (size_t i = 0; i < table.texts.size(); ++i) {
    const bool special = table.types[i] == TokenType::kControl || table.types[i] == TokenType::kUnknown;
    if (!special && table.types[i] != TokenType::kUserDefined) continue;
    added.push_back({{"id", i},
                     {"content", table.texts[i]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", special}});
  }
  return added;
}

Json ByteLevel(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json Split(std::string_view pattern) {
  return {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
}

Json Sequence(const char* list, Json steps) { return {{"type", "Sequence"}, {list, std::move(steps)}}; }

Json PreTokenizerJson(PreTokenizer kind, const std::string& origin) {
  switch (kind) {
    case PreTokenizer::kGpt2:
      return ByteLevel(true);
    case PreTokenizer::kSmolLm:
      return Sequence("pretokenizers",
                      Json::array({{{"type", "Digits"}, {"individual_digits", true}}, ByteLevel(true)}));
    case PreTokenizer::kLlama3:
      return Sequence("pretokenizers", Json::array({Split(kLlama3Pattern), ByteLevel(false)}));
    case PreTokenizer::kQwen2:
      return Sequence("pretokenizers", Json::array({Split(kQwen2Pattern), ByteLevel(false)}));
    case PreTokenizer::kDefault:
      break;
  }
  Fail(ErrorCode::kUnsupported,
       "[{}] tokenizer.ggml.pre: expected gpt-2, smollm, llama-bpe or qwen2, found default, which has no "
       "tokenizer.json; "
       "export to gguf",
       origin);
}

Json ByteLevelMerges(const GgufFile& file) {
  Json merges = Json::array();
  for (const std::string_view line : file.GetStrings("tokenizer.ggml.merges")) merges.push_back(line);
  return merges;
}

// Every pair of pieces that makes a piece, by the score of what it makes.
Json MergesFromScores(const GgufFile& file, const Table& table) {
  struct Merge {
    float score;
    uint32_t made;
    uint32_t left_bytes;
  };
  const std::vector<float> scores = file.GetFloats("tokenizer.ggml.scores");
  std::unordered_map<std::string_view, size_t> pieces;
  const auto is_piece = [&](size_t i) { return table.types[i] == TokenType::kNormal; };
  for (size_t i = 0; i < table.texts.size(); ++i) {
    if (is_piece(i)) pieces.emplace(table.texts[i], i);
  }
  std::vector<Merge> merges;
  for (size_t i = 0; i < table.texts.size(); ++i) {
    const std::string_view text = table.texts[i];
    if (!is_piece(i) || text.empty()) continue;
    for (size_t at = DecodeUtf8(text, 0).length; at < text.size(); at += DecodeUtf8(text, at).length) {
      if (pieces.contains(text.substr(0, at)) && pieces.contains(text.substr(at))) {
        merges.push_back({scores[i], static_cast<uint32_t>(i), static_cast<uint32_t>(at)});
      }
    }
  }
  std::ranges::stable_sort(merges, [](const Merge& a, const Merge& b) { return a.score > b.score; });
  Json list = Json::array();
  for (const Merge& merge : merges) {
    const std::string_view text = table.texts[merge.made];
    list.push_back({text.substr(0, merge.left_bytes), text.substr(merge.left_bytes)});
  }
  return list;
}

Json ReplaceStep(std::string_view pattern, std::string_view content) {
  return {{"type", "Replace"}, {"pattern", {{"String", pattern}}}, {"content", content}};
}

// A BOS in front of a single text and of both texts of a pair.
Json BosProcessor(std::string_view bos, int32_t id) {
  const Json special = {{"SpecialToken", {{"id", bos}, {"type_id", 0}}}};
  const auto text = [](const char* name, int type) { return Json{{"Sequence", {{"id", name}, {"type_id", type}}}}; };
  return {{"type", "TemplateProcessing"},
          {"single", {special, text("A", 0)}},
          {"pair", {special, text("A", 0), special, text("B", 1)}},
          {"special_tokens", {{bos, {{"id", bos}, {"ids", {id}}, {"tokens", {bos}}}}}}};
}

Json Model(const Json& vocabulary, Json merges) {
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", false},
          {"vocab", vocabulary},
          {"merges", std::move(merges)}};
}

// The parts in which the two kinds differ.
void SetByteLevel(const GgufFile& file, const Json& vocabulary, Json* root) {
  const PreTokenizer kind = *PreTokenizerFromName(file.GetString("tokenizer.ggml.pre", "default"));
  Json& json = *root;
  json["pre_tokenizer"] = PreTokenizerJson(kind, file.origin());
  if (kind == PreTokenizer::kQwen2) json["normalizer"] = {{"type", "NFC"}};
  json["decoder"] = ByteLevel(true);
  json["model"] = Model(vocabulary, ByteLevelMerges(file));
  json["model"]["ignore_merges"] = kind == PreTokenizer::kLlama3;
}

void SetCharacters(const GgufFile& file, const Table& table, const Json& vocabulary, Json* root) {
  const bool prefix = file.GetBool("tokenizer.ggml.add_space_prefix", true);
  const Json replace = ReplaceStep(" ", kSpaceMark);
  Json& json = *root;
  json["normalizer"] =
      prefix ? Sequence("normalizers", Json::array({{{"type", "Prepend"}, {"prepend", kSpaceMark}}, replace}))
             : replace;
  Json decoders = Json::array({ReplaceStep(kSpaceMark, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
  if (prefix) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  json["decoder"] = Sequence("decoders", std::move(decoders));
  json["model"] = Model(vocabulary, MergesFromScores(file, table));
  json["model"]["byte_fallback"] = true;
  json["model"]["fuse_unk"] = true;
  const auto unknown = std::ranges::find(table.types, TokenType::kUnknown);
  if (unknown != table.types.end()) {
    json["model"]["unk_token"] = table.texts[static_cast<size_t>(unknown - table.types.begin())];
  }
}

}  // namespace

HubTokenizer MakeHubTokenizer(const GgufFile& file) {
  const std::shared_ptr<const Tokenizer> tokenizer = Tokenizer::FromGguf(file);
  const Table table = ReadTable(file);
  const Json vocabulary = VocabularyJson(table, file.origin());
  const auto text_of = [&](int32_t id) { return table.texts[static_cast<size_t>(id)]; };

  Json root = {{"version", "1.0"},
               {"truncation", nullptr},
               {"padding", nullptr},
               {"normalizer", nullptr},
               {"pre_tokenizer", nullptr},
               {"post_processor", nullptr},
               {"added_tokens", AddedTokens(table)}};
  if (file.GetString("tokenizer.ggml.model") == "gpt2") {
    SetByteLevel(file, vocabulary, &root);
  } else {
    SetCharacters(file, table, vocabulary, &root);
  }
  if (tokenizer->add_bos()) root["post_processor"] = BosProcessor(text_of(*tokenizer->bos()), *tokenizer->bos());

  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false},
                 {"add_bos_token", tokenizer->add_bos()}};
  if (tokenizer->bos()) config["bos_token"] = text_of(*tokenizer->bos());
  if (tokenizer->eos()) config["eos_token"] = text_of(*tokenizer->eos());
  if (const Json& unknown = root["model"]["unk_token"]; !unknown.is_null()) config["unk_token"] = unknown;
  if (file.Has("tokenizer.ggml.padding_token_id")) {
    const uint64_t pad = file.GetUint("tokenizer.ggml.padding_token_id");
    if (pad < table.texts.size()) config["pad_token"] = table.texts[pad];
  }
  if (!tokenizer->chat_template().empty()) config["chat_template"] = tokenizer->chat_template();
  // A chat template that is no UTF-8 is replaced, not refused: only the chat suffers.
  return {root.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n",
          config.dump(1, ' ', false, Json::error_handler_t::replace) + "\n"};
}

}  // namespace gateskip
