// SPDX-License-Identifier: Apache-2.0
// Answers as OpenAI shapes them, plus `usage.gateskip`: what was asked for and what was really saved, for the prompt
// and for generated tokens, and the times it took.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gateskip/engine.h"
#include "sched/request.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace gateskip::server {

using Json = nlohmann::ordered_json;

// One line; text that is not UTF-8 is replaced.
std::string Dump(const Json& value);
// "data: ...\n\n"
std::string ServerSentEvent(const Json& value);
inline constexpr std::string_view kLastEvent = "data: [DONE]\n\n";

// "stop" or "length".
std::string_view FinishName(FinishReason reason);

// What all parts of an answer begin with.
struct AnswerHead {
  std::string id;  // "cmpl-..." or "chatcmpl-..."
  std::string_view object;
  int64_t created = 0;  // seconds since 1970
  std::string model;
};
Json Envelope(const AnswerHead& head, Json choices);

struct Usage {
  size_t prompt_tokens = 0;
  size_t completion_tokens = 0;
  size_t cached_tokens = 0;
  SavingReport prefill;
  SavingReport decode;
  bool adapted = false;  // the queue chose the budget
  uint64_t drafted_tokens = 0, accepted_tokens = 0;
  double queue_seconds = 0, prefill_seconds = 0, decode_seconds = 0;
};
Json UsageJson(const Usage& usage);

// A token's text, or "bytes:\xE2\x80" for a part of a character. Special tokens show their text.
std::string TokenText(const Tokenizer& tokenizer, int32_t id);

// `logprobs` of a completion: parallel lists. The likeliest tokens are a dictionary by text, in which the token itself
// always is; of two tokens with the same text the likelier one counts. Numbers are the float's own value, so that the
// token's equals the dictionary's largest iff it is the likeliest.
class CompletionLogProbs {
 public:
  // text_offset of the first token, in characters.
  explicit CompletionLogProbs(const Tokenizer& tokenizer, size_t offset = 0) : tokenizer_(tokenizer), offset_(offset) {}

  // No log_prob: the first token of a prompt.
  void Add(int32_t id, std::optional<float> log_prob, std::span<const TokenCandidate> top, bool with_top);
  Json Take();

 private:
  const Tokenizer& tokenizer_;
  size_t offset_;
  Json tokens_ = Json::array(), log_probs_ = Json::array(), top_ = Json::array(), offsets_ = Json::array();
};

// An item of `logprobs.content` of a chat.
Json ChatLogProb(const Tokenizer& tokenizer, int32_t id, float log_prob, std::span<const TokenCandidate> top);

// Characters of UTF-8 text; a byte that begins none counts as a part of the one before.
size_t CountCharacters(std::string_view text);

}  // namespace gateskip::server
