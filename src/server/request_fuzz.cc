// SPDX-License-Identifier: Apache-2.0
// What a server reads of strangers. An input is a digit that chooses the route and the bytes of a body, which become a
// request within its bounds or an Error of status 400; or, after any other byte, the bytes of an HTTP header.
#include <cmath>
#include <cstdint>

#include "server/api_error.h"
#include "server/api_request.h"
#include "server/http_message.h"
#include "text/testing/laws.h"

namespace gateskip::server {
namespace {

using testing::Require;

constexpr double kMaxBudget = 0.5;

void CheckFields(const GenerationFields& fields) {
  Require(fields.num_choices >= 1 && fields.num_choices <= kMaxChoices, "n is within its bounds");
  Require(!fields.max_tokens || *fields.max_tokens >= 0, "max_tokens is not negative");
  Require(fields.stop.size() <= kMaxStops, "stop strings are few");
  for (const std::string& stop : fields.stop) Require(!stop.empty() && stop.size() <= kMaxStopBytes, "and short");
  Require(fields.top_log_probs >= 0 && fields.top_log_probs <= kMaxTopLogProbs, "top_logprobs is within its bounds");
  for (const auto& budget : {fields.budget_prefill, fields.budget_decode}) {
    Require(!budget || (*budget >= 0 && *budget <= kMaxBudget), "budgets are within the cap");
  }
  Require(!fields.include_usage || fields.stream, "stream options come with a stream");
  const SamplingOptions& sampling = fields.sampling;
  for (const float value : {sampling.temperature, sampling.top_p, sampling.min_p, sampling.repeat_penalty,
                            sampling.presence_penalty, sampling.frequency_penalty}) {
    Require(std::isfinite(value), "sampling numbers are finite");
  }
  Require(sampling.top_p > 0 && sampling.repeat_penalty > 0, "and usable");
  Require(sampling.logit_bias.size() <= kMaxLogitBias, "biases are few");
}

void CheckMessages(const std::vector<ChatMessage>& messages) {
  Require(!messages.empty() && messages.size() <= kMaxMessages, "messages are within their bounds");
  for (const ChatMessage& message : messages) {
    Require(message.role != "developer" && !message.role.empty(), "roles are those of templates");
  }
}

void CheckBody(char route, std::string_view body) {
  switch (route) {
    case '0': {
      const CompletionRequest request = ParseCompletion(body, kMaxBudget);
      CheckFields(request.fields);
      Require(!request.prompts.empty() && request.prompts.size() <= kMaxPrompts, "prompts are within their bounds");
      Require(request.prompts.size() * static_cast<size_t>(request.fields.num_choices) <= kMaxSequences,
              "all together");
      for (const Prompt& prompt : request.prompts) {
        const auto* ids = std::get_if<std::vector<int32_t>>(&prompt);
        if (ids == nullptr) continue;
        Require(!ids->empty(), "no list of ids is empty");
        for (const int32_t id : *ids) Require(id >= 0, "ids are not negative");
      }
      return;
    }
    case '1': {
      const ChatRequest request = ParseChat(body, kMaxBudget);
      CheckFields(request.fields);
      return CheckMessages(request.messages);
    }
    case '2':
      ParseTokenize(body);
      return;
    case '3':
      for (const int32_t id : ParseDetokenize(body)) Require(id >= 0, "ids are not negative");
      return;
    default:
      return CheckMessages(ParseApplyTemplate(body));
  }
}

void CheckHeaderBytes(std::string_view bytes) {
  const ConnectionLimits limits = {.header_bytes = 512, .header_lines = 10};
  const HeaderCheck whole = CheckHeader(bytes, limits);
  Require(whole.header_size <= bytes.size(), "a header is a part of what was read");
  if (whole.error) {
    const int status = whole.error->status;
    Require(status == 400 || status == 415 || status == 431, "a header's errors are its sender's");
  }
  if (whole.header_size == 0) return;
  Require(bytes.substr(0, whole.header_size).ends_with("\r\n\r\n"), "a header ends in an empty line");
  for (size_t size = 0; size < whole.header_size; ++size) {
    const HeaderCheck part = CheckHeader(bytes.substr(0, size), limits);
    Require(part.header_size == 0, "a header is not over before its end");
    if (!whole.error) Require(!part.error, "a good header is good as far as it has come");
  }
}

}  // namespace
}  // namespace gateskip::server

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gateskip;
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  const char route = static_cast<char>(data[0]);
  if (route < '0' || route > '4') {
    server::CheckHeaderBytes(bytes);
    return 0;
  }
  try {
    server::CheckBody(route, bytes);
  } catch (const Error& error) {
    testing::CheckError(error);
    const server::ApiError answer = server::ToApiError(error);
    testing::Require(answer.status == 400, "a body's errors are its sender's");
    testing::Require(testing::IsUtf8(server::ErrorBody(answer)), "error bodies are UTF-8");
  }
  return 0;
}
