// SPDX-License-Identifier: Apache-2.0
// Tokenizer::FromHubDirectory: tokenizer.json (the format of huggingface/tokenizers) with tokenizer_config.json and
// chat_template.jinja beside it. Pre-tokenizers are recognised by their published patterns; an unknown one is refused,
// never approximated. Unicode normalisation (NFC, Qwen 2) is not applied: text is expected in NFC, as llama.cpp does.
#include <array>
#include <filesystem>

#include "base/check.h"
#include "io/hub_directory.h"
#include "io/json.h"
#include "text/hub_patterns.h"
#include "text/tokenizer_base.h"
#include "text/utf8.h"

namespace gateskip {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxTokenizerBytes = size_t{256} << 20;
constexpr size_t kMaxTemplateBytes = size_t{4} << 20;

const Json& Member(const Json& object, const char* key) {
  static const Json null;
  if (!object.is_object()) return null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

std::string_view StringOr(const Json& object, const char* key, std::string_view fallback) {
  const Json& value = Member(object, key);
  return value.is_string() ? std::string_view(value.get_ref<const std::string&>()) : fallback;
}

bool BoolOr(const Json& object, const char* key, bool fallback) {
  const Json& value = Member(object, key);
  return value.is_boolean() ? value.get<bool>() : fallback;
}

// The steps of a normalizer or pre-tokenizer, which is one object or a Sequence of them.
// The array `key` of an object; empty when absent.
const Json& ArrayMember(const Json& object, const char* key, const std::string& origin) {
  static const Json none = Json::array();
  const Json& value = Member(object, key);
  if (value.is_null()) return none;
  if (!value.is_array()) {
    Fail(ErrorCode::kCorruptData, "[{}] {}: expected an array, found {}; the file is damaged", origin, key,
         value.type_name());
  }
  return value;
}

std::vector<const Json*> Steps(const Json& component, const char* list, const std::string& origin) {
  std::vector<const Json*> steps;
  if (component.is_null()) return steps;
  if (StringOr(component, "type", "") != "Sequence") return {&component};
  for (const Json& step : ArrayMember(component, list, origin)) steps.push_back(&step);
  return steps;
}

[[noreturn]] void FailPreTokenizer(const std::string& origin, std::string_view found) {
  Fail(ErrorCode::kUnsupported,
       "[{}] pre_tokenizer: expected the one of gpt2, smollm, llama-bpe or qwen2, found {}; gateskip cannot split text "
       "as this model does",
       origin, ReadableText(found, 80));
}

[[noreturn]] void FailNormalizer(const std::string& origin, std::string_view found) {
  Fail(ErrorCode::kUnsupported,
       "[{}] normalizer: expected NFC or none (byte-level), or Prepend and Replace of spaces by U+2581, found {}; "
       "gateskip cannot prepare text as this model does",
       origin, ReadableText(found, 80));
}

// Sequences of one splitter (digits or a pattern; none: GPT-2's) and then ByteLevel, in this order.
PreTokenizer RecognisePreTokenizer(const Json& root, const std::string& origin) {
  for (const Json* step : Steps(Member(root, "normalizer"), "normalizers", origin)) {
    const std::string_view type = StringOr(*step, "type", "nothing");
    if (type != "NFC") FailNormalizer(origin, type);
  }
  std::optional<PreTokenizer> splitter;
  bool byte_level = false;
  for (const Json* step : Steps(Member(root, "pre_tokenizer"), "pretokenizers", origin)) {
    const std::string_view type = StringOr(*step, "type", "nothing");
    if (byte_level) FailPreTokenizer(origin, "a step after ByteLevel");
    if (type == "Digits" && BoolOr(*step, "individual_digits", false) && !splitter) {
      splitter = PreTokenizer::kSmolLm;
    } else if (type == "Split" && StringOr(*step, "behavior", "") == "Isolated" && !BoolOr(*step, "invert", false) &&
               !splitter) {
      const std::string_view pattern = StringOr(Member(*step, "pattern"), "Regex", "");
      if (pattern == kLlama3Pattern) splitter = PreTokenizer::kLlama3;
      if (pattern == kQwen2Pattern) splitter = PreTokenizer::kQwen2;
      if (!splitter) FailPreTokenizer(origin, pattern.empty() ? "a Split without Regex" : pattern);
    } else if (type == "ByteLevel" && !BoolOr(*step, "add_prefix_space", true)) {
      const bool own_pattern = !splitter || *splitter == PreTokenizer::kSmolLm;
      if (BoolOr(*step, "use_regex", true) != own_pattern) FailPreTokenizer(origin, "ByteLevel with another use_regex");
      byte_level = true;
    } else {
      FailPreTokenizer(origin, type);
    }
  }
  if (!byte_level) FailPreTokenizer(origin, "no ByteLevel");
  return splitter.value_or(PreTokenizer::kGpt2);
}

CharBpeOptions RecogniseSpaces(const Json& root, const std::string& origin) {
  CharBpeOptions options;
  for (const Json* step : Steps(Member(root, "normalizer"), "normalizers", origin)) {
    const std::string_view type = StringOr(*step, "type", "nothing");
    if (type == "Prepend" && StringOr(*step, "prepend", "") == kSpaceMark) {
      options.prefix = SpacePrefix::kAfterSpecial;
    } else if (type != "Replace" || StringOr(Member(*step, "pattern"), "String", "") != " " ||
               StringOr(*step, "content", "") != kSpaceMark) {
      FailNormalizer(origin, type);
    }
  }
  for (const Json* step : Steps(Member(root, "pre_tokenizer"), "pretokenizers", origin)) {
    const std::string_view type = StringOr(*step, "type", "nothing");
    // After the normalizer there is no space left for this one to split at (Gemma).
    if (type == "Split" && StringOr(Member(*step, "pattern"), "String", "") == " ") continue;
    if (type != "Metaspace" || StringOr(*step, "replacement", "") != kSpaceMark) FailPreTokenizer(origin, type);
    const std::string_view scheme =
        StringOr(*step, "prepend_scheme", BoolOr(*step, "add_prefix_space", true) ? "always" : "never");
    options.prefix = scheme == "first"   ? SpacePrefix::kFirst
                     : scheme == "never" ? SpacePrefix::kNever
                                         : SpacePrefix::kAfterSpecial;
    options.prefix_only_if_missing = true;
    options.split_at_spaces = BoolOr(*step, "split", true);
  }
  options.fuse_unknown = BoolOr(Member(root, "model"), "fuse_unk", false);
  return options;
}

// The table of tokenizer.json: model.vocab and added_tokens.
struct TokenTable {
  std::vector<std::string_view> texts;
  std::vector<TokenType> types;
  std::vector<std::pair<int32_t, std::pair<bool, bool>>> strips;

  int64_t max_id = 0;  // bounds the memory that one wrong id can ask for

  // An added token may take the id of another: fine-tuned models rename reserved ones.
  void Put(int64_t id, std::string_view text, TokenType type, bool may_replace, const std::string& origin) {
    if (id < 0 || id > max_id) {
      Fail(ErrorCode::kCorruptData, "[{}] token id: expected 0 to {}, found {}; the file is damaged", origin, max_id,
           id);
    }
    const auto i = static_cast<size_t>(id);
    if (i >= texts.size()) {
      texts.resize(i + 1);
      types.resize(i + 1, TokenType::kUnused);
    }
    if (!may_replace && types[i] != TokenType::kUnused) {
      Fail(ErrorCode::kCorruptData,
           "[{}] model.vocab: expected one token per id, found two with id {}; the file is "
           "damaged",
           origin, id);
    }
    texts[i] = text;
    types[i] = type;
  }
};

bool IsByteName(std::string_view text) { return text.size() == 6 && text.starts_with("<0x") && text.back() == '>'; }

TokenTable ReadTokens(const Json& root, const std::string& origin) {
  const Json& model = Member(root, "model");
  const Json& vocab = Member(model, "vocab");
  if (!vocab.is_object()) {
    Fail(ErrorCode::kCorruptData, "[{}] model.vocab: expected an object of tokens, found {}; the file is damaged",
         origin, vocab.type_name());
  }
  const bool byte_fallback = BoolOr(model, "byte_fallback", false);
  const std::string_view unknown = StringOr(model, "unk_token", "");
  const Json& added_tokens = ArrayMember(root, "added_tokens", origin);
  TokenTable table;
  // Ids may have holes, but not many times as many as there are tokens.
  table.max_id = 4 * static_cast<int64_t>(vocab.size() + added_tokens.size()) + 4096;
  for (const auto& [text, id] : vocab.items()) {
    if (!id.is_number_integer()) {
      Fail(ErrorCode::kCorruptData, "[{}] model.vocab: expected integer ids, found {}; the file is damaged", origin,
           id.type_name());
    }
    const TokenType type = text == unknown && !unknown.empty() ? TokenType::kUnknown
                           : byte_fallback && IsByteName(text) ? TokenType::kByte
                                                               : TokenType::kNormal;
    table.Put(id.get<int64_t>(), text, type, false, origin);
  }
  for (const Json& token : added_tokens) {
    const Json& content = Member(token, "content");
    if (!content.is_string()) {
      Fail(ErrorCode::kCorruptData,
           "[{}] added_tokens: expected objects with id and content, found another; the file is damaged", origin);
    }
    if (BoolOr(token, "single_word", false)) {
      Fail(ErrorCode::kUnsupported,
           "[{}] added_tokens: expected tokens that match anywhere, found one with single_word; gateskip cannot "
           "split text as this model does",
           origin);
    }
    const int64_t id = GetInt(token, "id", origin);
    const auto& text = content.get_ref<const std::string&>();
    const bool is_unknown = text == unknown && !unknown.empty();
    table.Put(id, text,
              is_unknown                        ? TokenType::kUnknown
              : BoolOr(token, "special", false) ? TokenType::kControl
                                                : TokenType::kUserDefined,
              true, origin);
    table.strips.push_back(
        {static_cast<int32_t>(id), {BoolOr(token, "lstrip", false), BoolOr(token, "rstrip", false)}});
  }
  return table;
}

// "left right" or ["left", "right"].
std::vector<std::pair<std::string_view, std::string_view>> ReadMerges(const Json& model, const std::string& origin) {
  std::vector<std::pair<std::string_view, std::string_view>> pairs;
  const Json& rules = ArrayMember(model, "merges", origin);
  pairs.reserve(rules.size());
  for (const Json& rule : rules) {
    std::string_view left;
    std::string_view right;
    if (rule.is_array() && rule.size() == 2 && rule[0].is_string() && rule[1].is_string()) {
      left = rule[0].get_ref<const std::string&>();
      right = rule[1].get_ref<const std::string&>();
    } else if (rule.is_string()) {
      const std::string_view line = rule.get_ref<const std::string&>();
      const size_t space = line.empty() ? std::string_view::npos : line.find(' ', 1);
      if (space != std::string_view::npos) {
        left = line.substr(0, space);
        right = line.substr(space + 1);
      }
    }
    if (left.empty() || right.empty()) {
      Fail(ErrorCode::kCorruptData,
           "[{}] model.merges: expected pairs of texts, found rule {} without both; the file is damaged", origin,
           pairs.size());
    }
    pairs.emplace_back(left, right);
  }
  return pairs;
}

// Anything but a clear "no" is left to ReadTextFile, which has words for it.
bool MayExist(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error) || error;
}

Json ParseConfig(std::string_view text, const std::string& path) {
  Json config = ParseJson(text, path);
  if (!config.is_object()) {
    Fail(ErrorCode::kCorruptData, "[{}] top level: expected an object, found {}; the file is damaged", path,
         config.type_name());
  }
  return config;
}

// "bos_token": "<s>" or {"content": "<s>"}.
std::optional<int32_t> NamedToken(const Json& config, const char* key, const Vocabulary& vocabulary) {
  const Json& value = Member(config, key);
  const std::string_view text = value.is_object() ? StringOr(value, "content", "") : StringOr(config, key, "");
  const int32_t id = text.empty() ? -1 : vocabulary.Find(text);
  return id < 0 ? std::nullopt : std::optional<int32_t>(id);
}

std::string ConfiguredTemplate(const Json& config) {
  const Json& value = Member(config, "chat_template");
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return "";
  for (const Json& named : value) {
    if (StringOr(named, "name", "") == "default") return std::string(StringOr(named, "template", ""));
  }
  return "";
}

// Whether the post-processor puts a special token in front of a single text.
bool AddsBos(const Json& config, const Json& root, const std::string& origin) {
  const Json& stated = Member(config, "add_bos_token");
  if (stated.is_boolean()) return stated.get<bool>();
  for (const Json* step : Steps(Member(root, "post_processor"), "processors", origin)) {
    if (StringOr(*step, "type", "") != "TemplateProcessing") continue;
    const Json& single = Member(*step, "single");
    if (single.is_array() && !single.empty() && single[0].is_object() && single[0].contains("SpecialToken"))
      return true;
  }
  return false;
}

// `chat_template`: of chat_template.jinja, which wins over the one in `config`.
std::shared_ptr<const Tokenizer> FromJson(const Json& root, const Json& config,
                                          std::optional<std::string> chat_template, const std::string& origin) {
  const Json& model = Member(root, "model");
  if (StringOr(model, "type", "BPE") != "BPE" || !model.is_object()) {
    Fail(ErrorCode::kUnsupported,
         "[{}] model.type: expected BPE, found {}; gateskip cannot tokenise for this model yet", origin,
         model.is_object() ? ReadableText(StringOr(model, "type", ""), 80) : "none");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!StringOr(model, key, "").empty()) {
      Fail(ErrorCode::kUnsupported,
           "[{}] model.{}: expected none, found one; gateskip cannot tokenise for this model yet", origin, key);
    }
  }
  TokenTable table = ReadTokens(root, origin);
  Vocabulary vocabulary(origin, table.texts, std::move(table.types));
  for (const auto& [id, sides] : table.strips) vocabulary.SetStrip(id, sides.first, sides.second);

  SpecialTokens special;
  special.bos = NamedToken(config, "bos_token", vocabulary);
  special.eos = NamedToken(config, "eos_token", vocabulary);
  special.add_bos = special.bos.has_value() && AddsBos(config, root, origin);
  special.chat_template = chat_template ? std::move(*chat_template) : ConfiguredTemplate(config);
  special.end_of_generation = FindEndOfGeneration(&vocabulary, special.eos, std::nullopt, std::nullopt);
  const std::string_view unknown = StringOr(model, "unk_token", "");
  if (const int32_t id = unknown.empty() ? -1 : vocabulary.Find(unknown); id >= 0) special.unknown = id;
  vocabulary.Finish();

  MergeTable merges(vocabulary, ReadMerges(model, origin));
  if (BoolOr(model, "byte_fallback", false)) {
    return MakeCharBpeTokenizer(std::move(vocabulary), std::move(special), std::move(merges),
                                RecogniseSpaces(root, origin));
  }
  special.unknown.reset();  // as for GGUF: a byte that is no token is dropped
  const ByteLevelOptions options = {RecognisePreTokenizer(root, origin), BoolOr(model, "ignore_merges", false)};
  return MakeByteLevelTokenizer(std::move(vocabulary), std::move(special), std::move(merges), options);
}

}  // namespace

std::shared_ptr<const Tokenizer> Tokenizer::FromHubDirectory(const std::string& directory) {
  const std::string origin = directory + "/tokenizer.json";
  const std::string config_path = directory + "/tokenizer_config.json";
  const std::string template_path = directory + "/chat_template.jinja";
  const Json root = ParseJson(ReadTextFile(origin, kMaxTokenizerBytes), origin);
  Json config = Json::object();
  if (MayExist(config_path)) config = ParseConfig(ReadTextFile(config_path, kMaxTokenizerBytes), config_path);
  std::optional<std::string> chat_template;
  if (MayExist(template_path)) chat_template = ReadTextFile(template_path, kMaxTemplateBytes);
  return FromJson(root, config, std::move(chat_template), origin);
}

std::shared_ptr<const Tokenizer> Tokenizer::ParseHub(std::string_view tokenizer_json, std::string_view config_json,
                                                     const std::string& origin) {
  return FromJson(ParseJson(tokenizer_json, origin), ParseConfig(config_json, origin + " config"), std::nullopt,
                  origin);
}

}  // namespace gateskip
