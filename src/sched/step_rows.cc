// SPDX-License-Identifier: Apache-2.0
// What goes into a step, and what comes out of it.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "sched/scheduler_impl.h"
#include "sched/token_scores.h"

namespace gateskip {
namespace {

// Up to so many rows a step takes little longer than with one: the weights are read once for all of them. SmolLM2-135M
// on two AVX-512 cores.
constexpr size_t kRowsAtTheCostOfOne = 8;

}  // namespace

void Scheduler::Impl::FillRows() {
  step_.rows.clear();
  lane_rows_.clear();
  wanted_.clear();
  BeginDrafts();
  ChooseAdapter();
  stats_.decode_rows = AppendDecodeRows();
  AppendPromptRows(static_cast<size_t>(options_.max_rows) - stats_.decode_rows);
  stats_.prompt_rows = step_.rows.size() - stats_.decode_rows;
}

// A step runs with the adapter or without: in turn, if there are requests of both kinds.
void Scheduler::Impl::ChooseAdapter() {
  const bool last = step_.use_adapter;
  if (std::ranges::any_of(lanes_, [&](const Lane& lane) { return lane.uses_adapter() != last; })) {
    step_.use_adapter = !last;
  }
}

// A row of every sequence that decodes; more of one whose drafted tokens are to be verified, where there is room.
size_t Scheduler::Impl::AppendDecodeRows() {
  std::vector<Lane*> lanes;
  for (Lane& lane : lanes_) {
    if (lane.decoding && lane.uses_adapter() == step_.use_adapter) lanes.push_back(&lane);
  }
  const auto max_rows = static_cast<size_t>(options_.max_rows);
  if (lanes.size() > max_rows) {
    std::ranges::stable_sort(lanes, {}, [](const Lane* lane) { return lane->last_turn; });
    lanes.resize(max_rows);
  }
  size_t spare = max_rows - lanes.size();
  for (Lane* lane : lanes) {
    if (lane->drafts()) {
      AppendRows(*lane, lane->drafter->ids().last(1), true);
      continue;
    }
    if (lane->draft_open) {
      lane->drafter->Shorten(spare);
      spare -= lane->drafter->tokens().size();
    }
    AppendRows(*lane, std::span(lane->draft_open ? lane->drafter->ids() : lane->ids).subspan(lane->next));
  }
  return step_.rows.size();
}

// Drafts pay as long as all rows of a step take little longer than one: a few, which the sequences that decode share.
void Scheduler::Impl::BeginDrafts() {
  const auto decoding = static_cast<size_t>(std::ranges::count_if(lanes_, &Lane::decoding));
  for (Lane& lane : lanes_) {
    if (!lane.decoding || lane.draft_open || lane.job->request.speculation.draft == DraftKind::kNone) continue;
    const Job& job = *lane.job;
    const auto c = static_cast<size_t>(lane.choice);
    const size_t left = static_cast<size_t>(job.request.max_tokens) - job.result.choices[c].token_ids.size();
    const size_t share = kRowsAtTheCostOfOne / decoding;
    if (lane.drafter == nullptr) lane.drafter = std::make_unique<Drafter>(model_, job.request.speculation);
    if (!draft_costs_) draft_costs_.emplace(lane.drafter->plan().expected_cost);
    lane.drafter->Begin(lane.ids, std::min(left, std::max<size_t>(1, share)) - 1, job.choices[c].sampler,
                        *draft_costs_);
    lane.draft_open = true;
  }
}

// Of steps that tell: of rows of one kind.
void Scheduler::Impl::NoteDraftCosts(double seconds) {
  if (!draft_costs_ || stats_.prompt_rows > 0) return;
  const size_t sequences = lane_rows_.size();
  if (std::ranges::all_of(lane_rows_, &LaneRows::draft)) {
    draft_costs_->Draft(sequences, seconds);
  } else if (std::ranges::none_of(lane_rows_, &LaneRows::draft)) {
    draft_costs_->Target(sequences, step_.rows.size() - sequences, seconds);
  }
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
    if (rows[i] > 0) AppendRows(*lanes[i], std::span(lanes[i]->ids).subspan(lanes[i]->next, rows[i]));
  }
}

void Scheduler::Impl::AppendRows(Lane& lane, std::span<const int32_t> tokens, bool draft) {
  const SequenceRequest& request = lane.job->request;
  const SkipPlan* plan = (lane.decoding ? request.decode : request.prefill).get();
  size_t position = lane.next;
  if (draft) {
    plan = lane.drafter->plan().plan.get();
    position = lane.drafter->ids().size() - 1;
  }
  const size_t begin = step_.rows.size();
  try {
    kv_.Grow(&lane.kv, position + tokens.size());
  } catch (const Error& error) {
    lane.job->result.error = error;
    return;
  }
  for (const int32_t token : tokens) {
    const bool wants_logits = lane.WantsLogits(position);
    if (wants_logits) {
      wanted_.push_back({.lane = &lane, .row = step_.rows.size(), .position = position, .draft = draft});
    }
    step_.rows.push_back({.token = token,
                          .position = static_cast<int32_t>(position),
                          .sequence = &lane.kv,
                          .plan = plan,
                          .wants_logits = wants_logits});
    ++position;
  }
  lane_rows_.push_back({.lane = &lane, .begin = begin, .end = step_.rows.size(), .draft = draft});
  lane.last_turn = ++last_turn_;
}

void Scheduler::Impl::TakeLogits(size_t first, size_t count) {
  // What one sequence decodes is drawn row after row, all else at once.
  groups_.clear();
  for (size_t i = first; i < first + count; ++i) {
    const Lane* lane = wanted_[i].lane;
    if (i == first || lane != wanted_[i - 1].lane || !lane->decoding) groups_.push_back(i);
  }
  groups_.push_back(first + count);
  model_.pool->ParallelFor(groups_.size() - 1, 1, [&](size_t begin, size_t end, int thread) {
    for (size_t i = groups_[begin]; i < groups_[end]; ++i) {
      WantedRow& row = wanted_[i];
      try {
        TakeRow(row, step_.logits.row_span(i - first), &scratch_[static_cast<size_t>(thread)]);
      } catch (const Error& error) {
        row.error = error;
      }
    }
  });
}

void Scheduler::Impl::TakeRow(const WantedRow& row, std::span<float> logits, std::vector<float>* scratch) const {
  Lane& lane = *row.lane;
  Job& job = *lane.job;
  const SequenceRequest& request = job.request;
  const size_t next = row.position + 1;
  if (row.draft) return lane.drafter->Take(logits, step_.Counts(row.row, row.row + 1));
  if (lane.decoding) return TakeDecoded(lane, row.position, logits, scratch);
  if (lane.is_continuation()) {
    const auto c = static_cast<size_t>(lane.continuation);
    return RowScores(logits).Write(lane.ids[next], next - request.prompt.size(), 0, &job.result.continuations[c]);
  }
  if (next < request.prompt.size()) {
    return RowScores(logits).Write(lane.ids[next], row.position, request.top_log_probs, &job.result.prompt);
  }
  // The end of the prompt: continuations are scored, and all choices draw, from this row.
  std::optional<RowScores> scores;
  if (job.WantsScores() || !request.continuations.empty()) scores.emplace(logits);
  for (size_t c = 0; c < request.continuations.size(); ++c) {
    scores->Write(request.continuations[c][0], 0, 0, &job.result.continuations[c]);
  }
  for (size_t c = 0; c < job.choices.size(); ++c) {
    job.choices[c].DrawFrom(logits, lane.ids, scores ? &*scores : nullptr, c + 1 == job.choices.size(), scratch);
  }
}

// A row after the first of a step stands if the text went the draft's way so far.
void Scheduler::Impl::TakeDecoded(Lane& lane, size_t position, std::span<float> logits,
                                  std::vector<float>* scratch) const {
  Choice& choice = lane.job->choices[static_cast<size_t>(lane.choice)];
  const size_t drawn = choice.draws.size();
  if (position != lane.next + drawn) return;
  if (drawn > 0 && choice.draws.back().id != lane.drafter->ids()[position]) return;
  const std::span<const int32_t> ids = drawn > 0 ? lane.drafter->ids().first(position + 1) : std::span(lane.ids);
  std::optional<RowScores> scores;
  if (lane.job->WantsScores()) scores.emplace(logits);
  choice.DrawFrom(logits, ids, scores ? &*scores : nullptr, true, scratch);
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
  if (rows.draft) return;
  if (lane.decoding) return AdvanceDecoding(rows);
  Job& job = *lane.job;
  job.result.prefill_counts.Add(step_.Counts(rows.begin, rows.end));
  lane.next += rows.end - rows.begin;
  if (lane.is_continuation()) {
    if (lane.next == lane.end()) EndLane(lane);
  } else {
    kv_.Offer(&job.lease, lane.ids, lane.next, &lane.kv);
    if (lane.next == lane.end()) PromptIsThrough(lane, SkippedShare(rows.end - 1));
  }
}

void Scheduler::Impl::AdvanceDecoding(const LaneRows& rows) {
  Lane& lane = *rows.lane;
  const auto c = static_cast<size_t>(lane.choice);
  ChoiceResult& result = lane.job->result.choices[c];
  std::vector<Draw> draws = std::move(lane.job->choices[c].draws);
  lane.job->choices[c].draws.clear();
  if (lane.draft_open) {
    lane.drafter->Verified(draws.size() - 1);
    result.speculation = lane.drafter->Report();
    lane.draft_open = false;
  }
  for (size_t i = 0; i < draws.size(); ++i) {
    const size_t row = rows.begin + i;
    result.decode_counts.Add(step_.Counts(row, row + 1));
    ++lane.next;
    if (!TakeDraw(lane, std::move(draws[i]), SkippedShare(row))) return;
  }
}

}  // namespace gateskip
