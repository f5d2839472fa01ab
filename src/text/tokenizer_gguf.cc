// SPDX-License-Identifier: Apache-2.0
// Tokenizer::FromGguf: the tokenizer.ggml.* metadata, with llama.cpp's defaults for what a file leaves out.
#include <limits>

#include "base/check.h"
#include "io/gguf.h"
#include "text/tokenizer_base.h"

namespace gateskip {
namespace {

std::vector<TokenType> ReadTypes(const GgufFile& file, size_t num_tokens) {
  constexpr std::string_view kKey = "tokenizer.ggml.token_type";
  std::vector<TokenType> types(num_tokens, TokenType::kNormal);
  if (!file.Has(kKey)) return types;
  const std::vector<int64_t> raw = file.GetInts(kKey);
  if (raw.size() != num_tokens) {
    Fail(ErrorCode::kCorruptData, "[{}] {}: expected {} entries, one per token, found {}; the file is damaged",
         file.origin(), kKey, num_tokens, raw.size());
  }
  for (size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] < 0 || raw[i] > 6) {
      Fail(ErrorCode::kCorruptData, "[{}] {}: expected types 0 to 6, found {} for token {}; the file is damaged",
           file.origin(), kKey, raw[i], i);
    }
    types[i] = raw[i] == 0 ? TokenType::kNormal : static_cast<TokenType>(raw[i]);
  }
  return types;
}

std::optional<int32_t> ReadId(const GgufFile& file, std::string_view name, int64_t num_tokens,
                              std::optional<int32_t> fallback) {
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
  if (!file.Has(key)) return fallback && *fallback < num_tokens ? fallback : std::nullopt;
  const int64_t id = file.GetInt(key);
  if (id < 0 || id >= num_tokens) {
    Fail(ErrorCode::kCorruptData, "[{}] {}: expected 0 to {}, found {}; the file is damaged", file.origin(), key,
         num_tokens - 1, id);
  }
  return static_cast<int32_t>(id);
}

std::vector<std::pair<std::string_view, std::string_view>> SplitMerges(const GgufFile& file,
                                                                       const std::vector<std::string_view>& lines) {
  std::vector<std::pair<std::string_view, std::string_view>> pairs;
  pairs.reserve(lines.size());
  for (const std::string_view line : lines) {
    const size_t space = line.find(' ', 1);
    if (line.empty() || space == std::string_view::npos || space + 1 == line.size()) {
      Fail(ErrorCode::kCorruptData,
           "[{}] tokenizer.ggml.merges: expected \"left right\", found rule {} without both; the file is damaged",
           file.origin(), pairs.size());
    }
    pairs.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return pairs;
}

}  // namespace

std::shared_ptr<const Tokenizer> Tokenizer::FromGguf(const GgufFile& file) {
  const std::string_view model = file.GetString("tokenizer.ggml.model");
  const bool byte_level = model == "gpt2";
  if (!byte_level && model != "llama") {
    Fail(ErrorCode::kUnsupported,
         "[{}] tokenizer.ggml.model: expected gpt2 or llama, found {}; gateskip cannot tokenise for this model yet",
         file.origin(), file.DescribeValue("tokenizer.ggml.model", 64));
  }
  ByteLevelOptions byte_level_options;
  bool llama3 = false;
  if (byte_level) {
    const std::string_view name = file.GetString("tokenizer.ggml.pre", "default");
    const auto kind = PreTokenizerFromName(name);
    if (!kind) {
      Fail(ErrorCode::kUnsupported,
           "[{}] tokenizer.ggml.pre: expected default, gpt-2, smollm, llama-bpe or qwen2, "
           "found {}; gateskip cannot split text as this model does",
           file.origin(), file.DescribeValue("tokenizer.ggml.pre", 64));
    }
    llama3 = *kind == PreTokenizer::kLlama3;
    byte_level_options = {*kind, llama3};
  }

  const std::vector<std::string_view> texts = file.GetStrings("tokenizer.ggml.tokens");
  Vocabulary vocabulary(file.origin(), texts, ReadTypes(file, texts.size()));
  const int64_t size = vocabulary.size();
  const auto fallback = [byte_level](int32_t id) { return byte_level ? std::nullopt : std::optional<int32_t>(id); };
  SpecialTokens special;
  special.bos = ReadId(file, "bos", size, fallback(1));
  special.eos = ReadId(file, "eos", size, fallback(2));
  special.unknown = ReadId(file, "unknown", size, fallback(0));
  special.add_bos = file.GetBool("tokenizer.ggml.add_bos_token", !byte_level || llama3) && special.bos.has_value();
  special.chat_template = std::string(file.GetString("tokenizer.chat_template", ""));
  special.end_of_generation = FindEndOfGeneration(&vocabulary, special.eos, ReadId(file, "eot", size, std::nullopt),
                                                  ReadId(file, "eom", size, std::nullopt));
  vocabulary.Finish();

  if (byte_level) {
    const std::vector<std::string_view> lines = file.GetStrings("tokenizer.ggml.merges");
    MergeTable merges(vocabulary, SplitMerges(file, lines));
    // A byte that is no token is dropped, as llama.cpp does, not turned into the unknown token.
    special.unknown.reset();
    return MakeByteLevelTokenizer(std::move(vocabulary), std::move(special), std::move(merges), byte_level_options);
  }
  CharBpeOptions options;
  if (file.GetBool("tokenizer.ggml.add_space_prefix", true)) options.prefix = SpacePrefix::kAfterSpecial;
  return MakeScoreTokenizer(std::move(vocabulary), std::move(special), file.GetFloats("tokenizer.ggml.scores"),
                            options);
}

}  // namespace gateskip
