// SPDX-License-Identifier: Apache-2.0
#include "server/api_request.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <utility>

#include "io/json.h"
#include "server/api_error.h"
#include "server/api_fields.h"

namespace gateskip::server {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 64;
constexpr int64_t kMaxTokens = 1 << 24;
constexpr double kLowestPositive = std::numeric_limits<float>::min();

json ParseBody(std::string_view body) { return ParseJson(body, "request", kMaxDepth, kMaxRequestItems); }

// Fields whose effect is not built: silently leaving it out would be a wrong answer.
void RefuseUnsupported(const Fields& fields) {
  const auto refuse = [](const char* name, const char* instead) {
    FailField(name, fmt::format("expected it absent (not supported here), found it set; {}", instead));
  };
  for (const char* name : {"tools", "functions"}) {
    const json* value = fields.Find(name);
    if (value != nullptr && !(value->is_array() && value->empty())) refuse(name, "leave it out");
  }
  for (const char* name : {"suffix", "audio", "grammar", "json_schema", "guided_json", "guided_regex"}) {
    if (fields.Find(name) != nullptr) refuse(name, "leave it out");
  }
  if (const json* format = fields.Find("response_format")) {
    const Fields inside(*format);
    if (inside.String("type").value_or("text") != "text") refuse("response_format", "use {\"type\": \"text\"}");
  }
  if (const json* modalities = fields.Find("modalities"); modalities != nullptr && *modalities != json{"text"}) {
    refuse("modalities", "use [\"text\"]");
  }
}

std::vector<std::string> ParseStop(const Fields& fields) {
  const json* value = fields.Find("stop");
  if (value == nullptr) return {};
  std::vector<std::string> stops;
  const auto add = [&](const json& item) {
    if (!item.is_string()) {
      FailField("stop", fmt::format("expected a string or a list of strings, found {}; correct it", Shown(item)));
    }
    const auto& text = item.get_ref<const std::string&>();
    if (text.size() > kMaxStopBytes) {
      FailField("stop",
                fmt::format("expected at most {} bytes each, found {}; shorten it", kMaxStopBytes, text.size()));
    }
    if (!text.empty()) stops.push_back(text);
  };
  if (!value->is_array()) {
    add(*value);
    return stops;
  }
  if (value->size() > kMaxStops) {
    FailField("stop", fmt::format("expected at most {} strings, found {}; pass fewer", kMaxStops, value->size()));
  }
  for (const json& item : *value) add(item);
  return stops;
}

int32_t ParseTokenId(const char* field, const json& value) {
  if (value.is_number_integer() && value >= 0 && value <= std::numeric_limits<int32_t>::max()) {
    return value.get<int32_t>();
  }
  FailField(field, fmt::format("expected token ids of 0 or more, found {}; correct it", Shown(value)));
}

std::vector<std::pair<int32_t, float>> ParseLogitBias(const Fields& fields) {
  const json* value = fields.Find("logit_bias");
  std::vector<std::pair<int32_t, float>> biases;
  if (value == nullptr) return biases;
  if (!value->is_object() || value->size() > kMaxLogitBias) {
    FailField("logit_bias", fmt::format("expected an object of at most {} token ids, found {}; correct it",
                                        kMaxLogitBias, value->is_object() ? "more" : Shown(*value)));
  }
  for (const auto& [key, bias] : value->items()) {
    int32_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    const bool is_id = error == std::errc() && end == key.data() + key.size() && id >= 0;
    const double number = bias.is_number() ? bias.get<double>() : std::numeric_limits<double>::quiet_NaN();
    if (!is_id || !(number >= -100 && number <= 100)) {
      FailField("logit_bias", "expected token ids with numbers in [-100, 100], found something else; correct it");
    }
    biases.emplace_back(id, static_cast<float>(number));
  }
  return biases;
}

SamplingOptions ParseSampling(const Fields& fields) {
  SamplingOptions sampling;
  sampling.temperature = static_cast<float>(fields.Number("temperature", 0, 100, 1.0));
  sampling.top_p = static_cast<float>(fields.Number("top_p", 0, 1, 1.0));
  // -1 is what other servers take for "off".
  sampling.top_k = static_cast<int>(std::max<int64_t>(0, fields.Int("top_k", -1, kMaxTokens, 0)));
  if (sampling.top_p < kLowestPositive) {
    sampling.top_p = 1;
    sampling.top_k = 1;
  }
  sampling.min_p = static_cast<float>(fields.Number("min_p", 0, 0.999999, 0.0));
  const char* penalty = fields.Find("repetition_penalty") != nullptr ? "repetition_penalty" : "repeat_penalty";
  sampling.repeat_penalty = static_cast<float>(fields.Number(penalty, 1e-3, 1e3, 1.0));
  sampling.presence_penalty = static_cast<float>(fields.Number("presence_penalty", -2, 2, 0.0));
  sampling.frequency_penalty = static_cast<float>(fields.Number("frequency_penalty", -2, 2, 0.0));
  sampling.logit_bias = ParseLogitBias(fields);
  return sampling;
}

void ParseBudgets(const Fields& fields, double max_budget, GenerationFields* out) {
  const std::optional<double> both = fields.Number("budget", 0, max_budget);
  out->budget_prefill = fields.Number("budget_prefill", 0, max_budget);
  out->budget_decode = fields.Number("budget_decode", 0, max_budget);
  if (!out->budget_prefill) out->budget_prefill = both;
  if (!out->budget_decode) out->budget_decode = both;
}

void ParseStream(const Fields& fields, GenerationFields* out) {
  out->stream = fields.Bool("stream", false);
  out->skip_details = fields.Bool("skip_details", false);
  const json* options = fields.Find("stream_options");
  if (options == nullptr) return;
  if (!out->stream) FailField("stream_options", "expected it with stream, found no stream; set stream to true");
  out->include_usage = Fields(*options).Bool("include_usage", false);
}

GenerationFields ParseCommon(const Fields& fields, double max_budget) {
  RefuseUnsupported(fields);
  fields.String("model");
  fields.String("user");
  GenerationFields out;
  ParseStream(fields, &out);
  out.num_choices = static_cast<int>(fields.Int("n", 1, kMaxChoices, 1));
  const char* max_tokens = fields.Find("max_completion_tokens") != nullptr ? "max_completion_tokens" : "max_tokens";
  if (const std::optional<int64_t> value = fields.Int(max_tokens, 0, kMaxTokens)) {
    out.max_tokens = static_cast<int>(*value);
  }
  out.stop = ParseStop(fields);
  out.ignore_eos = fields.Bool("ignore_eos", false);
  out.sampling = ParseSampling(fields);
  if (const auto seed = fields.Int("seed", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max())) {
    out.sampling.seed = static_cast<uint64_t>(*seed);
    out.has_seed = true;
  }
  ParseBudgets(fields, max_budget, &out);
  return out;
}

Prompt ParseIds(const json& list) {
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (const json& id : list) ids.push_back(ParseTokenId("prompt", id));
  return ids;
}

// A text, token ids, or a list of either.
std::vector<Prompt> ParsePrompts(const Fields& fields) {
  const json* value = fields.Find("prompt");
  const auto fail = [](const std::string& found) {
    FailField("prompt",
              "expected a text, token ids, or a list of either, none of them empty, found " + found + "; correct it");
  };
  if (value == nullptr) fail("nothing");
  std::vector<Prompt> prompts;
  if (value->is_string()) {
    prompts.emplace_back(value->get<std::string>());
  } else if (value->is_array() && !value->empty() && value->front().is_number()) {
    prompts.push_back(ParseIds(*value));
  } else if (value->is_array() && !value->empty()) {
    if (value->size() > kMaxPrompts) {
      FailField("prompt", fmt::format("expected at most {} prompts, found {}; send several requests", kMaxPrompts,
                                      value->size()));
    }
    for (const json& item : *value) {
      if (item.is_string()) {
        prompts.emplace_back(item.get<std::string>());
      } else if (item.is_array() && !item.empty()) {
        prompts.push_back(ParseIds(item));
      } else {
        fail("a list with " + Shown(item));
      }
    }
  } else {
    fail(Shown(*value));
  }
  return prompts;
}

// A text, or parts that are all text.
std::string ParseContent(const json& message) {
  const auto found = message.find("content");
  if (found == message.end() || found->is_null()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (!found->is_array()) {
    FailField("messages", fmt::format("expected content as text or parts, found {}; correct it", Shown(*found)));
  }
  std::string text;
  for (const json& part : *found) {
    const Fields fields(part);
    const std::optional<std::string> piece = fields.String("text");
    if (fields.String("type").value_or("text") != "text" || !piece) {
      FailField("messages", "expected parts of type text, found another; this model reads text only");
    }
    text += *piece;
  }
  return text;
}

std::vector<ChatMessage> ParseMessages(const Fields& fields) {
  const json* value = fields.Find("messages");
  if (value == nullptr || !value->is_array() || value->empty() || value->size() > kMaxMessages) {
    FailField("messages", fmt::format("expected a list of 1 to {} messages, found {}; correct it", kMaxMessages,
                                      value == nullptr ? "nothing" : Shown(*value)));
  }
  std::vector<ChatMessage> messages;
  messages.reserve(value->size());
  for (const json& item : *value) {
    if (!item.is_object()) {
      FailField("messages", fmt::format("expected objects, found {}; send role and content", Shown(item)));
    }
    std::string role = Fields(item).String("role").value_or("");
    if (role == "developer") role = "system";
    if (role != "system" && role != "user" && role != "assistant" && role != "tool") {
      FailField("messages", "expected the roles system, developer, user, assistant or tool, found another; correct it");
    }
    messages.push_back({std::move(role), ParseContent(item)});
  }
  return messages;
}

}  // namespace

CompletionRequest ParseCompletion(std::string_view body, double max_budget) {
  const json object = ParseBody(body);
  const Fields fields(object);
  CompletionRequest request;
  request.fields = ParseCommon(fields, max_budget);
  request.prompts = ParsePrompts(fields);
  request.echo = fields.Bool("echo", false);
  if (const auto top = fields.Int("logprobs", 0, kMaxTopLogProbs)) {
    request.fields.want_log_probs = true;
    request.fields.top_log_probs = static_cast<int>(*top);
  }
  // best_of would need a choice between finished texts.
  const int64_t best_of = fields.Int("best_of", 1, kMaxChoices, request.fields.num_choices);
  if (best_of != request.fields.num_choices)
    FailField("best_of", "expected the value of n, found another; leave it out");
  const size_t sequences = request.prompts.size() * static_cast<size_t>(request.fields.num_choices);
  if (sequences > kMaxSequences) {
    FailField("n", fmt::format("expected at most {} prompts times choices, found {}; send several requests",
                               kMaxSequences, sequences));
  }
  return request;
}

ChatRequest ParseChat(std::string_view body, double max_budget) {
  const json object = ParseBody(body);
  const Fields fields(object);
  ChatRequest request;
  request.fields = ParseCommon(fields, max_budget);
  request.messages = ParseMessages(fields);
  request.fields.want_log_probs = fields.Bool("logprobs", false);
  request.fields.top_log_probs = static_cast<int>(fields.Int("top_logprobs", 0, kMaxTopLogProbs, 0));
  if (request.fields.top_log_probs > 0 && !request.fields.want_log_probs) {
    FailField("top_logprobs", "expected it with logprobs, found logprobs unset; set logprobs to true");
  }
  return request;
}

TokenizeRequest ParseTokenize(std::string_view body) {
  const json object = ParseBody(body);
  const Fields fields(object);
  const char* name = fields.Find("prompt") != nullptr ? "prompt" : "content";
  const std::optional<std::string> text = fields.String(name);
  if (!text) FailField("content", "expected a string, found nothing; add it");
  return {.text = *text,
          .add_special = fields.Bool("add_special", false),
          .parse_special = fields.Bool("parse_special", true),
          .with_pieces = fields.Bool("with_pieces", false)};
}

std::vector<int32_t> ParseDetokenize(std::string_view body) {
  const json object = ParseBody(body);
  const json* tokens = Fields(object).Find("tokens");
  if (tokens == nullptr || !tokens->is_array()) FailField("tokens", "expected a list of token ids; add it");
  std::vector<int32_t> ids;
  ids.reserve(tokens->size());
  for (const json& id : *tokens) ids.push_back(ParseTokenId("tokens", id));
  return ids;
}

std::vector<ChatMessage> ParseApplyTemplate(std::string_view body) {
  const json object = ParseBody(body);
  return ParseMessages(Fields(object));
}

}  // namespace gateskip::server
