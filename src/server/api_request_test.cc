// SPDX-License-Identifier: Apache-2.0
// Requests from their bytes: what fields become, and which field an error names.
#include "server/api_request.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

#include "server/api_error.h"

namespace gateskip::server {
namespace {

constexpr double kMaxBudget = 0.5;

CompletionRequest Completion(const std::string& fields) {
  return ParseCompletion(R"({"prompt": "a")" + (fields.empty() ? "" : ", " + fields) + "}", kMaxBudget);
}

// The field that the error names; "" without an error.
template <typename Parse>
std::string BlamedBy(const Parse& parse) {
  try {
    parse();
  } catch (const RequestError& error) {
    EXPECT_EQ(error.error().status, 400);
    return error.error().param;
  } catch (const Error& error) {
    EXPECT_EQ(ToApiError(error).status, 400) << error.what();
    return "body";
  }
  return "";
}
std::string Blamed(const std::string& fields) {
  return BlamedBy([&] { Completion(fields); });
}
std::string BlamedMessages(const std::string& messages) {
  return BlamedBy([&] { ParseChat(R"({"messages": )" + messages + "}", kMaxBudget); });
}

TEST(ApiRequest, Defaults) {
  const CompletionRequest request = Completion("");
  const GenerationFields& fields = request.fields;
  EXPECT_EQ(std::get<std::string>(request.prompts.at(0)), "a");
  EXPECT_FALSE(request.echo || fields.stream || fields.include_usage || fields.want_log_probs || fields.has_seed);
  EXPECT_EQ(fields.num_choices, 1);
  EXPECT_FALSE(fields.max_tokens || fields.budget_prefill || fields.budget_decode);
  EXPECT_EQ(fields.sampling.temperature, 1.0F);
  EXPECT_EQ(fields.sampling.top_p, 1.0F);
  EXPECT_EQ(fields.sampling.top_k, 0);
}

TEST(ApiRequest, EveryField) {
  const GenerationFields fields =
      Completion(
          R"("max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "n": 2, "stream": true,
             "stream_options": {"include_usage": true}, "stop": ["x", "", "y"], "seed": -3, "logprobs": 4,
             "logit_bias": {"5": -1.5}, "presence_penalty": 1, "frequency_penalty": -1, "repeat_penalty": 1.5,
             "ignore_eos": true, "skip_details": true, "budget": 0.25, "budget_decode": 0.5, "best_of": 2)")
          .fields;
  EXPECT_EQ(fields.max_tokens, 7);
  EXPECT_EQ(fields.sampling.temperature, 0.5F);
  EXPECT_EQ(fields.sampling.top_p, 0.9F);
  EXPECT_EQ(fields.sampling.top_k, 3);
  EXPECT_EQ(fields.sampling.min_p, 0.1F);
  EXPECT_EQ(fields.num_choices, 2);
  EXPECT_TRUE(fields.stream && fields.include_usage && fields.skip_details && fields.ignore_eos);
  EXPECT_EQ(fields.stop, (std::vector<std::string>{"x", "y"}));
  EXPECT_TRUE(fields.has_seed);
  EXPECT_EQ(fields.sampling.seed, static_cast<uint64_t>(-3));
  EXPECT_TRUE(fields.want_log_probs);
  EXPECT_EQ(fields.top_log_probs, 4);
  EXPECT_EQ(fields.sampling.logit_bias, (std::vector<std::pair<int32_t, float>>{{5, -1.5F}}));
  EXPECT_EQ(fields.sampling.presence_penalty, 1.0F);
  EXPECT_EQ(fields.sampling.frequency_penalty, -1.0F);
  EXPECT_EQ(fields.sampling.repeat_penalty, 1.5F);
  EXPECT_EQ(fields.budget_prefill, 0.25);
  EXPECT_EQ(fields.budget_decode, 0.5);
}

TEST(ApiRequest, TheLargestAndSmallestOfEachRangeAndWhatLiesBeyond) {
  struct Range {
    const char* field;
    std::vector<const char*> good, bad;
  };
  const std::vector<Range> ranges = {
      {"max_tokens", {"0", "16777216", "null"}, {"-1", "16777217", "1.0", "true", "\"1\"", "18446744073709551615"}},
      {"temperature", {"0", "100"}, {"-0.001", "100.5", "\"1\"", "[]"}},
      {"top_p", {"0", "1"}, {"-0.1", "1.1", "false"}},
      {"top_k", {"-1", "0", "16777216"}, {"-2", "1.5", "16777217"}},
      {"min_p", {"0", "0.99"}, {"1", "-1"}},
      {"n", {"1", "8"}, {"0", "9", "-9223372036854775808", "9223372036854775808"}},
      {"logprobs", {"0", "20"}, {"-1", "21", "true"}},
      {"seed", {"-9223372036854775808", "9223372036854775807"}, {"9223372036854775808", "0.5"}},
      {"presence_penalty", {"-2", "2"}, {"-2.1", "2.1"}},
      {"frequency_penalty", {"-2", "2"}, {"-2.1", "2.1"}},
      {"repeat_penalty", {"0.001", "1000"}, {"0", "-1", "1001"}},
      {"budget", {"0", "0.5"}, {"-0.1", "0.51", "\"0.1\"", "true"}},
      {"budget_prefill", {"0", "0.5"}, {"0.51"}},
      {"budget_decode", {"0", "0.5"}, {"0.51"}},
      {"stream", {"true", "false", "null"}, {"1", "\"true\""}},
      {"echo", {"true"}, {"1"}},
      {"ignore_eos", {"true"}, {"0"}},
      {"model", {"\"m\"", "null"}, {"1", "[]"}},
      {"user", {"\"u\""}, {"{}"}},
      {"stop", {"\"x\"", "[]", "[\"x\"]", "null"}, {"1", "[1]", "{}", "[[\"x\"]]"}},
      {"logit_bias", {"{}", "{\"0\": 100}"}, {"[]", "{\"a\": 1}", "{\"-1\": 1}", "{\"1\": 101}", "{\"1 \": 1}"}},
      {"tools", {"[]", "null"}, {"[1]", "{}", "1"}},
      {"suffix", {"null"}, {"\"x\"", "1"}},
      {"response_format", {"{\"type\": \"text\"}", "{}"}, {"{\"type\": \"json_object\"}"}},
      {"modalities", {"[\"text\"]"}, {"[\"audio\"]", "[]", "\"text\""}},
      {"best_of", {"1"}, {"2", "0"}},
  };
  for (const Range& range : ranges) {
    for (const char* value : range.good) {
      EXPECT_EQ(Blamed(fmt::format(R"("{}": {})", range.field, value)), "") << range.field << " " << value;
    }
    for (const char* value : range.bad) {
      EXPECT_EQ(Blamed(fmt::format(R"("{}": {})", range.field, value)), range.field) << range.field << " " << value;
    }
  }
}

TEST(ApiRequest, LimitsOfLists) {
  const auto list = [](size_t count, const std::string& item) {
    std::string text = "[";
    for (size_t i = 0; i < count; ++i) text += (i == 0 ? "" : ",") + item;
    return text + "]";
  };
  const auto prompts = [](const std::string& prompt) {
    return BlamedBy([&] { ParseCompletion(R"({"prompt": )" + prompt + "}", kMaxBudget); });
  };
  EXPECT_EQ(Blamed("\"stop\": " + list(kMaxStops, "\"x\"")), "");
  EXPECT_EQ(Blamed("\"stop\": " + list(kMaxStops + 1, "\"x\"")), "stop");
  EXPECT_EQ(Blamed("\"stop\": \"" + std::string(kMaxStopBytes, 'x') + "\""), "");
  EXPECT_EQ(Blamed("\"stop\": \"" + std::string(kMaxStopBytes + 1, 'x') + "\""), "stop");
  EXPECT_EQ(prompts(list(kMaxPrompts, "\"x\"")), "");
  EXPECT_EQ(prompts(list(kMaxPrompts + 1, "\"x\"")), "prompt");
  EXPECT_EQ(prompts(list(1000, "1")), "");
  EXPECT_EQ(prompts(list(kMaxRequestItems + 1, "1")), "body");
  for (const char* bad :
       {"1", "null", "[]", "[[]]", "[null]", "[1, \"x\"]", "[\"x\", 1]", "[-1]", "[2147483648]", "{}"}) {
    EXPECT_EQ(prompts(bad), "prompt") << bad;
  }
  EXPECT_EQ(BlamedBy([&] { ParseCompletion(R"({"n": 8, "prompt": )" + list(17, "\"x\"") + "}", kMaxBudget); }), "n");
  EXPECT_EQ(BlamedMessages(list(kMaxMessages, R"({"role": "user", "content": "a"})")), "");
  EXPECT_EQ(BlamedMessages(list(kMaxMessages + 1, R"({"role": "user", "content": "a"})")), "messages");
}

TEST(ApiRequest, Messages) {
  const ChatRequest request = ParseChat(
      R"({"messages": [{"role": "developer", "content": "a"}, {"role": "assistant", "content": null},
          {"role": "user", "content": [{"type": "text", "text": "b"}, {"text": "c"}]}]})",
      kMaxBudget);
  ASSERT_EQ(request.messages.size(), 3U);
  EXPECT_EQ(request.messages[0].role, "system");
  EXPECT_EQ(request.messages[1].content, "");
  EXPECT_EQ(request.messages[2].content, "bc");
  for (const char* bad :
       {"[]", "{}", "null", "[1]", R"([{"role": "x", "content": "a"}])", R"([{"content": "a"}])",
        R"([{"role": "user", "content": 1}])", R"([{"role": "user", "content": [{"type": "image_url"}]}])"}) {
    EXPECT_EQ(BlamedMessages(bad), "messages") << bad;
  }
}

TEST(ApiRequest, FieldsThatBelongTogether) {
  EXPECT_EQ(Blamed(R"("stream_options": {"include_usage": true})"), "stream_options");
  const auto chat = [](const std::string& fields) {
    return BlamedBy(
        [&] { ParseChat(R"({"messages": [{"role": "user", "content": "a"}], )" + fields + "}", kMaxBudget); });
  };
  EXPECT_EQ(chat(R"("top_logprobs": 2)"), "top_logprobs");
  EXPECT_EQ(chat(R"("top_logprobs": 2, "logprobs": true)"), "");
  EXPECT_EQ(chat(R"("max_tokens": -1, "max_completion_tokens": 3)"), "");  // the newer name wins
}

TEST(ApiRequest, BodiesThatAreNoRequest) {
  for (const char* body : {"", "{", "[]", "1", "null", "{\"prompt\": \"a\"}x", "{\"prompt\": \"a\", \"prompt\": \"b\"}",
                           "{\"prompt\": \"\xFF\"}", "{\"prompt\": \"a\", \"n\": NaN}"}) {
    EXPECT_THROW(ParseCompletion(body, kMaxBudget), Error) << body;
  }
}

TEST(ApiRequest, TextAndTokens) {
  const TokenizeRequest request = ParseTokenize(R"({"content": "a", "add_special": true, "parse_special": false})");
  EXPECT_TRUE(request.add_special && !request.parse_special && !request.with_pieces);
  EXPECT_EQ(BlamedBy([] { ParseTokenize("{}"); }), "content");
  EXPECT_EQ(ParseDetokenize(R"({"tokens": [1, 2]})"), (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(BlamedBy([] { ParseDetokenize(R"({"tokens": [1.5]})"); }), "tokens");
  EXPECT_EQ(BlamedBy([] { ParseDetokenize(R"({"tokens": 1})"); }), "tokens");
}

}  // namespace
}  // namespace gateskip::server
