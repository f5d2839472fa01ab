// SPDX-License-Identifier: Apache-2.0
// What a Scheduler holds. scheduler.cc has the life of requests, step_rows.cc what is in a step and what comes out.
#pragma once

#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "model/step.h"
#include "sched/job.h"
#include "sched/kv_pool.h"
#include "sched/request_queue.h"
#include "sched/row_deal.h"
#include "sched/scheduler.h"

namespace gateskip {

class Scheduler::Impl {
 public:
  Impl(const LoadedModel& model, const SchedulerOptions& options);

  uint64_t Add(SequenceRequest request, Done done);
  bool Cancel(uint64_t id);
  bool Step();
  size_t waiting() const { return queue_.size(); }
  SchedulerStats stats() const;

 private:
  // The rows of a lane in the step, [begin, end).
  struct LaneRows {
    Lane* lane;
    size_t begin, end;
    bool draft = false;  // one row of a draft
  };
  struct WantedRow {
    Lane* lane;
    size_t row;       // of the step
    size_t position;  // in its sequence
    bool draft = false;
    std::optional<Error> error = {};  // that it met
  };
  // A callback that is due: a token of the job, or, without one, its end.
  struct Message {
    std::shared_ptr<Job> job;
    std::optional<TokenEvent> token;
  };

  // --- scheduler.cc
  void Check(const SequenceRequest& request) const;
  void DropExpired();
  void Admit();
  void SkipCached(Lane& lane, size_t pages);
  void PromptIsThrough(Lane& lane, float skipped_share);
  // False when the lane has ended with it.
  bool TakeDraw(Lane& lane, Draw draw, float skipped_share);
  void EndChoice(Lane& lane, FinishReason reason);
  void EndLane(Lane& lane);
  // Gives back what the job holds and leaves its result to Deliver.
  void EndJob(const std::shared_ptr<Job>& job);
  bool EndFailedJobs();  // whether there were any
  void Deliver();

  // --- step_rows.cc
  void FillRows();
  void ChooseAdapter();
  size_t AppendDecodeRows();
  void BeginDrafts();
  void NoteDraftCosts(double seconds);
  void AppendPromptRows(size_t room);
  // The next rows of the lane, which are of these tokens.
  void AppendRows(Lane& lane, std::span<const int32_t> tokens, bool draft = false);
  void TakeLogits(size_t first, size_t count);
  void TakeRow(const WantedRow& row, std::span<float> logits, std::vector<float>* scratch) const;
  void TakeDecoded(Lane& lane, size_t position, std::span<float> logits, std::vector<float>* scratch) const;
  void AdvanceLanes();
  void Advance(const LaneRows& rows);
  void AdvanceDecoding(const LaneRows& rows);
  float SkippedShare(size_t row) const;
  void CountStep();

  const LoadedModel& model_;
  const SchedulerOptions options_;
  gateskip::Step step_;
  KvPool kv_;
  RequestQueue queue_;
  std::map<uint64_t, std::shared_ptr<Job>> running_;
  std::list<Lane> lanes_;  // in the order of admission, but for what follows a prompt
  size_t sequences_ = 0;   // of the running jobs
  RowDeal deal_;
  std::optional<DraftCosts> draft_costs_;    // once something was drafted
  std::vector<LaneRows> lane_rows_;          // of the step at hand
  std::vector<WantedRow> wanted_;            // of the step at hand, in its order
  std::vector<size_t> groups_;               // of wanted_, where each begins that one thread takes
  std::vector<std::vector<float>> scratch_;  // [threads][vocab], where it is needed
  std::deque<Message> messages_;
  bool delivering_ = false;
  uint64_t last_id_ = 0;
  uint64_t last_turn_ = 0;
  SchedulerStats stats_;
};

}  // namespace gateskip
