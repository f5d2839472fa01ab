// SPDX-License-Identifier: Apache-2.0
#include "server/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <utility>

#include "base/stopwatch.h"

namespace gateskip::server {
namespace {

uint64_t RandomNumber() {
  thread_local std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

AnswerHead MakeHead(const PreparedRequest& request, const std::string& model) {
  AnswerHead head;
  head.id = fmt::format("{}-{:016x}", request.chat ? "chatcmpl" : "cmpl", RandomNumber());
  head.object = !request.chat ? "text_completion" : request.fields.stream ? "chat.completion.chunk" : "chat.completion";
  head.created =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  head.model = model;
  return head;
}

}  // namespace

Generation::Generation(GenerationParts parts, PreparedRequest request, Budgets budgets, std::shared_ptr<Reply> reply)
    : parts_(std::move(parts)),
      request_(std::move(request)),
      budgets_(budgets),
      reply_(std::move(reply)),
      head_(MakeHead(request_, parts_.model.name())),
      runs_(request_.prompts.size()),
      open_prompts_(request_.prompts.size()) {
  const auto choices = static_cast<size_t>(request_.fields.num_choices);
  for (PromptRun& run : runs_) {
    run.characters.assign(choices, 0);
    run.begun.assign(choices, false);
  }
}

SequenceRequest Generation::MakeSequence(size_t prompt) const {
  const GenerationFields& fields = request_.fields;
  SequenceRequest sequence;
  sequence.prompt = request_.prompts[prompt];
  sequence.score_prompt = request_.echo && fields.want_log_probs;
  sequence.max_tokens = request_.max_tokens[prompt];
  sequence.sampling = fields.sampling;
  sequence.stop = fields.stop;
  sequence.ignore_eos = fields.ignore_eos;
  sequence.prefill = parts_.model.Plan(budgets_.prefill);
  sequence.decode = parts_.model.Plan(budgets_.decode);
  sequence.use_adapter = parts_.model.use_adapter();
  sequence.speculation = parts_.model.speculation();
  sequence.num_choices = fields.num_choices;
  sequence.want_log_probs = fields.want_log_probs;
  sequence.top_log_probs = fields.top_log_probs;
  if (!fields.has_seed) sequence.sampling.seed = RandomNumber();
  return sequence;
}

void Generation::Start(const std::string& fairness_key, std::chrono::steady_clock::time_point received,
                       std::chrono::milliseconds queue_timeout, Callbacks callbacks) {
  callbacks_ = std::move(callbacks);
  received_ = last_sent_ = received;
  reply_->OnGone([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->OnGone();
  });
  for (size_t i = 0; i < runs_.size(); ++i) {
    SequenceRequest sequence = MakeSequence(i);
    sequence.fairness_key = fairness_key;
    sequence.deadline = received + queue_timeout;
    const auto self = shared_from_this();
    runs_[i].engine_id = parts_.engine.Submit(
        std::move(sequence), [self, i](TokenEvent&& event) { self->OnToken(i, std::move(event)); },
        [self, i](EngineOutcome&& outcome) { self->OnDone(i, std::move(outcome)); });
  }
}

void Generation::NoteStarted(size_t prompt) {
  if (runs_[prompt].started) return;
  runs_[prompt].started = true;
  callbacks_.on_started(request_.prompts[prompt].size());
  parts_.metrics.first_token_seconds.Observe(SecondsSince(received_));
}

void Generation::OnToken(size_t prompt, TokenEvent&& event) {
  if (ended_) return;
  NoteStarted(prompt);
  if (request_.fields.stream) StreamToken(prompt, event);
}

void Generation::OnDone(size_t prompt, EngineOutcome&& outcome) {
  if (ended_) return;
  NoteStarted(prompt);
  if (!outcome.result) return Fail(outcome.error);
  const FinishReason reason = outcome.result->finish_reason;
  if (reason == FinishReason::kDeadline) {
    return Fail(Overloaded(503, "[server] queue: expected a place in time, found none; try again later", 5));
  }
  if (reason == FinishReason::kCancelled) {
    return Fail(Overloaded(503, "[server] request: expected to end it, found it cancelled; try again", 1));
  }
  runs_[prompt].result = std::move(outcome.result);
  if (--open_prompts_ == 0) Complete();
}

void Generation::OnGone() {
  if (ended_) return;
  parts_.metrics.disconnects.Increment();
  End();
}

void Generation::Fail(const ApiError& error) {
  if (ended_) return;
  if (streaming_) {
    reply_->Push("data: " + ErrorBody(error) + "\n\n");
    reply_->EndStream();
  } else {
    reply_->Send(ErrorResponse(error));
  }
  End();
}

void Generation::End() {
  ended_ = true;
  for (size_t i = 0; i < runs_.size(); ++i) {
    if (!runs_[i].started) callbacks_.on_started(request_.prompts[i].size());
    runs_[i].started = true;
    if (!runs_[i].result) parts_.engine.Cancel(runs_[i].engine_id);
  }
  reply_.reset();
  std::exchange(callbacks_, {}).on_end();
}

void Generation::BeginStream() {
  if (std::exchange(streaming_, true)) return;
  reply_->StartStream(
      {.content_type = "text/event-stream", .headers = {{"Cache-Control", "no-store"}, {"X-Accel-Buffering", "no"}}});
}

void Generation::KeepAlive(std::chrono::steady_clock::time_point now, std::chrono::milliseconds quiet) {
  if (ended_ || !request_.fields.stream || now - last_sent_ < quiet) return;
  last_sent_ = now;
  BeginStream();
  reply_->Push(": waiting\n\n");  // a comment in a stream of events
}

void Generation::StreamChoice(Json choice) {
  last_sent_ = std::chrono::steady_clock::now();
  Json choices = Json::array();
  choices.push_back(std::move(choice));
  Json chunk = Envelope(head_, std::move(choices));
  if (request_.fields.include_usage) chunk["usage"] = nullptr;
  reply_->Push(ServerSentEvent(chunk));
}

// What comes before a choice's first token: the role of a chat, the prompt of an echo.
void Generation::BeginChoice(size_t prompt, int choice) {
  PromptRun& run = runs_[prompt];
  const auto c = static_cast<size_t>(choice);
  if (run.begun[c]) return;
  run.begun[c] = true;
  const size_t index = prompt * run.begun.size() + c;
  if (request_.chat) {
    StreamChoice({{"index", index},
                  {"delta", {{"role", "assistant"}, {"content", ""}}},
                  {"logprobs", nullptr},
                  {"finish_reason", nullptr}});
  } else if (request_.echo) {
    const std::string text = parts_.model.tokenizer().Decode(request_.prompts[prompt], /*special=*/true);
    run.characters[c] += CountCharacters(text);
    StreamChoice({{"index", index}, {"text", text}, {"logprobs", nullptr}, {"finish_reason", nullptr}});
  }
}

Json Generation::StreamedLogProbs(size_t prompt, const TokenEvent& event) {
  if (!request_.fields.want_log_probs || event.id < 0) return nullptr;
  const Tokenizer& tokenizer = parts_.model.tokenizer();
  if (request_.chat) return {{"content", Json::array({ChatLogProb(tokenizer, event.id, event.log_prob, event.top)})}};
  size_t& characters = runs_[prompt].characters[static_cast<size_t>(event.choice)];
  CompletionLogProbs log_probs(tokenizer, characters);
  log_probs.Add(event.id, event.log_prob, event.top, request_.fields.top_log_probs > 0);
  characters += CountCharacters(tokenizer.TokenBytes(event.id, /*special=*/true));
  return log_probs.Take();
}

void Generation::StreamToken(size_t prompt, const TokenEvent& event) {
  const bool failed =
      event.finish == FinishReason::kCancelled || event.finish == FinishReason::kDeadline;  // OnDone says it
  if (failed) return;
  BeginStream();
  BeginChoice(prompt, event.choice);
  Json log_probs = StreamedLogProbs(prompt, event);
  if (event.text.empty() && log_probs.is_null() && !event.finish) return;
  Json choice = {{"index", prompt * runs_[prompt].begun.size() + static_cast<size_t>(event.choice)}};
  if (request_.chat) {
    choice["delta"] = event.text.empty() ? Json::object() : Json{{"content", event.text}};
  } else {
    choice["text"] = event.text;
  }
  choice["logprobs"] = std::move(log_probs);
  choice["finish_reason"] = event.finish ? Json(FinishName(*event.finish)) : Json();
  if (request_.fields.skip_details && event.id >= 0) choice["gateskip"] = {{"skipped_share", event.skipped_share}};
  StreamChoice(std::move(choice));
}

void Generation::CompleteStream() {
  BeginStream();
  for (size_t i = 0; i < runs_.size(); ++i) {
    // Without a token to generate no event says that a choice has ended.
    if (request_.max_tokens[i] > 0) continue;
    for (int c = 0; c < request_.fields.num_choices; ++c) {
      BeginChoice(i, c);
      StreamToken(i, {.choice = c, .finish = FinishReason::kLength});
    }
  }
  if (request_.fields.include_usage) {
    Json chunk = Envelope(head_, Json::array());
    chunk["usage"] = UsageJson(SumUsage());
    reply_->Push(ServerSentEvent(chunk));
  }
  reply_->Push(kLastEvent);
  reply_->EndStream();
}

void Generation::Complete() {
  CountUsage(SumUsage());
  if (request_.fields.stream) {
    CompleteStream();
    return End();
  }
  if (!request_.fields.want_log_probs) {
    reply_->Send({.body = WholeBody()});
    return End();
  }
  // Log-probabilities of long prompts are megabytes.
  parts_.run_on_worker([self = shared_from_this()] {
    std::string body = self->WholeBody();
    self->parts_.post([self, body = std::move(body)]() mutable {
      if (self->ended_) return;
      self->reply_->Send({.body = std::move(body)});
      self->End();
    });
  });
}

Json Generation::WholeLogProbs(size_t prompt, const ChoiceResult& choice) const {
  const Tokenizer& tokenizer = parts_.model.tokenizer();
  const auto top_of = [](const ScoredTokens& scored, size_t i) -> std::span<const TokenCandidate> {
    return i < scored.top.size() ? std::span(scored.top[i]) : std::span<const TokenCandidate>();
  };
  if (request_.chat) {
    Json content = Json::array();
    for (size_t i = 0; i < choice.token_ids.size(); ++i) {
      content.push_back(
          ChatLogProb(tokenizer, choice.token_ids[i], choice.tokens.log_probs[i], top_of(choice.tokens, i)));
    }
    return {{"content", std::move(content)}};
  }
  CompletionLogProbs log_probs(tokenizer);
  const bool with_top = request_.fields.top_log_probs > 0;
  if (request_.echo) {
    const std::vector<int32_t>& ids = request_.prompts[prompt];
    const ScoredTokens& scored = runs_[prompt].result->prompt;
    log_probs.Add(ids[0], std::nullopt, {}, with_top);
    for (size_t i = 1; i < ids.size(); ++i)
      log_probs.Add(ids[i], scored.log_probs[i - 1], top_of(scored, i - 1), with_top);
  }
  for (size_t i = 0; i < choice.token_ids.size(); ++i) {
    log_probs.Add(choice.token_ids[i], choice.tokens.log_probs[i], top_of(choice.tokens, i), with_top);
  }
  return log_probs.Take();
}

Json Generation::WholeChoice(size_t prompt, size_t choice) const {
  // Nothing to generate: a choice without tokens.
  ChoiceResult none;
  none.finish_reason = FinishReason::kLength;
  const SequenceResult& result = *runs_[prompt].result;
  const ChoiceResult& chosen = choice < result.choices.size() ? result.choices[choice] : none;
  Json json = {{"index", prompt * runs_[prompt].begun.size() + choice}};
  if (request_.chat) {
    json["message"] = {{"role", "assistant"}, {"content", chosen.text}};
  } else {
    const std::string prompt_text =
        request_.echo ? parts_.model.tokenizer().Decode(request_.prompts[prompt], /*special=*/true) : std::string();
    json["text"] = prompt_text + chosen.text;
  }
  json["logprobs"] = request_.fields.want_log_probs ? WholeLogProbs(prompt, chosen) : Json();
  json["finish_reason"] = FinishName(chosen.finish_reason);
  return json;
}

std::string Generation::WholeBody() const {
  Json choices = Json::array();
  for (size_t i = 0; i < runs_.size(); ++i) {
    for (size_t c = 0; c < runs_[i].begun.size(); ++c) choices.push_back(WholeChoice(i, c));
  }
  Json body = Envelope(head_, std::move(choices));
  body["usage"] = UsageJson(SumUsage());
  return Dump(body);
}

Usage Generation::SumUsage() const {
  Usage usage;
  SkipCounts prefill = parts_.model.NoCounts();
  SkipCounts decode = parts_.model.NoCounts();
  for (size_t i = 0; i < runs_.size(); ++i) {
    const SequenceResult& result = *runs_[i].result;
    usage.prompt_tokens += request_.prompts[i].size();
    usage.cached_tokens += result.cached_tokens;
    prefill.Add(result.prefill_counts);
    for (const ChoiceResult& choice : result.choices) {
      usage.completion_tokens += choice.token_ids.size();
      decode.Add(choice.decode_counts);
      usage.drafted_tokens += choice.speculation.drafted;
      usage.accepted_tokens += choice.speculation.accepted;
    }
    usage.queue_seconds = std::max(usage.queue_seconds, result.queue_seconds);
    usage.prefill_seconds = std::max(usage.prefill_seconds, result.prefill_seconds);
    usage.decode_seconds = std::max(usage.decode_seconds, result.decode_seconds);
  }
  usage.prefill = parts_.model.Report(prefill, budgets_.prefill);
  usage.decode = parts_.model.Report(decode, budgets_.decode);
  usage.adapted = budgets_.adapted;
  return usage;
}

void Generation::CountUsage(const Usage& usage) {
  Metrics& metrics = parts_.metrics;
  metrics.prompt_tokens.Increment(static_cast<double>(usage.prompt_tokens));
  metrics.cached_tokens.Increment(static_cast<double>(usage.cached_tokens));
  metrics.generated_tokens.Increment(static_cast<double>(usage.completion_tokens));
  metrics.prompt_seconds.Increment(usage.prefill_seconds);
  metrics.decode_seconds.Increment(usage.decode_seconds);
  metrics.queue_seconds.Observe(usage.queue_seconds);
  metrics.request_seconds.Observe(SecondsSince(received_));
  metrics.drafted_tokens.Increment(static_cast<double>(usage.drafted_tokens));
  metrics.accepted_tokens.Increment(static_cast<double>(usage.accepted_tokens));
  if (usage.adapted) metrics.adapted_requests.Increment();
  for (const SavingReport& saving : {usage.prefill, usage.decode}) {
    metrics.dense_rows.Increment(static_cast<double>(saving.rows));
    metrics.executed_rows.Increment(static_cast<double>(saving.rows) * (1.0 - saving.net));
  }
}

}  // namespace gateskip::server
