// SPDX-License-Identifier: Apache-2.0
#include "eval/task_runner.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "eval/harness_encoding.h"

namespace gateskip {
namespace {

constexpr size_t kDefaultMaxLength = 8192;
constexpr size_t kMostWaiting = 64;  // requests encoded ahead of the scheduler

// An instance on its way: what has come back of its requests.
struct Pending {
  InstanceResult result;
  size_t open = 0;
};

class Runner {
 public:
  Runner(const LoadedModel& model, const Task& task, const PlanOf& plan_of, const TaskRunnerOptions& options,
         const std::function<bool(InstanceResult&&)>& done)
      : model_(model),
        task_(task),
        plan_of_(plan_of),
        options_(options),
        done_(done),
        cost_(model.cost(options.use_adapter)),
        max_length_(options.max_length > 0
                        ? options.max_length
                        : std::min(kDefaultMaxLength, static_cast<size_t>(model.transformer->config.context_length))),
        scheduler_(model, SchedulerOptions()) {}

  void Run(std::span<const size_t> instances) {
    size_t next = 0;
    while (!stopped_) {
      while (next < instances.size() && scheduler_.waiting() < kMostWaiting) Start(instances[next++]);
      if (!scheduler_.Step() && next == instances.size()) return;
    }
  }

 private:
  void Start(size_t instance) {
    const auto pending = std::make_shared<Pending>();
    pending->result.instance = instance;
    plan_ = plan_of_(instance);
    switch (task_.spec().output_type) {
      case OutputType::kGenerateUntil:
        return Generate(pending);
      case OutputType::kLoglikelihoodRolling:
        return ScoreRolling(pending);
      case OutputType::kLoglikelihood:
      case OutputType::kMultipleChoice:
        return ScorePairs(pending);
    }
  }

  const std::vector<EvalRequest>& RequestsOf(const Pending& pending) const {
    return task_.instance(pending.result.instance).requests;
  }

  SequenceRequest NewRequest(std::vector<int32_t> prompt) const {
    return {.prompt = std::move(prompt), .prefill = plan_, .decode = plan_, .use_adapter = options_.use_adapter};
  }

  void Submit(const std::shared_ptr<Pending>& pending, SequenceRequest request,
              std::function<void(const SequenceResult&)> take) {
    ++pending->open;
    scheduler_.Add(std::move(request), [this, pending, take = std::move(take)](SequenceResult&& result) {
      if (result.error) throw Error(*result.error);
      take(result);
      pending->result.prefill.Add(cost_, result.prefill_counts);
      for (const ChoiceResult& choice : result.choices) pending->result.decode.Add(cost_, choice.decode_counts);
      if (--pending->open == 0 && !stopped_) stopped_ = !done_(std::move(pending->result));
    });
  }

  // A generation, and the log-likelihoods of what else may follow its prompt: in the same rows, where the prompt is not
  // cut to leave room for the generation.
  void Generate(const std::shared_ptr<Pending>& pending) {
    const TaskSpec& spec = task_.spec();
    const std::vector<EvalRequest>& requests = RequestsOf(*pending);
    const auto max_tokens = static_cast<size_t>(spec.max_gen_toks);
    SequenceRequest request =
        NewRequest(EncodeContext(*model_.tokenizer, requests[0].context, max_length_, max_tokens));
    request.max_tokens = spec.max_gen_toks;
    request.stop = spec.until;
    Reserve(requests.size() - 1, pending.get());
    std::vector<size_t> members;
    pending->open = 1;  // until all are submitted
    for (size_t i = 1; i < requests.size(); ++i) {
      EncodedPair pair = EncodePair(*model_.tokenizer, requests[i].context, requests[i].continuation, max_length_);
      if (pair.context == request.prompt) {
        members.push_back(i - 1);
        request.continuations.push_back(std::move(pair.continuation));
        continue;
      }
      SequenceRequest own = NewRequest(std::move(pair.context));
      own.continuations = {std::move(pair.continuation)};
      Submit(pending, std::move(own),
             [pending, i](const SequenceResult& result) { Sum(result.continuations[0], i - 1, pending.get()); });
    }
    Submit(pending, std::move(request), [pending, members](const SequenceResult& result) {
      pending->result.response.text = result.choices[0].text;
      for (size_t c = 0; c < members.size(); ++c) Sum(result.continuations[c], members[c], pending.get());
    });
    --pending->open;
  }

  // Log-likelihoods of (context, continuation) pairs; those with the same context share its rows.
  void ScorePairs(const std::shared_ptr<Pending>& pending) {
    const std::vector<EvalRequest>& requests = RequestsOf(*pending);
    std::vector<EncodedPair> pairs;
    pairs.reserve(requests.size());
    for (const EvalRequest& r : requests) {
      pairs.push_back(EncodePair(*model_.tokenizer, r.context, r.continuation, max_length_));
    }
    Reserve(pairs.size(), pending.get());
    std::vector<bool> taken(pairs.size());
    std::vector<std::pair<SequenceRequest, std::vector<size_t>>> groups;
    for (size_t i = 0; i < pairs.size(); ++i) {
      if (taken[i]) continue;
      SequenceRequest request = NewRequest(pairs[i].context);
      std::vector<size_t> members;
      for (size_t j = i; j < pairs.size(); ++j) {
        if (taken[j] || pairs[j].context != pairs[i].context) continue;
        taken[j] = true;
        members.push_back(j);
        request.continuations.push_back(pairs[j].continuation);
      }
      groups.emplace_back(std::move(request), std::move(members));
    }
    pending->open = 1;  // until all are submitted
    for (auto& [request, members] : groups) {
      Submit(pending, std::move(request), [pending, members = members](const SequenceResult& result) {
        for (size_t c = 0; c < members.size(); ++c) Sum(result.continuations[c], members[c], pending.get());
      });
    }
    --pending->open;
  }

  void ScoreRolling(const std::shared_ptr<Pending>& pending) {
    Reserve(1, pending.get());
    const std::vector<EncodedPair> windows =
        RollingWindows(*model_.tokenizer, RequestsOf(*pending)[0].continuation, max_length_);
    if (windows.empty()) {
      Fail(ErrorCode::kInvalidArgument, "[{}] document {}: expected a text, found an empty one; leave it out",
           task_.spec().name, task_.instance(pending->result.instance).document);
    }
    pending->open = 1;
    for (const EncodedPair& window : windows) {
      SequenceRequest request = NewRequest(window.context);
      request.continuations = {window.continuation};
      Submit(pending, std::move(request),
             [pending](const SequenceResult& result) { Sum(result.continuations[0], 0, pending.get()); });
    }
    --pending->open;
  }

  static void Reserve(size_t requests, Pending* pending) {
    pending->result.response.log_likelihoods.assign(requests, 0.0);
    pending->result.response.is_greedy.assign(requests, 1);
  }

  static void Sum(const ScoredTokens& scored, size_t request, Pending* pending) {
    double& sum = pending->result.response.log_likelihoods[request];
    for (const float log_prob : scored.log_probs) sum += log_prob;
    const bool all = std::ranges::all_of(scored.is_greedy, [](uint8_t greedy) { return greedy != 0; });
    if (!all) pending->result.response.is_greedy[request] = 0;
  }

  const LoadedModel& model_;
  const Task& task_;
  const PlanOf& plan_of_;
  const TaskRunnerOptions& options_;
  const std::function<bool(InstanceResult&&)>& done_;
  const CostModel& cost_;
  const size_t max_length_;
  Scheduler scheduler_;
  SkipPlanPtr plan_;  // of the instance at hand
  bool stopped_ = false;
};

}  // namespace

void Work::Add(const Work& other) {
  rows += other.rows;
  executed += other.executed;
  branches_run += other.branches_run;
  branches_skipped += other.branches_skipped;
}

void Work::Add(const CostModel& cost, const SkipCounts& counts) {
  if (counts.run.empty()) return;
  Work work;
  work.rows = counts.run[0] + counts.skipped[0];
  work.executed = (1.0 - cost.NetSaving(counts)) * cost.dense_per_row() * static_cast<double>(work.rows);
  work.branches_run = std::accumulate(counts.run.begin(), counts.run.end(), uint64_t{0});
  work.branches_skipped = std::accumulate(counts.skipped.begin(), counts.skipped.end(), uint64_t{0});
  Add(work);
}

double Work::NetSaving(double dense_per_row) const {
  return rows == 0 ? 0.0 : 1.0 - executed / (dense_per_row * static_cast<double>(rows));
}

double Work::NominalSaving() const {
  const double all = static_cast<double>(branches_run) + static_cast<double>(branches_skipped);
  return all == 0 ? 0.0 : static_cast<double>(branches_skipped) / all;
}

void RunInstances(const LoadedModel& model, const Task& task, std::span<const size_t> instances, const PlanOf& plan_of,
                  const TaskRunnerOptions& options, const std::function<bool(InstanceResult&&)>& done) {
  Runner(model, task, plan_of, options, done).Run(instances);
}

}  // namespace gateskip
