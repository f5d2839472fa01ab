// SPDX-License-Identifier: Apache-2.0
// The tokenizers of the two real models against token ids that llama.cpp gave for the same files, as they are and
// written as hub files. Needs the directory of GGUF files in GATESKIP_MODELS; skipped without it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "io/gguf.h"
#include "text/hub_tokenizer.h"
#include "text/tokenizer.h"

namespace gateskip {
namespace {

std::shared_ptr<const Tokenizer> LoadModel(const std::string& file) {
  const char* directory = std::getenv("GATESKIP_MODELS");
  if (directory == nullptr) return nullptr;
  const std::string path = std::string(directory) + "/" + file;
  if (!std::filesystem::exists(path)) return nullptr;
  return Tokenizer::FromGguf(*GgufFile::Open(path));
}

void CompareIds(const std::string& model, const std::string& golden) {
  const auto tokenizer = LoadModel(model);
  if (tokenizer == nullptr) GTEST_SKIP() << "GATESKIP_MODELS names no directory with " << model;
  const HubTokenizer made =
      MakeHubTokenizer(*GgufFile::Open(std::string(std::getenv("GATESKIP_MODELS")) + "/" + model));
  const auto hub = Tokenizer::ParseHub(made.tokenizer_json, made.tokenizer_config_json, "made");
  EXPECT_EQ(hub->vocab_size(), tokenizer->vocab_size());
  std::ifstream file(std::string(GATESKIP_TEST_DATA) + "/" + golden);
  int num_cases = 0;
  for (std::string line; std::getline(file, line); ++num_cases) {
    const auto row = nlohmann::json::parse(line);
    const auto text = row["text"].get<std::string>();
    const auto ids = tokenizer->Encode(text, row["parse_special"].get<bool>());
    EXPECT_EQ(ids, row["ids"].get<std::vector<int32_t>>()) << line;
    EXPECT_EQ(hub->Encode(text, row["parse_special"].get<bool>()), ids) << "as a hub tokenizer: " << line;
    if (!text.empty()) {
      EXPECT_EQ(tokenizer->Decode(ids, true), text);
    }
  }
  EXPECT_GE(num_cases, 30);
}

TEST(RealTokenizer, SmolLm2IdsEqualLlamaCpp) {
  CompareIds("SmolLM2-135M-Instruct.Q4_1.gguf", "tokenization_smollm2.jsonl");
}

TEST(RealTokenizer, Gemma3IdsEqualLlamaCpp) { CompareIds("gemma-3-270m-q4_k_m.gguf", "tokenization_gemma3.jsonl"); }

TEST(RealTokenizer, SmolLm2SpecialTokens) {
  const auto tokenizer = LoadModel("SmolLM2-135M-Instruct.Q4_1.gguf");
  if (tokenizer == nullptr) GTEST_SKIP() << "GATESKIP_MODELS is not set";
  EXPECT_EQ(tokenizer->vocab_size(), 49152);
  EXPECT_EQ(tokenizer->FindSpecial("<|im_end|>"), 2);
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(2));
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(0));  // <|endoftext|>
  EXPECT_FALSE(tokenizer->IsEndOfGeneration(1));
  EXPECT_FALSE(tokenizer->add_bos());
  EXPECT_FALSE(tokenizer->chat_template().empty());
}

TEST(RealTokenizer, Gemma3SpecialTokens) {
  const auto tokenizer = LoadModel("gemma-3-270m-q4_k_m.gguf");
  if (tokenizer == nullptr) GTEST_SKIP() << "GATESKIP_MODELS is not set";
  EXPECT_EQ(tokenizer->vocab_size(), 262144);
  EXPECT_EQ(tokenizer->bos(), 2);
  EXPECT_TRUE(tokenizer->add_bos());
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(1));    // <eos>
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(106));  // <end_of_turn>
}

}  // namespace
}  // namespace gateskip
