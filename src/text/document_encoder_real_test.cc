// SPDX-License-Identifier: Apache-2.0
// Chats in the formats of the two real models, token by token: what is expected is put together from the parts of each
// turn, not from the template. Needs the directory of GGUF files in GATESKIP_MODELS; skipped without it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "io/gguf.h"
#include "text/document_encoder.h"
#include "text/testing/with_template.h"

namespace gateskip {
namespace {

std::shared_ptr<const Tokenizer> LoadModel(const std::string& file) {
  const char* directory = std::getenv("GATESKIP_MODELS");
  if (directory == nullptr) return nullptr;
  const std::string path = std::string(directory) + "/" + file;
  if (!std::filesystem::exists(path)) return nullptr;
  return Tokenizer::FromGguf(*GgufFile::Open(path));
}

// Puts a chat together by hand.
class Expected {
 public:
  explicit Expected(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  Expected& Given(const std::string& text) { return Add(tokenizer_.Encode(text, false), 0); }
  Expected& Learned(const std::string& text) { return Add(tokenizer_.Encode(text, false), 1); }
  Expected& Special(const std::string& text, uint8_t mark) { return Add({*tokenizer_.FindSpecial(text)}, mark); }

  std::vector<int32_t> ids;
  std::vector<uint8_t> in_loss;

 private:
  Expected& Add(const std::vector<int32_t>& more, uint8_t mark) {
    ids.insert(ids.end(), more.begin(), more.end());
    in_loss.resize(ids.size(), mark);
    return *this;
  }
  const Tokenizer& tokenizer_;
};

const std::vector<ChatMessage> kTalk = {{"user", "What is 2 + 2?"},
                                        {"assistant", "It is 4.\n\nBecause two\u00e9 and two make four."},
                                        {"user", "And 3 + 3?"},
                                        {"assistant", "6"}};

Document Chat() {
  Document document;
  document.form = Document::Form::kChat;
  document.messages = kTalk;
  return document;
}

TEST(RealDocumentEncoder, SmolLm2ChatIsLearnedOnTheAssistantsTurns) {
  const auto tokenizer = LoadModel("SmolLM2-135M-Instruct.Q4_1.gguf");
  if (tokenizer == nullptr) GTEST_SKIP() << "GATESKIP_MODELS names no directory with SmolLM2";
  const EncodedDocument document = DocumentEncoder(*tokenizer, {}).Encode(Chat(), 0, "x");
  Expected expected(*tokenizer);
  expected.Special("<|im_start|>", 0)
      .Given("system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face")
      .Special("<|im_end|>", 0)
      .Given("\n");
  for (const ChatMessage& message : kTalk) {
    const bool learned = message.role == "assistant";
    expected.Special("<|im_start|>", 0).Given(message.role + "\n");
    (learned ? expected.Learned(message.content) : expected.Given(message.content))
        .Special("<|im_end|>", learned ? 1 : 0)
        .Given("\n");
  }
  EXPECT_EQ(document.ids, expected.ids);
  EXPECT_EQ(document.in_loss, expected.in_loss);
  EXPECT_EQ(document.turns_left_out, 0);
  EXPECT_EQ(std::count(document.in_loss.begin(), document.in_loss.end(), 1),
            static_cast<int64_t>(tokenizer->Encode(kTalk[1].content, false).size() + 1 + 2));
}

TEST(RealDocumentEncoder, Gemma3ChatIsLearnedOnTheModelsTurns) {
  const auto base = LoadModel("gemma-3-270m-q4_k_m.gguf");
  if (base == nullptr) GTEST_SKIP() << "GATESKIP_MODELS names no directory with Gemma 3";
  // The file of the pretrained model has no template; this is the family's.
  std::ifstream file(std::string(GATESKIP_TEST_DATA) + "/chat_templates.json");
  std::string chat_template;
  for (const auto& row : nlohmann::json::parse(file)) {
    if (row["name"] == "turns_hello") chat_template = row["template"].get<std::string>();
  }
  ASSERT_FALSE(chat_template.empty());
  const testing::WithTemplate tokenizer(base, chat_template);
  const EncodedDocument document = DocumentEncoder(tokenizer, {}).Encode(Chat(), 0, "x");
  // The model adds BOS itself, so the document does not have the template's.
  ASSERT_TRUE(tokenizer.add_bos());
  Expected expected(tokenizer);
  for (const ChatMessage& message : kTalk) {
    const bool learned = message.role == "assistant";
    expected.Special("<start_of_turn>", 0).Given(learned ? "model\n" : "user\n");
    (learned ? expected.Learned(message.content) : expected.Given(message.content))
        .Special("<end_of_turn>", learned ? 1 : 0)
        .Given("\n");
  }
  EXPECT_EQ(document.ids, expected.ids);
  EXPECT_EQ(document.in_loss, expected.in_loss);
}

}  // namespace
}  // namespace gateskip
