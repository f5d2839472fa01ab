// SPDX-License-Identifier: Apache-2.0
// Requests in native types: everything is parsed and checked here, before a token is made of it. Fields and their
// meaning are OpenAI's, plus top_k, min_p, repeat_penalty, ignore_eos, budget, budget_prefill, budget_decode and
// skip_details. Unknown fields are ignored, as OpenAI's clients expect; those that would change the answer and are not
// supported (tools, response_format, ...) are refused.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "gateskip/engine.h"
#include "text/chat_template.h"

namespace gateskip::server {

// What one request may ask for at most.
inline constexpr int kMaxChoices = 8;
inline constexpr size_t kMaxPrompts = 64;
inline constexpr size_t kMaxSequences = 128;  // prompts times choices
inline constexpr int kMaxTopLogProbs = 20;
inline constexpr size_t kMaxStops = 16;
inline constexpr size_t kMaxStopBytes = 256;
inline constexpr size_t kMaxLogitBias = 1024;
inline constexpr size_t kMaxMessages = 1024;
inline constexpr size_t kMaxRequestItems = 400'000;  // keys and values of its JSON

struct GenerationFields {
  bool stream = false;
  bool include_usage = false;  // stream_options.include_usage
  bool skip_details = false;   // with a stream: the share of branches every token skipped
  int num_choices = 1;
  std::optional<int> max_tokens;
  std::vector<std::string> stop;
  bool ignore_eos = false;
  SamplingOptions sampling;
  bool has_seed = false;
  bool want_log_probs = false;
  int top_log_probs = 0;
  std::optional<double> budget_prefill;  // none: the server's default
  std::optional<double> budget_decode;
};

using Prompt = std::variant<std::string, std::vector<int32_t>>;

struct CompletionRequest {
  GenerationFields fields;
  std::vector<Prompt> prompts;  // at least one
  bool echo = false;
};

struct ChatRequest {
  GenerationFields fields;
  std::vector<ChatMessage> messages;  // at least one
};

struct TokenizeRequest {
  std::string text;
  bool add_special = false;  // BOS, where the model wants one
  bool parse_special = true;
  bool with_pieces = false;
};

// `body` is the request's JSON; `max_budget` the largest budget a request may ask for here. Throw Error, RequestError.
CompletionRequest ParseCompletion(std::string_view body, double max_budget);
ChatRequest ParseChat(std::string_view body, double max_budget);
TokenizeRequest ParseTokenize(std::string_view body);
std::vector<int32_t> ParseDetokenize(std::string_view body);
std::vector<ChatMessage> ParseApplyTemplate(std::string_view body);

}  // namespace gateskip::server
