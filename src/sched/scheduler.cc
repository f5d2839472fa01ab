// SPDX-License-Identifier: Apache-2.0
// The life of requests: checked, queued, admitted, prompt, choices and continuations, end.
#include "sched/scheduler.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/stopwatch.h"
#include "sched/scheduler_impl.h"

namespace gateskip {
namespace {

constexpr int kMaxChoices = 128;
constexpr int kMaxTopLogProbs = 20;

void CheckRange(const char* subject, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return;
  Fail(ErrorCode::kInvalidArgument, "[request] {}: expected {} to {}, found {}; change it", subject, low, high, value);
}

const SchedulerOptions& Checked(const SchedulerOptions& options) {
  for (const int value : {options.max_rows, options.max_sequences, options.max_positions, options.max_prompt_rows}) {
    if (value >= 1) continue;
    Fail(ErrorCode::kInvalidArgument, "[scheduler] options: expected limits of at least 1, found {}; raise it", value);
  }
  return options;
}

}  // namespace

Scheduler::Impl::Impl(const LoadedModel& model, const SchedulerOptions& options)
    : model_(model),
      options_(Checked(options)),
      step_(MakeStep(model, options.max_rows)),
      kv_(step_.kv_shape, model.transformer->config.num_layers,
          KvCache::PagesFor(static_cast<size_t>(options.max_positions)), options.prefix_cache),
      scratch_(static_cast<size_t>(model.pool->num_threads())) {}

void Scheduler::Impl::Check(const SequenceRequest& request) const {
  const ModelConfig& config = model_.transformer->config;
  const auto check_id = [&](int32_t id, const char* subject) {
    if (id >= 0 && id < config.vocab_size) return;
    Fail(ErrorCode::kInvalidArgument,
         "[request] {}: expected token ids of 0 to {}, found {}; use this model's tokenizer", subject,
         config.vocab_size - 1, id);
  };
  const auto check_ids = [&](std::span<const int32_t> ids, const char* subject) {
    if (ids.empty()) {
      Fail(ErrorCode::kInvalidArgument,
           "[request] {}: expected at least one token, found none; pass a text that is not empty", subject);
    }
    for (const int32_t id : ids) check_id(id, subject);
  };
  GS_CHECK(request.prefill != nullptr && request.decode != nullptr);
  check_ids(request.prompt, "prompt");
  ValidateSpeculation(model_, request.speculation);
  CheckRange("max_tokens", request.max_tokens, 0, std::numeric_limits<int>::max());
  CheckRange("n", request.num_choices, 1, kMaxChoices);
  CheckRange("top_logprobs", request.top_log_probs, 0, kMaxTopLogProbs);
  for (const auto& [id, bias] : request.sampling.logit_bias) check_id(id, "logit_bias");
  auto longest = static_cast<size_t>(request.max_tokens);
  for (const auto& tokens : request.continuations) {
    check_ids(tokens, "continuation");
    longest = std::max(longest, tokens.size() - 1);  // the last one is scored, not run
  }
  if (request.prompt.size() + longest > static_cast<size_t>(config.context_length)) {
    Fail(ErrorCode::kLimitExceeded,
         "[request] length: expected at most {} tokens (the model's context), found {} and {} after them; shorten the "
         "text",
         config.context_length, request.prompt.size(), longest);
  }
}

uint64_t Scheduler::Impl::Add(SequenceRequest request, Done done) {
  Check(request);
  auto job = std::make_shared<Job>(model_, std::move(request), std::move(done));
  if (options_.refuse_oversized && kv_.Exceeds(job->WorstPages())) {
    Fail(ErrorCode::kLimitExceeded,
         "[request] size: expected to need at most {} positions of the KV cache, found {}; ask for fewer tokens or "
         "choices, or raise the limit",
         kv_.max_pages() * kernels::kKvPagePositions, job->WorstPages() * kernels::kKvPagePositions);
  }
  job->id = ++last_id_;
  queue_.Push(std::move(job));
  return last_id_;
}

bool Scheduler::Impl::Cancel(uint64_t id) {
  std::shared_ptr<Job> job = queue_.Remove(id);
  if (const auto running = running_.find(id); running != running_.end()) job = running->second;
  if (job == nullptr) return false;
  job->result.finish_reason = FinishReason::kCancelled;
  ++stats_.cancelled;
  std::erase_if(messages_, [&](const Message& message) { return message.job == job; });
  EndJob(job);
  Deliver();
  return true;
}

void Scheduler::Impl::DropExpired() {
  for (const std::shared_ptr<Job>& job : queue_.RemoveExpired(Job::Clock::now())) {
    job->result.finish_reason = FinishReason::kDeadline;
    ++stats_.expired;
    EndJob(job);
  }
}

void Scheduler::Impl::Admit() {
  while (const std::shared_ptr<Job> job = queue_.Front()) {
    const bool alone = running_.empty();
    const size_t sequences = job->NumSequences();
    if (!alone && sequences_ + sequences > static_cast<size_t>(options_.max_sequences)) return;
    Lane lane = {.job = job, .kv = KvSequence(model_.transformer->config.num_layers), .ids = job->request.prompt};
    const SequenceRequest& request = job->request;
    if (!kv_.Admit(request.prefill, request.use_adapter, request.prompt, job->WorstPages(), job->ReusablePages(), alone,
                   &job->lease, &lane.kv)) {
      return;
    }
    queue_.Pop();
    job->admitted = Job::Clock::now();
    running_.emplace(job->id, job);
    sequences_ += sequences;
    ++stats_.prompts;
    lanes_.push_back(std::move(lane));
    SkipCached(lanes_.back(), lanes_.back().kv.pages.size());
  }
}

void Scheduler::Impl::SkipCached(Lane& lane, size_t pages) {
  if (pages == 0) return;
  SequenceResult& result = lane.job->result;
  if (result.cached_tokens == 0) ++stats_.prompts_cached;
  const size_t positions = pages * kernels::kKvPagePositions;
  lane.next += positions;
  result.cached_tokens += positions;
  stats_.cached_tokens += positions;
}

void Scheduler::Impl::PromptIsThrough(Lane& lane, float skipped_share) {
  Job& job = *lane.job;
  const size_t length = job.request.prompt.size();
  job.prefilled = Job::Clock::now();
  const auto spawn = [&]() -> Lane& {
    lanes_.push_back({.job = lane.job, .kv = kv_.Fork(lane.kv, length), .ids = job.request.prompt, .next = length});
    ++job.open_lanes;
    return lanes_.back();
  };
  for (size_t c = 0; c < job.request.continuations.size(); ++c) {
    const std::vector<int32_t>& tokens = job.request.continuations[c];
    if (tokens.size() < 2) continue;  // scored with the prompt
    Lane& continuation = spawn();
    continuation.continuation = static_cast<int>(c);
    continuation.ids.insert(continuation.ids.end(), tokens.begin(), tokens.end());
  }
  if (!job.Generates()) return EndLane(lane);
  std::vector<Lane*> choices = {&lane};
  for (size_t c = 1; c < job.choices.size(); ++c) {
    choices.push_back(&spawn());
    choices.back()->choice = static_cast<int>(c);
  }
  for (Lane* choice : choices) {
    choice->decoding = true;
    Choice& drawn = job.choices[static_cast<size_t>(choice->choice)];
    Draw draw = std::move(drawn.draws.front());
    drawn.draws.clear();
    TakeDraw(*choice, std::move(draw), skipped_share);
  }
}

bool Scheduler::Impl::TakeDraw(Lane& lane, Draw draw, float skipped_share) {
  Job& job = *lane.job;
  const auto c = static_cast<size_t>(lane.choice);
  Choice& choice = job.choices[c];
  ChoiceResult& result = job.result.choices[c];
  if (!job.request.ignore_eos && model_.tokenizer->IsEndOfGeneration(draw.id)) {
    EndChoice(lane, FinishReason::kEndOfText);
    return false;
  }
  result.token_ids.push_back(draw.id);
  lane.ids.push_back(draw.id);
  ++stats_.generated_tokens;
  if (job.WantsScores()) {
    result.tokens.log_probs.push_back(draw.log_prob);
    result.tokens.is_greedy.push_back(draw.is_greedy ? 1 : 0);
    if (job.request.top_log_probs > 0) result.tokens.top.push_back(draw.top);
  }
  const size_t told = result.text.size();
  choice.sink.Push(draw.id);
  if (job.request.on_token) {
    messages_.push_back({lane.job, TokenEvent{.choice = lane.choice,
                                              .id = draw.id,
                                              .text = result.text.substr(told),
                                              .log_prob = draw.log_prob,
                                              .top = std::move(draw.top),
                                              .skipped_share = skipped_share}});
  }
  const bool full = result.token_ids.size() >= static_cast<size_t>(job.request.max_tokens);
  const bool ends = choice.sink.stopped() || full;
  if (ends) EndChoice(lane, FinishReason::kLength);
  return !ends;
}

void Scheduler::Impl::EndChoice(Lane& lane, FinishReason reason) {
  Job& job = *lane.job;
  const auto c = static_cast<size_t>(lane.choice);
  ChoiceResult& result = job.result.choices[c];
  const size_t told = result.text.size();
  job.choices[c].sink.Finish();
  result.finish_reason = job.choices[c].sink.stopped() ? FinishReason::kStopString : reason;
  if (job.request.on_token) {
    messages_.push_back(
        {lane.job,
         TokenEvent{.choice = lane.choice, .text = result.text.substr(told), .finish = result.finish_reason}});
  }
  EndLane(lane);
}

void Scheduler::Impl::EndLane(Lane& lane) {
  const std::shared_ptr<Job> job = lane.job;
  const SequenceRequest& request = job->request;
  // What was decoded under the plan of prompts is what a prompt would have left (law L6): the next turn of a
  // conversation goes on from there.
  const bool as_prompt =
      !lane.is_continuation() && (request.prefill == request.decode || *request.prefill == *request.decode);
  kv_.Return(job->lease, as_prompt ? std::span(lane.ids).first(lane.next) : std::span<const int32_t>{}, &lane.kv);
  lanes_.remove_if([&](const Lane& other) { return &other == &lane; });
  if (--job->open_lanes > 0) return;
  if (!job->result.choices.empty()) job->result.finish_reason = job->result.choices[0].finish_reason;
  ++stats_.finished;
  EndJob(job);
}

void Scheduler::Impl::EndJob(const std::shared_ptr<Job>& job) {
  for (Lane& lane : lanes_) {
    if (lane.job == job) kv_.Return(job->lease, {}, &lane.kv);
  }
  lanes_.remove_if([&](const Lane& lane) { return lane.job == job; });
  SequenceResult& result = job->result;
  const Job::Clock::time_point now = Job::Clock::now();
  if (running_.erase(job->id) > 0) {
    kv_.End(&job->lease);
    sequences_ -= job->NumSequences();
    const bool through = job->prefilled != Job::Clock::time_point{};
    result.queue_seconds = SecondsBetween(job->added, job->admitted);
    result.prefill_seconds = SecondsBetween(job->admitted, through ? job->prefilled : now);
    result.decode_seconds = through ? SecondsBetween(job->prefilled, now) : 0.0;
  } else {
    result.queue_seconds = SecondsBetween(job->added, now);
  }
  messages_.push_back({job, std::nullopt});
}

bool Scheduler::Impl::EndFailedJobs() {
  std::vector<std::shared_ptr<Job>> failed;
  for (const auto& [id, job] : running_) {
    if (job->result.error) failed.push_back(job);
  }
  for (const std::shared_ptr<Job>& job : failed) {
    job->result.finish_reason = FinishReason::kCancelled;
    ++stats_.cancelled;
    EndJob(job);
  }
  return !failed.empty();
}

void Scheduler::Impl::Deliver() {
  if (delivering_) return;  // the call that is under way comes to the new ones
  delivering_ = true;
  try {
    while (!messages_.empty()) {
      Message message = std::move(messages_.front());
      messages_.pop_front();
      if (message.token) {
        message.job->request.on_token(std::move(*message.token));
      } else {
        message.job->done(std::move(message.job->result));
      }
    }
  } catch (...) {
    delivering_ = false;
    throw;
  }
  delivering_ = false;
}

bool Scheduler::Impl::Step() {
  GS_CHECK(!delivering_);
  DropExpired();
  Admit();
  if (!lanes_.empty()) {
    FillRows();
    if (!step_.rows.empty()) {
      step_.on_logits = [&](size_t first, ConstMatrixView logits) { TakeLogits(first, logits.rows); };
      const SteadyClock::time_point start = SteadyClock::now();
      model_.transformer->Forward(step_);
      step_.on_logits = nullptr;
      NoteDraftCosts(SecondsSince(start));
      AdvanceLanes();
    }
    const bool some_failed = EndFailedJobs();
    GS_CHECK(some_failed || !step_.rows.empty());  // else nothing would ever come of the lanes
  }
  Deliver();
  return !lanes_.empty() || !queue_.empty();
}

SchedulerStats Scheduler::Impl::stats() const {
  SchedulerStats stats = stats_;
  stats.waiting = queue_.size();
  stats.running = running_.size();
  stats.pages_in_use = kv_.pages_in_use();
  stats.pages_total = kv_.max_pages();
  stats.cached_pages = kv_.cache().pages();
  stats.idle_cached_pages = kv_.cache().idle_pages();
  return stats;
}

Scheduler::Scheduler(const LoadedModel& model, const SchedulerOptions& options)
    : impl_(std::make_unique<Impl>(model, options)) {}
Scheduler::~Scheduler() = default;
uint64_t Scheduler::Add(SequenceRequest request, Done done) { return impl_->Add(std::move(request), std::move(done)); }
bool Scheduler::Cancel(uint64_t id) { return impl_->Cancel(id); }
bool Scheduler::Step() { return impl_->Step(); }
size_t Scheduler::waiting() const { return impl_->waiting(); }
SchedulerStats Scheduler::stats() const { return impl_->stats(); }

}  // namespace gateskip
