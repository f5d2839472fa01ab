// SPDX-License-Identifier: Apache-2.0
#include "sched/scheduler.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "runtime/sampler.h"
#include "runtime/text_sink.h"

namespace gateskip {
namespace {

constexpr int kPrompt = -1;

size_t Positions(const SequenceRequest& request) {
  size_t positions = request.prompt.size() + static_cast<size_t>(std::max(0, request.max_tokens));
  // A continuation has its own copy of the prompt's last, unfinished page.
  for (const auto& tokens : request.continuations) positions += tokens.size() + kernels::kKvPagePositions;
  return positions;
}

}  // namespace

// A request on its way to its result.
struct Scheduler::Job {
  Job(const LoadedModel& model, SequenceRequest asked, Done on_done)
      : request(std::move(asked)),
        done(std::move(on_done)),
        sampler(request.sampling),
        sink(model.tokenizer, request.stop, nullptr, &result.text) {
    const int branches = model.transformer->config.num_branches();
    result.prefill_counts = SkipCounts(branches);
    result.decode_counts = SkipCounts(branches);
    if (request.score_prompt) Reserve(request.prompt.size() - 1, &result.prompt);
    result.continuations.resize(request.continuations.size());
    for (size_t i = 0; i < result.continuations.size(); ++i) {
      Reserve(request.continuations[i].size(), &result.continuations[i]);
    }
  }

  static void Reserve(size_t tokens, ScoredTokens* scored) {
    scored->log_probs.resize(tokens);
    scored->is_greedy.resize(tokens);
  }

  SequenceRequest request;
  SequenceResult result;
  Done done;
  Sampler sampler;
  TextSink sink;
  int open_lanes = 1;
};

// One sequence of rows: a job's prompt (and what is generated after it), or one of its continuations.
struct Scheduler::Lane {
  std::shared_ptr<Job> job;
  KvSequence kv;
  std::vector<int32_t> ids;
  int continuation = kPrompt;
  size_t next = 0;  // the first position that has not run
  bool decoding = false;
  bool ended = false;

  size_t prompt_size() const { return job->request.prompt.size(); }
  // The last token of a continuation is scored, not run.
  size_t end() const { return continuation == kPrompt ? ids.size() : ids.size() - 1; }
  bool WantsLogits(size_t position) const {
    if (continuation != kPrompt || job->request.score_prompt) return true;
    return position + 1 == ids.size() && (job->request.max_tokens > 0 || !job->request.continuations.empty());
  }
};

struct Scheduler::WantedRow {
  Lane* lane;
  size_t position;
};

Scheduler::Scheduler(const LoadedModel& model, const SchedulerOptions& options)
    : model_(model),
      options_(options),
      kv_({static_cast<size_t>(model.transformer->config.num_kv_heads),
           static_cast<size_t>(model.transformer->config.head_dim), KvTypeOf(options.compute)},
          model.transformer->config.num_layers),
      step_(MakeStep(model.transformer->config, options.compute, options.max_rows)) {}

Scheduler::~Scheduler() = default;

void Scheduler::Check(const SequenceRequest& request) const {
  const ModelConfig& config = model_.transformer->config;
  const auto check_ids = [&](std::span<const int32_t> ids, const char* subject) {
    if (ids.empty()) {
      Fail(ErrorCode::kInvalidArgument,
           "[request] {}: expected at least one token, found none; pass a text that is not empty", subject);
    }
    for (const int32_t id : ids) {
      if (id >= 0 && id < config.vocab_size) continue;
      Fail(ErrorCode::kInvalidArgument,
           "[request] {}: expected token ids of 0 to {}, found {}; use this model's tokenizer", subject,
           config.vocab_size - 1, id);
    }
  };
  check_ids(request.prompt, "prompt");
  size_t longest = static_cast<size_t>(std::max(0, request.max_tokens));
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

void Scheduler::Add(SequenceRequest request, Done done) {
  Check(request);
  queue_.push_back(std::make_shared<Job>(model_, std::move(request), std::move(done)));
}

void Scheduler::Admit() {
  while (!queue_.empty()) {
    const std::shared_ptr<Job>& job = queue_.front();
    const size_t positions = Positions(job->request);
    const size_t sequences = std::max<size_t>(1, job->request.continuations.size());
    const bool fits = positions_in_use_ + positions <= static_cast<size_t>(options_.max_positions) &&
                      lanes_.size() + sequences <= static_cast<size_t>(options_.max_sequences);
    if (!fits && !lanes_.empty()) return;
    positions_in_use_ += positions;
    lanes_.push_back({.job = job, .kv = KvSequence(model_.transformer->config.num_layers), .ids = job->request.prompt});
    queue_.pop_front();
  }
}

void Scheduler::FillRows() {
  step_.rows.clear();
  wanted_.clear();
  step_.use_adapter = lanes_.front().job->request.use_adapter;
  const auto take = [&](Lane& lane, bool decoding) {
    if (lane.decoding != decoding || lane.job->request.use_adapter != step_.use_adapter) return;
    const SkipPlan* plan = (decoding ? lane.job->request.decode : lane.job->request.prefill).get();
    const size_t room = static_cast<size_t>(options_.max_rows) - step_.rows.size();
    const size_t last = std::min(lane.end(), lane.next + room);
    kv_.Grow(&lane.kv, last);
    for (size_t p = lane.next; p < last; ++p) {
      const bool wants_logits = lane.WantsLogits(p);
      if (wants_logits) wanted_.push_back({&lane, p});
      step_.rows.push_back({.token = lane.ids[p],
                            .position = static_cast<int32_t>(p),
                            .sequence = &lane.kv,
                            .plan = plan,
                            .wants_logits = wants_logits});
    }
  };
  for (Lane& lane : lanes_) take(lane, true);
  for (Lane& lane : lanes_) take(lane, false);
}

void Scheduler::ScoreRow(const WantedRow& row, std::span<const float> logits) const {
  const Lane& lane = *row.lane;
  Job& job = *lane.job;
  const float log_sum = kernels::LogSumExp(logits);
  const auto best = static_cast<int32_t>(kernels::ArgMax(logits));
  const auto score = [&](int32_t token, size_t index, ScoredTokens* scored) {
    scored->log_probs[index] = logits[static_cast<size_t>(token)] - log_sum;
    scored->is_greedy[index] = token == best;
  };
  if (lane.continuation != kPrompt) {
    const size_t index = row.position + 1 - lane.prompt_size();
    score(lane.ids[row.position + 1], index, &job.result.continuations[static_cast<size_t>(lane.continuation)]);
    return;
  }
  if (row.position + 1 < lane.prompt_size()) {
    score(lane.ids[row.position + 1], row.position, &job.result.prompt);
    return;
  }
  for (size_t c = 0; c < job.request.continuations.size(); ++c) {
    score(job.request.continuations[c][0], 0, &job.result.continuations[c]);
  }
}

void Scheduler::Continue(Lane& lane, std::span<float> logits) {
  Job& job = *lane.job;
  SequenceResult& result = job.result;
  const int32_t id = job.sampler.Sample(logits, lane.ids);
  if (!job.request.ignore_eos && model_.tokenizer->IsEndOfGeneration(id)) {
    result.finish_reason = FinishReason::kEndOfText;
    lane.ended = true;
    return;
  }
  result.token_ids.push_back(id);
  lane.ids.push_back(id);
  lane.decoding = true;
  job.sink.Push(id);
  lane.ended = job.sink.stopped() || result.token_ids.size() >= static_cast<size_t>(job.request.max_tokens);
}

void Scheduler::TakeLogits(size_t first, ConstMatrixView logits) {
  model_.pool->ParallelFor(logits.rows, 1, [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; ++i) {
      const WantedRow& row = wanted_[first + i];
      if (row.position < row.lane->prompt_size() || row.lane->continuation != kPrompt) {
        ScoreRow(row, logits.row_span(i));
      }
    }
  });
  for (size_t i = 0; i < logits.rows; ++i) {
    const WantedRow& row = wanted_[first + i];
    const bool last = row.lane->continuation == kPrompt && row.position + 1 == row.lane->ids.size();
    if (last && row.lane->job->request.max_tokens > 0) Continue(*row.lane, step_.logits.row_span(i));
  }
}

void Scheduler::SpawnContinuations(Lane& prompt) {
  const SequenceRequest& request = prompt.job->request;
  for (size_t c = 0; c < request.continuations.size(); ++c) {
    if (request.continuations[c].size() < 2) continue;  // scored with the prompt
    Lane lane = {.job = prompt.job,
                 .kv = kv_.Fork(prompt.kv, request.prompt.size()),
                 .ids = request.prompt,
                 .continuation = static_cast<int>(c),
                 .next = request.prompt.size()};
    lane.ids.insert(lane.ids.end(), request.continuations[c].begin(), request.continuations[c].end());
    ++prompt.job->open_lanes;
    lanes_.push_back(std::move(lane));
  }
}

void Scheduler::EndLane(std::list<Lane>::iterator lane) {
  const std::shared_ptr<Job> job = lane->job;
  kv_.Shrink(&lane->kv, 0);
  lanes_.erase(lane);
  if (--job->open_lanes > 0) return;
  positions_in_use_ -= Positions(job->request);
  if (job->request.max_tokens > 0) {
    job->sink.Finish();
    if (job->sink.stopped()) job->result.finish_reason = FinishReason::kStopString;
  }
  job->done(std::move(job->result));
}

void Scheduler::AdvanceLanes() {
  // Rows of a lane are neighbours in the step.
  size_t row = 0;
  while (row < step_.rows.size()) {
    const auto lane = std::ranges::find_if(lanes_, [&](const Lane& l) { return &l.kv == step_.rows[row].sequence; });
    const size_t begin = row;
    while (row < step_.rows.size() && step_.rows[row].sequence == &lane->kv) ++row;
    SequenceResult& result = lane->job->result;
    // A lane that has begun to decode in this very step ran the end of its prompt.
    const bool decoded =
        static_cast<size_t>(step_.rows[begin].position) >= lane->prompt_size() && lane->continuation == kPrompt;
    (decoded ? result.decode_counts : result.prefill_counts).Add(step_.Counts(begin, row));
    const bool prompt_ends = lane->continuation == kPrompt && lane->next < lane->prompt_size() &&
                             lane->next + (row - begin) == lane->prompt_size();
    lane->next += row - begin;
    if (prompt_ends) SpawnContinuations(*lane);
    const bool generates = lane->continuation == kPrompt && lane->job->request.max_tokens > 0;
    if (lane->ended || (!generates && lane->next == lane->end())) EndLane(lane);
  }
}

bool Scheduler::Step() {
  Admit();
  if (lanes_.empty()) return false;
  FillRows();
  step_.on_logits = [&](size_t first, ConstMatrixView logits) { TakeLogits(first, logits); };
  model_.transformer->Forward(step_);
  step_.on_logits = nullptr;
  AdvanceLanes();
  return true;
}

}  // namespace gateskip
