// SPDX-License-Identifier: Apache-2.0
// Which tokens are in the loss. Expected masks are drawn by hand below texts whose tokenizer has one token per byte, so
// that `^` stands under every byte to learn; <E> and <B> are one token each.
#include "text/document_encoder.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "io/testing/expect_error.h"
#include "text/testing/byte_tokenizer.h"
#include "text/testing/small_tokenizers.h"
#include "text/testing/with_template.h"

namespace gateskip::testing {
namespace {

using Messages = std::vector<ChatMessage>;

constexpr const char* kTurns =
    "{{ bos_token }}{% for m in messages %}{{ m['role'][0] + ':' + m['content'] + eos_token + '|' }}{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}";

Document Chat(const Messages& messages) {
  Document document;
  document.form = Document::Form::kChat;
  document.messages = messages;
  return document;
}

Document Pair(const std::string& prompt, const std::string& completion) {
  Document document;
  document.form = Document::Form::kPair;
  document.prompt = prompt;
  document.completion = completion;
  return document;
}

Document Text(const std::string& text, bool whole = true) {
  Document document;
  document.text = text;
  document.whole = whole;
  return document;
}

// Two lines: the text, and below every byte `^` where its token is in the loss.
std::string Drawn(const Tokenizer& tokenizer, const EncodedDocument& document) {
  EXPECT_EQ(document.ids.size(), document.in_loss.size());
  std::string text;
  std::string marks;
  for (size_t i = 0; i < document.ids.size(); ++i) {
    const std::string bytes = tokenizer.TokenBytes(document.ids[i], true);
    text += bytes;
    marks += std::string(bytes.size(), document.in_loss[i] != 0 ? '^' : '.');
  }
  return text + "\n" + marks;
}

std::string Drawn(const Document& document, const ByteTokenizer& tokenizer, const EncodeOptions& options = {},
                  uint64_t row = 0) {
  return Drawn(tokenizer, DocumentEncoder(tokenizer, options).Encode(document, row, "x:1"));
}

TEST(DocumentEncoder, TextIsInTheLossToItsEnd) {
  const ByteTokenizer tokenizer;
  EXPECT_EQ(Drawn(Text("ab"), tokenizer),
            "ab<E>\n"
            "^^^^^");
  EXPECT_EQ(Drawn(Text("ab", /*whole=*/false), tokenizer), "ab\n^^");
  // Written out, a special token is ordinary text.
  EXPECT_EQ(DocumentEncoder(tokenizer, {}).Encode(Text("<E>"), 0, "x").ids.size(), 4U);
  ExpectError([&] { DocumentEncoder(tokenizer, {}).Encode(Text(""), 0, "x:7"); }, ErrorCode::kCorruptData,
              "[x:7] text: expected tokens");
}

TEST(DocumentEncoder, PairsAreInTheLossFromTheCompletionOn) {
  const ByteTokenizer plain;
  EXPECT_EQ(Drawn(Pair("q", "a"), plain),
            "Question: q\nAnswer: a<E>\n"
            "...................^^^^^");
  EXPECT_EQ(Drawn(Pair("q <B>", "a<E>"), plain, {.pairs = PairFormat::kRaw}),
            "q <B>a<E>\n"
            ".....^^^^")
      << "special tokens are such, and an EOS of its own is enough";
  EXPECT_EQ(Drawn(Pair("q", "a"), plain, {.pairs = PairFormat::kRaw}), "qa<E>\n.^^^^");
  EXPECT_EQ(Drawn(Pair("q", "a"), plain, {.pairs = PairFormat::kRaw, .loss_on_prompts = true}), "qa<E>\n^^^^^");
}

TEST(DocumentEncoder, MixedPairsAreAChatInEverySecondRow) {
  const ByteTokenizer chat(/*add_bos=*/false, kTurns);
  const char* as_chat =
      "<B>u:q<E>|a:x<E>|\n"
      "............^^^^.";
  const char* plain =
      "Question: q\nAnswer: x<E>\n"
      "...................^^^^^";
  for (const uint64_t row : {0, 1, 2, 3}) {
    EXPECT_EQ(Drawn(Pair("q", "x"), chat, {}, row), row % 2 == 0 ? as_chat : plain) << row;
    EXPECT_EQ(Drawn(Pair("q", "x"), chat, {.pairs = PairFormat::kChat}, row), as_chat) << row;
    EXPECT_EQ(Drawn(Pair("q", "x"), ByteTokenizer(), {}, row), plain) << row;
  }
  // The BOS that starts every sequence anyway is left out.
  EXPECT_EQ(Drawn(Pair("q", "x"), ByteTokenizer(/*add_bos=*/true, kTurns)),
            "u:q<E>|a:x<E>|\n"
            ".........^^^^.");
}

TEST(DocumentEncoder, ChatsAreInTheLossWhereTheAssistantWrites) {
  const ByteTokenizer tokenizer(/*add_bos=*/false, kTurns);
  EXPECT_EQ(Drawn(Chat({{"system", "s"}, {"user", "q"}, {"assistant", "one"}, {"user", "r"}, {"assistant", "two"}}),
                  tokenizer),
            "<B>s:s<E>|u:q<E>|a:one<E>|u:r<E>|a:two<E>|\n"
            "...................^^^^^^..........^^^^^^.");
  EXPECT_EQ(Drawn(Chat({{"user", "q"}, {"assistant", "one"}, {"user", "r"}}), tokenizer),
            "<B>u:q<E>|a:one<E>|u:r<E>|\n"
            "............^^^^^^........");
  EXPECT_EQ(Drawn(Chat({{"assistant", "hi"}, {"user", "q"}}), tokenizer),
            "<B>a:hi<E>|u:q<E>|\n"
            ".....^^^^^........");
  EXPECT_EQ(Drawn(Chat({{"user", "q"}, {"assistant", "{}"}, {"tool", "t"}, {"assistant", "x"}}), tokenizer),
            "<B>u:q<E>|a:{}<E>|t:t<E>|a:x<E>|\n"
            "............^^^^^..........^^^^.");
  EXPECT_EQ(Drawn(Chat({{"user", "q"}, {"assistant", "x"}}), tokenizer, {.loss_on_prompts = true}),
            "<B>u:q<E>|a:x<E>|\n"
            "^^^^^^^^^^^^^^^^^");
}

// A template that ends turns with text: all of it is learned, the line end too.
TEST(DocumentEncoder, TurnsWithoutAnEndTokenAreInTheLossToTheirLastByte) {
  const char* plain =
      "{% for m in messages %}{{ m['role'][0] + ':' + m['content'] + '\n' }}{% endfor %}"
      "{% if add_generation_prompt %}a:{% endif %}";
  EXPECT_EQ(Drawn(Chat({{"user", "q"}, {"assistant", "x"}, {"user", "r"}}), ByteTokenizer(false, plain)),
            "u:q\na:x\nu:r\n\n"
            "......^^....");
}

// Without a generation prompt the turn's head is all that tells the turns apart, so it is learned, too.
TEST(DocumentEncoder, TemplatesWithoutAGenerationPrompt) {
  const char* inst =
      "{% for m in messages %}{% if m['role'] == 'user' %}[{{ m['content'] }}]"
      "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}";
  EXPECT_EQ(
      Drawn(Chat({{"user", "q"}, {"assistant", "x"}, {"user", "r"}, {"assistant", "y"}}), ByteTokenizer(false, inst)),
      "[q] x<E>[r] y<E>\n"
      "...^^^^^...^^^^^");
}

// Templates that write a turn otherwise once others follow: what cannot be told apart is not learned.
TEST(DocumentEncoder, TurnsThatTheTemplateRewritesAreLeftOut) {
  const Messages talk = {{"user", "q"}, {"assistant", "<t>h</t>x"}, {"user", "r"}, {"assistant", "<t>i</t>y"}};
  // As Qwen 3 and DeepSeek R1 do, the thinking of all but the last turn is dropped.
  const std::string dropped =
      "{% for m in messages %}{{ m['role'][0] + ':' }}{% if m['role'] == 'assistant' and not loop.last %}"
      "{{ m['content'].split('</t>')[-1] }}{% else %}{{ m['content'] }}{% endif %}{{ eos_token }}{% endfor %}";
  EXPECT_EQ(Drawn(Chat(talk), ByteTokenizer(false, dropped + "{% if add_generation_prompt %}a:{% endif %}")),
            "u:q<E>a:x<E>u:r<E>a:<t>i</t>y<E>\n"
            "....................^^^^^^^^^^^^");
  // The generation prompt opens the thinking, which this turn does not have: from the first byte that differs.
  const ByteTokenizer opens(false, dropped + "{% if add_generation_prompt %}a:<t>{% endif %}");
  EXPECT_EQ(Drawn(Chat(talk), opens),
            "u:q<E>a:x<E>u:r<E>a:<t>i</t>y<E>\n"
            ".......................^^^^^^^^^");
  EXPECT_EQ(Drawn(Chat({{"user", "q"}, {"assistant", "xy"}}), opens),
            "u:q<E>a:xy<E>\n"
            "........^^^^^");
  const EncodedDocument encoded = DocumentEncoder(opens, {}).Encode(Chat(talk), 0, "x");
  EXPECT_EQ(encoded.turns_left_out, 1);

  // Something at the very end of every rendering: the last turn can be told apart.
  const char* footer =
      "{% for m in messages %}{{ m['role'][0] + ':' + m['content'] }}{% endfor %}"
      "{% if add_generation_prompt %}a:{% else %}{{ eos_token }}{% endif %}";
  EXPECT_EQ(
      Drawn(Chat({{"user", "q"}, {"assistant", "x"}, {"user", "r"}, {"assistant", "y"}}), ByteTokenizer(false, footer)),
      "u:qa:xu:ra:y<E>\n"
      "...........^^^^");
}

TEST(DocumentEncoder, TemplatesThatRefuseTheStartOfAChatLeaveThatTurnOut) {
  const std::string picky =
      "{% if messages[0]['role'] != 'user' %}{{ raise_exception('user first') }}{% endif %}"
      "{% if messages|length == 1 and add_generation_prompt %}{{ raise_exception('two at least') }}{% endif %}" +
      std::string(kTurns);
  const ByteTokenizer tokenizer(false, picky);
  EXPECT_EQ(Drawn(Chat({{"user", "q"}, {"assistant", "x"}, {"user", "r"}, {"assistant", "y"}}), tokenizer),
            "<B>u:q<E>|a:x<E>|u:r<E>|a:y<E>|\n"
            "..........................^^^^.");
  const DocumentEncoder encoder(tokenizer, {});
  ExpectError([&] { encoder.Encode(Chat({{"assistant", "x"}}), 0, "x:1"); }, ErrorCode::kInvalidArgument, "user first");
  ExpectError(
      [&] {
        encoder.Encode(Chat({{"user", "q"}, {"assistant", "x"}}), 0, "x:1");
      },
      ErrorCode::kCorruptData,
      "[x:1] chat: expected the template to write the start of a chat as it does within the whole");
}

TEST(DocumentEncoder, ATemplateThatCannotBeFollowedIsNamed) {
  const char* counting = "{{ messages|length }}{% for m in messages %}{{ m['content'] }}{% endfor %}";
  const DocumentEncoder encoder(ByteTokenizer(false, counting), {});
  ExpectError(
      [&] {
        encoder.Encode(Chat({{"user", "q"}, {"assistant", "x"}}), 0, "x:1");
      },
      ErrorCode::kCorruptData, "found no turn of the assistant where it does");
}

TEST(DocumentEncoder, ChatsWithoutATemplateAreRefused) {
  const ByteTokenizer none;
  const DocumentEncoder encoder(none, {.pairs = PairFormat::kChat});
  for (const Document& document : {Chat({{"user", "q"}, {"assistant", "x"}}), Pair("q", "x")}) {
    ExpectError([&] { encoder.Encode(document, 0, "x.jsonl:12"); }, ErrorCode::kUnsupported,
                "[x.jsonl:12] chat: expected a model with a chat template, found none");
  }
  const ByteTokenizer broken(false, "{% for %}");
  const DocumentEncoder with_broken(broken, {});
  EXPECT_NO_THROW(with_broken.Encode(Text("abc"), 0, "x")) << "texts need none";
  ExpectError(
      [&] {
        with_broken.Encode(Chat({{"user", "q"}, {"assistant", "x"}}), 0, "x:1");
      },
      ErrorCode::kUnsupported, "found one that cannot be read ([");
}

// Every turn is rendered on its own: without a bound a row could take hours.
TEST(DocumentEncoder, EndlessChatsAreRefused) {
  Messages talk;
  for (int i = 0; i < 2000; ++i) talk.push_back({i % 2 == 0 ? "user" : "assistant", std::string(1000, 'x')});
  const ByteTokenizer tokenizer(false, kTurns);
  ExpectError([&] { DocumentEncoder(tokenizer, {}).Encode(Chat(talk), 0, "x:1"); }, ErrorCode::kLimitExceeded,
              "[x:1] chat: expected at most");
}

// Vocabularies of every kind, merges across the border and spaces of their own included: the tokens in the loss spell
// the completion and the end, with at most what one token has in common with the prompt before it.
TEST(DocumentEncoder, BordersFallBetweenTokensOfAnyVocabulary) {
  for (const SmallTokenizer& small : SmallTokenizers()) {
    for (const auto& [prompt, completion] : std::vector<std::pair<std::string, std::string>>{
             {"hello he's ", "12345 the\n"}, {"the", "re"}, {"a\n", "\nb"}, {"\u4e2d", "\u00e9 hello"}, {" ", " "}}) {
      SCOPED_TRACE(std::string(small.name) + ": " + prompt + "|" + completion);
      const DocumentEncoder encoder(*small.tokenizer, {.pairs = PairFormat::kRaw});
      const EncodedDocument document = encoder.Encode(Pair(prompt, completion), 0, "x");
      std::string learned;
      std::string given;
      for (size_t i = 0; i < document.ids.size(); ++i) {
        (document.in_loss[i] != 0 ? learned : given) += small.tokenizer->TokenBytes(document.ids[i], true);
        if (i > 0) {
          EXPECT_GE(document.in_loss[i], document.in_loss[i - 1]);
        }
      }
      const auto eos = small.tokenizer->eos();
      const std::string end = eos ? small.tokenizer->TokenBytes(*eos, true) : "";
      const std::string expected = completion + end;
      ASSERT_GE(learned.size(), expected.size());
      EXPECT_EQ(learned.substr(learned.size() - expected.size()), expected);
      const size_t first = static_cast<size_t>(std::find(document.in_loss.begin(), document.in_loss.end(), 1) -
                                               document.in_loss.begin());
      EXPECT_LT(learned.size() - expected.size(), small.tokenizer->TokenBytes(document.ids[first], true).size() + 1);
    }
  }
}

// The templates of real models that the project has as goldens, followed turn by turn.
TEST(DocumentEncoder, TemplatesOfRealModels) {
  std::ifstream file(std::string(GATESKIP_TEST_DATA) + "/chat_templates.json");
  const auto template_of = [rows = nlohmann::json::parse(file)](const std::string& name) {
    for (const auto& row : rows) {
      if (row["name"] == name) return row["template"].get<std::string>();
    }
    ADD_FAILURE() << name;
    return std::string();
  };
  const Messages talk = {{"user", "Q"}, {"assistant", "one"}, {"user", "R"}, {"assistant", "two"}};
  // No end-of-turn token in this vocabulary: the line end behind it counts, too.
  EXPECT_EQ(Drawn(Chat(talk), ByteTokenizer(true, template_of("turns_hello"))),
            "<start_of_turn>user\nQ<end_of_turn>\n<start_of_turn>model\none<end_of_turn>\n"
            "<start_of_turn>user\nR<end_of_turn>\n<start_of_turn>model\ntwo<end_of_turn>\n\n" +
                std::string(35 + 21, '.') + std::string(17, '^') + std::string(35 + 21, '.') + std::string(17, '^'));
  EXPECT_EQ(Drawn(Chat(talk), ByteTokenizer(false, template_of("inst_hello"))),
            "<B>[INST] Q [/INST] one <E><B>[INST] R [/INST] two <E>\n"
            "...................^^^^^^^^...................^^^^^^^^");
}

}  // namespace
}  // namespace gateskip::testing
