// SPDX-License-Identifier: Apache-2.0
#include "server/api_response.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "runtime/saving_json.h"
#include "text/utf8.h"

namespace gateskip::server {
namespace {

Json BytesJson(std::string_view bytes) {
  Json list = Json::array();
  for (const char c : bytes) list.push_back(static_cast<unsigned char>(c));
  return list;
}

std::string ReadableToken(const std::string& bytes) {
  if (FindInvalidUtf8(bytes) == std::string_view::npos) return bytes;
  std::string text = "bytes:";
  for (const char c : bytes) text += fmt::format("\\x{:02X}", static_cast<unsigned char>(c));
  return text;
}

}  // namespace

std::string Dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string ServerSentEvent(const Json& value) { return "data: " + Dump(value) + "\n\n"; }

std::string_view FinishName(FinishReason reason) {
  return reason == FinishReason::kEndOfText || reason == FinishReason::kStopString ? "stop" : "length";
}

Json Envelope(const AnswerHead& head, Json choices) {
  return {{"id", head.id},
          {"object", head.object},
          {"created", head.created},
          {"model", head.model},
          {"choices", std::move(choices)}};
}

Json UsageJson(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
          {"gateskip",
           {{"prefill", SavingJson(usage.prefill)},
            {"decode", SavingJson(usage.decode)},
            {"adapted", usage.adapted},
            {"drafted_tokens", usage.drafted_tokens},
            {"accepted_tokens", usage.accepted_tokens},
            {"queue_seconds", usage.queue_seconds},
            {"prefill_seconds", usage.prefill_seconds},
            {"decode_seconds", usage.decode_seconds}}}};
}

std::string TokenText(const Tokenizer& tokenizer, int32_t id) {
  return ReadableToken(tokenizer.TokenBytes(id, /*special=*/true));
}

size_t CountCharacters(std::string_view text) {
  return static_cast<size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

void CompletionLogProbs::Add(int32_t id, std::optional<float> log_prob, std::span<const TokenCandidate> top,
                             bool with_top) {
  const std::string bytes = tokenizer_.TokenBytes(id, /*special=*/true);
  std::string text = ReadableToken(bytes);
  Json likeliest;
  if (log_prob && with_top) {
    likeliest = Json::object();
    // Best first, so that the first of several tokens with one text is the one to keep.
    for (const TokenCandidate& candidate : top) {
      likeliest.emplace(TokenText(tokenizer_, candidate.id), candidate.log_prob);
    }
    likeliest.emplace(text, *log_prob);
  }
  tokens_.push_back(std::move(text));
  log_probs_.push_back(log_prob ? Json(*log_prob) : Json());
  top_.push_back(std::move(likeliest));
  offsets_.push_back(offset_);
  offset_ += CountCharacters(bytes);
}

Json CompletionLogProbs::Take() {
  return {{"tokens", std::exchange(tokens_, Json::array())},
          {"token_logprobs", std::exchange(log_probs_, Json::array())},
          {"top_logprobs", std::exchange(top_, Json::array())},
          {"text_offset", std::exchange(offsets_, Json::array())}};
}

Json ChatLogProb(const Tokenizer& tokenizer, int32_t id, float log_prob, std::span<const TokenCandidate> top) {
  const auto item = [&](int32_t token, float value) -> Json {
    const std::string bytes = tokenizer.TokenBytes(token, /*special=*/true);
    return {{"token", ReadableToken(bytes)}, {"logprob", value}, {"bytes", BytesJson(bytes)}};
  };
  Json json = item(id, log_prob);
  json["top_logprobs"] = Json::array();
  for (const TokenCandidate& candidate : top) json["top_logprobs"].push_back(item(candidate.id, candidate.log_prob));
  return json;
}

}  // namespace gateskip::server
