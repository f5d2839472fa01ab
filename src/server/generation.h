// SPDX-License-Identifier: Apache-2.0
// One request for text on its way: its prompts go to the engine, tokens and results come back, and become an answer,
// whole or streamed. Lives on the thread of the HTTP side.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/api_request.h"
#include "server/api_response.h"
#include "server/budget_policy.h"
#include "server/engine_loop.h"
#include "server/metrics.h"
#include "server/reply.h"
#include "server/served_model.h"

namespace gateskip::server {

// A request that has been parsed and tokenised.
struct PreparedRequest {
  bool chat = false;
  bool echo = false;
  GenerationFields fields;
  std::vector<std::vector<int32_t>> prompts = {};
  std::vector<int> max_tokens = {};  // [prompts]

  size_t sequences() const { return prompts.size() * static_cast<size_t>(fields.num_choices); }
  size_t prompt_tokens() const;
};

// From a body; on any thread. Throws Error, RequestError.
PreparedRequest PrepareCompletion(const ServedModel& model, std::string_view body);
PreparedRequest PrepareChat(const ServedModel& model, std::string_view body, int default_max_tokens);

// What a generation uses of its surroundings; all of it outlives it.
struct GenerationParts {
  const ServedModel& model;
  EngineLoop& engine;
  Metrics& metrics;
  // Runs long work elsewhere.
  std::function<void(std::function<void()>)> run_on_worker;
  // Runs on the thread of the HTTP side.
  std::function<void(std::function<void()>)> post;
};

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  struct Callbacks {
    std::function<void(size_t prompt_tokens)> on_started;  // a prompt is through
    std::function<void()> on_end;                          // nothing will happen any more
  };

  Generation(GenerationParts parts, PreparedRequest request, Budgets budgets, std::shared_ptr<Reply> reply);

  void Start(const std::string& fairness_key, std::chrono::steady_clock::time_point received,
             std::chrono::milliseconds queue_timeout, Callbacks callbacks);
  // Tells a streaming client that has had nothing for `quiet` that its request lives, lest something between closes it.
  void KeepAlive(std::chrono::steady_clock::time_point now, std::chrono::milliseconds quiet);
  // Ends it with an error for the client.
  void Fail(const ApiError& error);

 private:
  // A prompt and what has come of it.
  struct PromptRun {
    uint64_t engine_id = 0;
    bool started = false;
    std::optional<SequenceResult> result;
    std::vector<size_t> characters;  // [choices] streamed so far, for text_offset
    std::vector<bool> begun;         // [choices] whether its first chunk is out
  };

  SequenceRequest MakeSequence(size_t prompt) const;
  void OnToken(size_t prompt, TokenEvent&& event);
  void OnDone(size_t prompt, EngineOutcome&& outcome);
  void OnGone();
  void NoteStarted(size_t prompt);

  void StreamToken(size_t prompt, const TokenEvent& event);
  void StreamChoice(Json choice);
  void BeginStream();
  void BeginChoice(size_t prompt, int choice);
  Json StreamedLogProbs(size_t prompt, const TokenEvent& event);

  void Complete();
  void CompleteStream();
  std::string WholeBody() const;
  Json WholeChoice(size_t prompt, size_t choice) const;
  Json WholeLogProbs(size_t prompt, const ChoiceResult& choice) const;
  Usage SumUsage() const;
  void CountUsage(const Usage& usage);
  void End();

  const GenerationParts parts_;
  const PreparedRequest request_;
  const Budgets budgets_;
  std::shared_ptr<Reply> reply_;
  Callbacks callbacks_;
  AnswerHead head_;
  std::chrono::steady_clock::time_point received_;
  std::chrono::steady_clock::time_point last_sent_;  // to a stream
  std::vector<PromptRun> runs_;
  size_t open_prompts_;
  bool streaming_ = false;  // the header is out
  bool ended_ = false;
};

}  // namespace gateskip::server
