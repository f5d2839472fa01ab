// SPDX-License-Identifier: Apache-2.0
// Hub directories: small tokenizer.json files of every kind against the ids of the package `tokenizers`
// (tests/golden/make_tokenizers.py), what stands in tokenizer_config.json, and files that are wrong or of another kind.
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "io/testing/expect_error.h"
#include "io/testing/temp_directory.h"
#include "text/tokenizer.h"

namespace gateskip::testing {
namespace {

using Json = nlohmann::json;

constexpr ErrorCode kBad = ErrorCode::kCorruptData;
constexpr ErrorCode kOther = ErrorCode::kUnsupported;

const Json& Goldens() {
  static const Json goldens = [] {
    std::ifstream file(std::string(GATESKIP_TEST_DATA) + "/hub_tokenizers.json");
    return Json::parse(file);
  }();
  return goldens;
}

Json Config() { return {{"bos_token", "<s>"}, {"eos_token", {{"content", "</s>"}, {"lstrip", false}}}}; }

std::shared_ptr<const Tokenizer> Load(const Json& tokenizer, const Json& config = Config(),
                                      std::string_view chat_template = "") {
  const TempDirectory directory;
  directory.Write("tokenizer.json", tokenizer.dump());
  if (!config.is_null()) directory.Write("tokenizer_config.json", config.dump());
  if (!chat_template.empty()) directory.Write("chat_template.jinja", chat_template);
  return Tokenizer::FromHubDirectory(directory.path());
}

class HubTokenizer : public ::testing::TestWithParam<const char*> {};

TEST_P(HubTokenizer, IdsEqualThoseOfTokenizers) {
  const Json& golden = Goldens()[GetParam()];
  const auto tokenizer = Load(golden["tokenizer"]);
  EXPECT_EQ(tokenizer->add_bos(), golden["adds_bos"].get<bool>());
  EXPECT_EQ(tokenizer->bos(), tokenizer->FindSpecial("<s>"));
  EXPECT_EQ(tokenizer->eos(), tokenizer->FindSpecial("</s>"));
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(*tokenizer->eos()));
  EXPECT_FALSE(tokenizer->IsEndOfGeneration(*tokenizer->bos()));
  for (const Json& row : golden["cases"]) {
    const auto text = row[0].get<std::string>();
    EXPECT_EQ(tokenizer->Encode(text, true), row[1].get<std::vector<int32_t>>()) << row[0];
    EXPECT_EQ(tokenizer->Encode(text, false), row[2].get<std::vector<int32_t>>()) << row[0];
  }
  EXPECT_GE(golden["cases"].size(), 40U);
}

TEST_P(HubTokenizer, TextComesBack) {
  const Json& golden = Goldens()[GetParam()];
  const auto tokenizer = Load(golden["tokenizer"]);
  const bool byte_level = !golden["tokenizer"]["model"]["byte_fallback"].get<bool>();
  for (const Json& row : golden["cases"]) {
    const auto text = row[0].get<std::string>();
    if (text.find("<eat>") != text.npos || text.find("\u2581") != text.npos) continue;  // tokens that swallow spaces
    std::string back = tokenizer->Decode(tokenizer->Encode(text, false), true);
    if (!byte_level && text.find("<keep>") != text.npos) continue;  // a prefix space after every added token
    // What a prefix space adds is the model's to drop.
    if (!byte_level && back != text && back.starts_with(' ')) back.erase(0, 1);
    EXPECT_EQ(back, text);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, HubTokenizer,
                         ::testing::Values("gpt2", "smollm", "llama3", "qwen2", "gemma", "llama2", "metaspace_first",
                                           "metaspace_split"),
                         [](const auto& test) { return std::string(test.param); });

TEST(HubConfig, ChatTemplateAndBos) {
  const Json tokenizer = Goldens()["gpt2"]["tokenizer"];
  Json config = Config();
  EXPECT_EQ(Load(tokenizer, config)->chat_template(), "");
  config["chat_template"] = "one";
  EXPECT_EQ(Load(tokenizer, config)->chat_template(), "one");
  config["chat_template"] = {{{"name", "tool_use"}, {"template", "two"}}, {{"name", "default"}, {"template", "three"}}};
  EXPECT_EQ(Load(tokenizer, config)->chat_template(), "three");
  EXPECT_EQ(Load(tokenizer, config, "four")->chat_template(), "four");  // the file wins

  EXPECT_FALSE(Load(tokenizer, config)->add_bos());
  config["add_bos_token"] = true;
  EXPECT_TRUE(Load(tokenizer, config)->add_bos());
  config["bos_token"] = nullptr;
  EXPECT_FALSE(Load(tokenizer, config)->add_bos());
  EXPECT_EQ(Load(tokenizer, config)->bos(), std::nullopt);
  config = Config();
  config["add_bos_token"] = false;
  EXPECT_FALSE(Load(Goldens()["gemma"]["tokenizer"], config)->add_bos());

  const auto bare = Load(tokenizer, Json());  // no tokenizer_config.json at all
  EXPECT_EQ(bare->eos(), std::nullopt);
  EXPECT_TRUE(bare->IsEndOfGeneration(*bare->FindSpecial("</s>")));
}

TEST(HubConfig, ContentsInPlaceOfFiles) {
  const Json tokenizer = Goldens()["gemma"]["tokenizer"];
  const auto from_files = Load(tokenizer);
  const auto parsed = Tokenizer::ParseHub(tokenizer.dump(), Config().dump(), "memory");
  EXPECT_EQ(parsed->vocab_size(), from_files->vocab_size());
  EXPECT_EQ(parsed->bos(), from_files->bos());
  EXPECT_EQ(parsed->Encode("the <s> \u00e9", true), from_files->Encode("the <s> \u00e9", true));
  EXPECT_EQ(Tokenizer::ParseHub(tokenizer.dump(), "{}", "memory")->bos(), std::nullopt);
  ExpectError([&] { Tokenizer::ParseHub("{}", "{}", "memory"); }, kOther, "[memory] model.type");
  ExpectError([&] { Tokenizer::ParseHub(tokenizer.dump(), "[]", "memory"); }, kBad, "[memory config] top level");
}

// A vocabulary's own text is quoted in part, and never half a character.
TEST(HubConfig, MessagesQuoteWholeCharacters) {
  Json tokenizer = Goldens()["gpt2"]["tokenizer"];
  std::string wide = "x";
  for (int i = 0; i < 40'000; ++i) wide += "\u4e2d";
  const auto expect = [&](std::string_view words) {
    try {
      Load(tokenizer);
      ADD_FAILURE() << "nothing thrown";
    } catch (const Error& error) {
      const std::string message = error.what();
      EXPECT_NE(message.find(words), std::string::npos) << message;
      EXPECT_LT(message.size(), 500U);
      EXPECT_NO_THROW(Json(message).dump()) << "not UTF-8";
    }
  };
  tokenizer["pre_tokenizer"]["type"] = wide;
  expect("pre_tokenizer");
  tokenizer["model"]["type"] = wide;
  expect("model.type");
}

TEST(HubConfig, HolesInTheIdsAreUnusedTokens) {
  Json tokenizer = Goldens()["gpt2"]["tokenizer"];
  tokenizer["added_tokens"].push_back({{"id", 1000}, {"content", "<far>"}, {"special", true}});
  const auto loaded = Load(tokenizer);
  EXPECT_EQ(loaded->vocab_size(), 1001);
  EXPECT_EQ(loaded->Encode("<far>", true), std::vector<int32_t>{1000});
  EXPECT_EQ(loaded->TokenBytes(900, true), "");
}

struct BadFile {
  const char* name;
  ErrorCode code;
  const char* words;
  std::function<void(Json*)> damage;
};

void PrintTo(const BadFile& bad, std::ostream* out) { *out << bad.name; }

class HubBadFile : public ::testing::TestWithParam<BadFile> {};

TEST_P(HubBadFile, IsRefused) {
  Json tokenizer = Goldens()["smollm"]["tokenizer"];
  GetParam().damage(&tokenizer);
  ExpectError([&] { Load(tokenizer); }, GetParam().code, GetParam().words);
}

const BadFile kBadFiles[] = {
    {"no_model", kOther, "model.type: expected BPE", [](Json* j) { j->erase("model"); }},
    {"top_level", kOther, "model.type", [](Json* j) { *j = Json::array({1}); }},
    {"unigram", kOther, "found Unigram", [](Json* j) { (*j)["model"]["type"] = "Unigram"; }},
    {"suffix", kOther, "end_of_word_suffix", [](Json* j) { (*j)["model"]["end_of_word_suffix"] = "</w>"; }},
    {"no_vocab", kBad, "model.vocab", [](Json* j) { (*j)["model"].erase("vocab"); }},
    {"list_vocab", kBad, "model.vocab",
     [](Json* j) {
       (*j)["model"]["vocab"] = Json::array({"a", "b"});
     }},
    {"empty_vocab", kBad, "tokens: expected 1 to",
     [](Json* j) {
       (*j)["model"]["vocab"] = Json::object();
       (*j)["added_tokens"] = Json::array();
     }},
    {"text_id", kBad, "integer ids", [](Json* j) { (*j)["model"]["vocab"]["zz"] = "7"; }},
    {"negative_id", kBad, "token id", [](Json* j) { (*j)["model"]["vocab"]["zz"] = -1; }},
    {"huge_id", kBad, "token id", [](Json* j) { (*j)["model"]["vocab"]["zz"] = 16'000'000; }},
    {"id_over_int64", kBad, "token id", [](Json* j) { (*j)["model"]["vocab"]["zz"] = 18446744073709551615U; }},
    {"same_id", kBad, "two with id 5", [](Json* j) { (*j)["model"]["vocab"]["zz"] = 5; }},
    {"added_is_text", kBad, "added_tokens: expected an array", [](Json* j) { (*j)["added_tokens"] = "<s>"; }},
    {"added_without_content", kBad, "added_tokens", [](Json* j) { (*j)["added_tokens"][0].erase("content"); }},
    {"added_without_id", kBad, "id", [](Json* j) { (*j)["added_tokens"][0].erase("id"); }},
    {"added_huge_id", kBad, "token id", [](Json* j) { (*j)["added_tokens"][0]["id"] = int64_t{1} << 40; }},
    {"single_word", kOther, "single_word", [](Json* j) { (*j)["added_tokens"][0]["single_word"] = true; }},
    {"long_special", ErrorCode::kLimitExceeded, "special token",
     [](Json* j) { (*j)["added_tokens"][0]["content"] = std::string(300, 'x'); }},
    {"merges_text", kBad, "merges: expected an array", [](Json* j) { (*j)["model"]["merges"] = "a b"; }},
    {"merge_of_one", kBad, "rule 0", [](Json* j) { (*j)["model"]["merges"] = Json::array({"ab"}); }},
    {"merge_of_three", kBad, "rule 0",
     [](Json* j) {
       (*j)["model"]["merges"] = {{"a", "b", "c"}};
     }},
    {"merge_of_nothing", kBad, "rule 0", [](Json* j) { (*j)["model"]["merges"] = Json::array({""}); }},
    {"no_pre_tokenizer", kOther, "pre_tokenizer", [](Json* j) { (*j)["pre_tokenizer"] = nullptr; }},
    {"whitespace", kOther, "found WhitespaceSplit",
     [](Json* j) {
       (*j)["pre_tokenizer"] = {{"type", "WhitespaceSplit"}};
     }},
    {"pre_tokenizer_text", kOther, "pre_tokenizer", [](Json* j) { (*j)["pre_tokenizer"] = "ByteLevel"; }},
    {"steps_text", kBad, "pretokenizers", [](Json* j) { (*j)["pre_tokenizer"]["pretokenizers"] = "ByteLevel"; }},
    {"prefix_space", kOther, "pre_tokenizer",
     [](Json* j) { (*j)["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true; }},
    {"digits_in_groups", kOther, "found Digits",
     [](Json* j) { (*j)["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = false; }},
    {"another_order", kOther, "after ByteLevel",
     [](Json* j) { std::swap((*j)["pre_tokenizer"]["pretokenizers"][0], (*j)["pre_tokenizer"]["pretokenizers"][1]); }},
    {"another_pattern", kOther, "found \\w+",
     [](Json* j) {
       (*j)["pre_tokenizer"]["pretokenizers"][0] = {
           {"type", "Split"}, {"behavior", "Isolated"}, {"pattern", {{"Regex", "\\w+"}}}};
     }},
    {"no_pattern", kOther, "Split without Regex",
     [](Json* j) {
       (*j)["pre_tokenizer"]["pretokenizers"][0] = {{"type", "Split"}, {"behavior", "Isolated"}};
     }},
    {"lowercase", kOther, "found Lowercase",
     [](Json* j) {
       (*j)["normalizer"] = {{"type", "Lowercase"}};
     }},
    {"byte_token", kBad, "byte token",
     [](Json* j) {
       *j = Goldens()["gemma"]["tokenizer"];
       (*j)["model"]["vocab"]["<0xZZ>"] = 450;
     }},
    {"gemma_strip", kOther, "found Strip",
     [](Json* j) {
       *j = Goldens()["gemma"]["tokenizer"];
       (*j)["normalizer"] = {{"type", "Strip"}};
     }},
};

INSTANTIATE_TEST_SUITE_P(Files, HubBadFile, ::testing::ValuesIn(kBadFiles),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(HubBadDirectory, IsRefused) {
  const TempDirectory directory;
  ExpectError([&] { Tokenizer::FromHubDirectory(directory.path()); }, ErrorCode::kNotFound, "tokenizer.json");
  directory.Write("tokenizer.json", "{\"model\": ");
  ExpectError([&] { Tokenizer::FromHubDirectory(directory.path()); }, kBad, "tokenizer.json");
  directory.Write("tokenizer.json", std::string(100'000, '['));
  ExpectError([&] { Tokenizer::FromHubDirectory(directory.path()); }, ErrorCode::kLimitExceeded, "tokenizer.json");
  directory.Write("tokenizer.json", Goldens()["gpt2"]["tokenizer"].dump());
  directory.Write("tokenizer_config.json", "[]");
  ExpectError([&] { Tokenizer::FromHubDirectory(directory.path()); }, kBad, "expected an object");
  directory.Write("tokenizer_config.json", "{\"bos_token\": \"\xFF\"}");
  ExpectError([&] { Tokenizer::FromHubDirectory(directory.path()); }, kBad, "tokenizer_config.json");
  ExpectError([&] { Tokenizer::FromHubDirectory(std::string(5000, 'x')); }, ErrorCode::kIo, "tokenizer.json");
}

}  // namespace
}  // namespace gateskip::testing
