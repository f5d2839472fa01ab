// SPDX-License-Identifier: Apache-2.0
// GGUF tokenizers written as hub files: the vocabularies of tests/data/hub_tokenizers.json go through a GGUF and back,
// and the ids stay those that `tokenizers` gave.
#include "text/hub_tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "io/gguf.h"
#include "io/testing/expect_error.h"
#include "text/tokenizer.h"

namespace gateskip::testing {
namespace {

using Json = nlohmann::json;
constexpr int32_t kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kByte = 6;

struct Gguf {
  std::vector<std::byte> bytes;
  std::shared_ptr<const GgufFile> file;
};

Gguf Build(const std::function<void(GgufWriter*)>& fill) {
  GgufWriter writer;
  fill(&writer);
  Gguf gguf;
  gguf.bytes = writer.Serialize();
  gguf.file = GgufFile::Parse(gguf.bytes, "tiny.gguf");
  return gguf;
}

// What a converter to GGUF keeps of a tokenizer.json.
Gguf FromGolden(const Json& tokenizer, const std::string& pre, bool add_bos) {
  const Json& model = tokenizer["model"];
  const bool characters = model["byte_fallback"].get<bool>();
  std::map<int32_t, std::pair<std::string, int32_t>> table;
  for (const auto& [text, id] : model["vocab"].items()) {
    const bool byte = characters && text.size() == 6 && text.starts_with("<0x");
    table[id.get<int32_t>()] = {text, byte ? kByte : kNormal};
  }
  for (const Json& added : tokenizer["added_tokens"]) {
    const auto text = added["content"].get<std::string>();
    const bool unknown = !model["unk_token"].is_null() && text == model["unk_token"];
    table[added["id"].get<int32_t>()] = {text, unknown                        ? kUnknown
                                               : added["special"].get<bool>() ? kControl
                                                                              : kUserDefined};
  }
  std::vector<std::string> merges;
  std::map<std::string, float> scores;
  for (const Json& rule : model["merges"]) {
    const auto left = rule[0].get<std::string>();
    const auto right = rule[1].get<std::string>();
    scores.emplace(left + right, -1.0F - static_cast<float>(merges.size()));
    merges.push_back(left + " " + right);
  }
  return Build([&](GgufWriter* writer) {
    std::vector<std::string> texts;
    std::vector<int32_t> types;
    std::vector<float> piece_scores;
    for (const auto& [id, token] : table) {
      EXPECT_EQ(static_cast<size_t>(id), texts.size()) << "no holes";
      texts.push_back(token.first);
      types.push_back(token.second);
      const auto score = scores.find(token.first);
      piece_scores.push_back(score == scores.end() ? -1e6F : score->second);
    }
    const auto id_of = [&](const char* text) {
      return static_cast<uint32_t>(std::ranges::find(texts, text) - texts.begin());
    };
    writer->SetString("tokenizer.ggml.model", characters ? "llama" : "gpt2");
    writer->SetStrings("tokenizer.ggml.tokens", texts);
    writer->SetInt32s("tokenizer.ggml.token_type", types);
    writer->SetUint32("tokenizer.ggml.bos_token_id", id_of("<s>"));
    writer->SetUint32("tokenizer.ggml.eos_token_id", id_of("</s>"));
    writer->SetBool("tokenizer.ggml.add_bos_token", add_bos);
    writer->SetString("tokenizer.chat_template", "{{ messages }}");
    if (characters) {
      writer->SetFloats("tokenizer.ggml.scores", piece_scores);
      writer->SetBool("tokenizer.ggml.add_space_prefix", pre == "prefix");
    } else {
      writer->SetStrings("tokenizer.ggml.merges", merges);
      writer->SetString("tokenizer.ggml.pre", pre);
    }
  });
}

struct Case {
  const char* golden;
  const char* pre;
};

class MakeHub : public ::testing::TestWithParam<Case> {};

TEST_P(MakeHub, KeepsEveryId) {
  std::ifstream in(GATESKIP_TEST_DATA "/hub_tokenizers.json");
  const Json golden = Json::parse(in)[GetParam().golden];
  for (const bool add_bos : {false, true}) {
    const Gguf gguf = FromGolden(golden["tokenizer"], GetParam().pre, add_bos);
    const auto before = Tokenizer::FromGguf(*gguf.file);
    const gateskip::HubTokenizer made = MakeHubTokenizer(*gguf.file);
    const auto after = Tokenizer::ParseHub(made.tokenizer_json, made.tokenizer_config_json, "made");
    EXPECT_EQ(after->vocab_size(), before->vocab_size());
    EXPECT_EQ(after->bos(), before->bos());
    EXPECT_EQ(after->eos(), before->eos());
    EXPECT_EQ(after->add_bos(), add_bos);
    EXPECT_EQ(after->chat_template(), before->chat_template());
    EXPECT_TRUE(after->IsEndOfGeneration(*before->eos()));
    size_t compared = 0;
    const bool byte_level = !golden["tokenizer"]["model"]["byte_fallback"].get<bool>();
    for (const Json& row : golden["cases"]) {
      const auto text = row[0].get<std::string>();
      for (const bool special : {false, true}) {
        const std::vector<int32_t> ids = after->Encode(text, special);
        EXPECT_EQ(ids, before->Encode(text, special)) << text;
        EXPECT_EQ(after->Decode(ids, true), before->Decode(ids, true)) << text;
        // A GGUF does not know which tokens swallow spaces.
        if (!byte_level || text.find("<eat>") != text.npos) continue;
        EXPECT_EQ(ids, row[special ? 1 : 2].get<std::vector<int32_t>>()) << text;
        ++compared;
      }
    }
    if (byte_level) {
      EXPECT_GE(compared, 70U);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, MakeHub,
                         ::testing::Values(Case{"gpt2", "gpt-2"}, Case{"smollm", "smollm"}, Case{"llama3", "llama-bpe"},
                                           Case{"qwen2", "qwen2"}, Case{"gemma", "none"}, Case{"llama2", "prefix"}),
                         [](const auto& test) { return std::string(test.param.golden); });

TEST(MakeHubTokenizer, RefusesWhatTokenizerJsonCannotHold) {
  const auto expect = [](const char* pre, const std::vector<std::string>& tokens, ErrorCode code, const char* words) {
    const Gguf gguf = Build([&](GgufWriter* writer) {
      writer->SetString("tokenizer.ggml.model", "gpt2");
      writer->SetString("tokenizer.ggml.pre", pre);
      writer->SetStrings("tokenizer.ggml.tokens", tokens);
      writer->SetStrings("tokenizer.ggml.merges", {});
    });
    ExpectError([&] { MakeHubTokenizer(*gguf.file); }, code, words);
  };
  expect("default", {"a", "b"}, ErrorCode::kUnsupported, "found default");
  expect("gpt-2", {"a", "b", "a"}, ErrorCode::kUnsupported, "found \"a\" twice");
  expect("gpt-2", {"a", "\xFF"}, ErrorCode::kUnsupported, "token 1: expected UTF-8");
  expect("telepathy", {"a"}, ErrorCode::kUnsupported, "tokenizer.ggml.pre");
}

}  // namespace
}  // namespace gateskip::testing
