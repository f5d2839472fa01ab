// SPDX-License-Identifier: Apache-2.0
// From a request's body to token ids within the context.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "server/generation.h"

namespace gateskip::server {
namespace {

constexpr int kDefaultCompletionTokens = 16;  // OpenAI's

// How many tokens may follow a prompt: as asked, or as many as the context has room for.
int FitTokens(const ServedModel& model, size_t prompt_tokens, int wanted, const char* field) {
  const auto context = static_cast<size_t>(model.info().context_length);
  const size_t room = context - std::min(context, prompt_tokens);
  if (prompt_tokens > context || (wanted > 0 && room == 0)) {
    throw RequestError({.status = 400,
                        .type = "invalid_request_error",
                        .code = "context_length_exceeded",
                        .message = fmt::format("[request] {}: expected at most {} tokens (the model's context) with "
                                               "those to generate, found {} and {}; shorten it",
                                               field, context, prompt_tokens, wanted),
                        .param = field});
  }
  return static_cast<int>(std::min(room, static_cast<size_t>(wanted)));
}

void CheckIds(const ServedModel& model, const std::vector<int32_t>& ids) {
  const int vocab = model.info().vocab_size;
  const auto bad = std::ranges::find_if(ids, [&](int32_t id) { return id < 0 || id >= vocab; });
  if (bad != ids.end()) {
    FailField("prompt", fmt::format("expected token ids below {}, found {}; use this model's tokenizer", vocab, *bad));
  }
  if (ids.empty()) FailField("prompt", "expected at least one token, found none; give some text");
}

void CheckLogitBias(const ServedModel& model, const GenerationFields& fields) {
  for (const auto& [id, bias] : fields.sampling.logit_bias) {
    if (id < model.info().vocab_size) continue;
    FailField("logit_bias", fmt::format("expected token ids below {}, found {}; use this model's tokenizer",
                                        model.info().vocab_size, id));
  }
}

}  // namespace

size_t PreparedRequest::prompt_tokens() const {
  return std::accumulate(prompts.begin(), prompts.end(), size_t{0},
                         [](size_t sum, const std::vector<int32_t>& ids) { return sum + ids.size(); });
}

PreparedRequest PrepareCompletion(const ServedModel& model, std::string_view body) {
  CompletionRequest parsed = ParseCompletion(body, model.max_budget());
  PreparedRequest request{.echo = parsed.echo, .fields = std::move(parsed.fields)};
  CheckLogitBias(model, request.fields);
  if (request.echo && request.fields.stream && request.fields.want_log_probs) {
    FailField("echo", "expected no stream with the prompt's logprobs, found both; set stream to false");
  }
  for (Prompt& prompt : parsed.prompts) {
    if (const auto* text = std::get_if<std::string>(&prompt)) {
      request.prompts.push_back(model.EncodePrompt(*text));
    } else {
      request.prompts.push_back(std::move(std::get<std::vector<int32_t>>(prompt)));
    }
    CheckIds(model, request.prompts.back());
    const int wanted = request.fields.max_tokens.value_or(kDefaultCompletionTokens);
    request.max_tokens.push_back(FitTokens(model, request.prompts.back().size(), wanted, "prompt"));
  }
  return request;
}

PreparedRequest PrepareChat(const ServedModel& model, std::string_view body, int default_max_tokens) {
  ChatRequest parsed = ParseChat(body, model.max_budget());
  PreparedRequest request{.chat = true, .fields = std::move(parsed.fields)};
  CheckLogitBias(model, request.fields);
  request.prompts.push_back(model.EncodeChat(parsed.messages));
  CheckIds(model, request.prompts.back());
  const int wanted = request.fields.max_tokens.value_or(default_max_tokens);
  request.max_tokens.push_back(FitTokens(model, request.prompts.back().size(), wanted, "messages"));
  return request;
}

}  // namespace gateskip::server
