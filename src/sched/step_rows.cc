// SPDX-License-Identifier: Apache-2.0
// What goes into a step, and what comes out of it.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "sched/scheduler_impl.h"
#include "sched/token_scores.h"

namespace gateskip {

void Scheduler::Impl::FillRows() {
  step_.rows.clear();
  lane_rows_.clear();
  wanted_.clear();
  ChooseAdapter();
  stats_.decode_rows = AppendDecodeRows();
  AppendPromptRows(static_cast<size_t>(options_.max_rows) - stats_.decode_rows);
  stats_.prompt_rows = step_.rows.size() - stats_.decode_rows;
}

// A step runs with the adapter or without: in turn, if there are requests of both kinds.
void Scheduler::Impl::ChooseAdapter() {
  const bool last = step_.use_adapter;
  if (std::ranges::any_of(lanes_, [&](const Lane& lane) { return lane.job->request.use_adapter != last; })) {
    step_.use_adapter = !last;
  }
}

size_t Scheduler::Impl::AppendDecodeRows() {
  std::vector<Lane*> lanes;
  for (Lane& lane : lanes_) {
    if (lane.decoding && lane.job->request.use_adapter == step_.use_adapter) lanes.push_back(&lane);
  }
  if (lanes.size() > static_cast<size_t>(options_.max_rows)) {
    std::ranges::stable_sort(lanes, {}, [](const Lane* lane) { return lane->last_turn; });
    lanes.resize(static_cast<size_t>(options_.max_rows));
  }
  for (Lane* lane : lanes) AppendRows(*lane, 1);
  return step_.rows.size();
}

void Scheduler::Impl::AppendPromptRows(size_t room) {
  std::vector<Lane*> lanes;
  std::vector<PromptLane> asking;
  for (Lane& lane : lanes_) {
    Job& job = *lane.job;
    if (lane.decoding || job.request.use_adapter != step_.use_adapter) continue;
    const bool at_end_of_path =
        lane.kv.pages.size() == job.lease.path.pages() && lane.next == lane.kv.pages.size() * kernels::kKvPagePositions;
    if (!lane.is_continuation() && at_end_of_path) {
      SkipCached(lane, kv_.TakeCached(&job.lease, job.request.prompt, job.ReusablePages(), &lane.kv));
    }
    lanes.push_back(&lane);
    asking.push_back({.key = job.request.fairness_key, .position = lane.next, .remaining = lane.end() - lane.next});
  }
  const bool someone_waits = std::ranges::any_of(lanes_, &Lane::decoding);
  size_t max_cost = static_cast<size_t>(someone_waits ? options_.max_prompt_rows : options_.max_rows) * kRowCostUnit;
  for (const StepRow& row : step_.rows) max_cost += RowCost(static_cast<size_t>(row.position));
  const std::vector<size_t> rows = deal_.Deal(asking, {.max_rows = room, .max_cost = max_cost});
  for (size_t i = 0; i < lanes.size(); ++i) {
    if (rows[i] > 0) AppendRows(*lanes[i], rows[i]);
  }
}

void Scheduler::Impl::AppendRows(Lane& lane, size_t count) {
  const SequenceRequest& request = lane.job->request;
  const size_t begin = step_.rows.size();
  try {
    kv_.Grow(&lane.kv, lane.next + count);
  } catch (const Error& error) {
    lane.job->result.error = error;
    return;
  }
  for (size_t p = lane.next; p < lane.next + count; ++p) {
    const bool wants_logits = lane.WantsLogits(p);
    if (wants_logits) wanted_.push_back({.lane = &lane, .position = p});
    step_.rows.push_back({.token = lane.ids[p],
                          .position = static_cast<int32_t>(p),
                          .sequence = &lane.kv,
                          .plan = (lane.decoding ? request.decode : request.prefill).get(),
                          .wants_logits = wants_logits});
  }
  lane_rows_.push_back({.lane = &lane, .begin = begin, .end = step_.rows.size()});
  lane.last_turn = ++last_turn_;
}

void Scheduler::Impl::TakeLogits(size_t first, size_t count) {
  model_.pool->ParallelFor(count, 1, [&](size_t begin, size_t end, int thread) {
    for (size_t i = begin; i < end; ++i) {
      WantedRow& row = wanted_[first + i];
      try {
        TakeRow(row, step_.logits.row_span(i), &scratch_[static_cast<size_t>(thread)]);
      } catch (const Error& error) {
        row.error = error;
      }
    }
  });
}

void Scheduler::Impl::TakeRow(const WantedRow& row, std::span<float> logits, std::vector<float>* scratch) const {
  const Lane& lane = *row.lane;
  Job& job = *lane.job;
  const SequenceRequest& request = job.request;
  const size_t next = row.position + 1;
  if (lane.is_continuation()) {
    const auto c = static_cast<size_t>(lane.continuation);
    return RowScores(logits).Write(lane.ids[next], next - request.prompt.size(), 0, &job.result.continuations[c]);
  }
  if (next < request.prompt.size()) {
    return RowScores(logits).Write(lane.ids[next], row.position, request.top_log_probs, &job.result.prompt);
  }
  const bool prompt_ends = !lane.decoding;
  std::optional<RowScores> scores;
  if (job.WantsScores() || (prompt_ends && !request.continuations.empty())) scores.emplace(logits);
  for (size_t c = 0; c < request.continuations.size() && prompt_ends; ++c) {
    scores->Write(request.continuations[c][0], 0, 0, &job.result.continuations[c]);
  }
  // At the end of the prompt all choices draw from this row.
  const size_t begin = prompt_ends ? 0 : static_cast<size_t>(lane.choice);
  const size_t end = prompt_ends ? job.choices.size() : begin + 1;
  for (size_t c = begin; c < end; ++c) {
    Draw& draw = job.choices[c].draw;
    const bool needed_again = c + 1 < end || scores;  // the sampler changes what it is given
    if (needed_again) scratch->assign(logits.begin(), logits.end());
    draw.id = job.choices[c].sampler.Sample(needed_again ? std::span<float>(*scratch) : logits, lane.ids);
    if (!job.WantsScores()) continue;
    draw.log_prob = scores->LogProb(draw.id);
    draw.is_greedy = scores->IsGreedy(draw.id);
    if (request.top_log_probs > 0) draw.top = scores->Top(request.top_log_probs);
  }
}

float Scheduler::Impl::SkippedShare(size_t row) const {
  const auto branches = static_cast<size_t>(model_.transformer->config.num_branches());
  size_t skipped = 0;
  for (size_t b = 0; b < branches; ++b) skipped += (step_.events[b * step_.rows.size() + row] & kRan) == 0 ? 1 : 0;
  return static_cast<float>(skipped) / static_cast<float>(branches);
}

void Scheduler::Impl::CountStep() {
  ++stats_.steps;
  stats_.prompt_tokens += stats_.prompt_rows;
  const SkipCounts counts = step_.Counts(0, step_.rows.size());
  for (size_t b = 0; b < counts.run.size(); b += 2) {
    stats_.attention_run += counts.run[b];
    stats_.attention_skipped += counts.skipped[b];
    stats_.mlp_run += counts.run[b + 1];
    stats_.mlp_skipped += counts.skipped[b + 1];
  }
}

void Scheduler::Impl::AdvanceLanes() {
  CountStep();
  for (const WantedRow& row : wanted_) {
    if (row.error) row.lane->job->result.error = row.error;
  }
  for (const LaneRows& rows : lane_rows_) {
    const std::shared_ptr<Job> job = rows.lane->job;
    if (job->result.error) continue;
    try {
      Advance(rows);
    } catch (const Error& error) {
      job->result.error = error;
    }
  }
}

void Scheduler::Impl::Advance(const LaneRows& rows) {
  Lane& lane = *rows.lane;
  Job& job = *lane.job;
  SkipCounts& counts =
      lane.decoding ? job.result.choices[static_cast<size_t>(lane.choice)].decode_counts : job.result.prefill_counts;
  counts.Add(step_.Counts(rows.begin, rows.end));
  lane.next += rows.end - rows.begin;
  const float skipped_share = SkippedShare(rows.end - 1);
  if (lane.decoding) {
    TakeDraw(lane, skipped_share);
  } else if (lane.is_continuation()) {
    if (lane.next == lane.end()) EndLane(lane);
  } else {
    kv_.Offer(&job.lease, lane.ids, lane.next, &lane.kv);
    if (lane.next == lane.end()) PromptIsThrough(lane, skipped_share);
  }
}

}  // namespace gateskip
