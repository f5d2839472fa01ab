// SPDX-License-Identifier: Apache-2.0
// A data set with a task file: what to ask a model, and what its answers are worth. No model is seen here. Prompts,
// choices and scores are those of lm-evaluation-harness 0.4.13; where not, docs/eval_tasks.md says so.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "eval/metrics.h"
#include "eval/task_spec.h"

namespace gateskip {

struct TaskOptions {
  std::string data_path;                          // a data file, or the directory it is in
  int64_t limit = 0;                              // documents, the first of every file; 0: all
  std::optional<int> num_fewshot = std::nullopt;  // instead of the task's
  uint64_t seed = 1234;                           // of the few-shot draws: the harness's default, and its draws
  std::string fewshot_path = {};                  // a file, or the directory it is in; "": where data_path is
};

// The log-likelihood of `continuation` after `context`, in nats. Rolling: context is empty, continuation the text.
// Generating: continuation is empty.
struct EvalRequest {
  std::string context;
  std::string continuation;
};

struct EvalInstance {
  int64_t document = 0;     // in its file, from 0
  std::string subset = {};  // of tasks of several files
  // multiple_choice: one for each choice; generate_until with best_exact or best_f1: the prompt, and SQuAD's "no
  // answer" after it; else one.
  std::vector<EvalRequest> requests;
};

struct EvalResponse {
  std::vector<double> log_likelihoods = {};  // per request that has a continuation, in nats
  std::vector<uint8_t> is_greedy = {};       // the same: every token was the likeliest. loglikelihood, exact_match
  std::string text = {};                     // generate_until: what was generated, without the stop text
};

class Task {
 public:
  // Reads the whole data set and renders every request. Throws Error: kNotFound, kIo, kLimitExceeded, kCorruptData (a
  // file that breaks its format), kInvalidArgument (wrong columns, no documents, a template that fails, a label that is
  // none of the choices, too few few-shot documents): with file, line and columns.
  static std::unique_ptr<Task> Load(const TaskSpec& spec, const TaskOptions& options);
  ~Task();

  const TaskSpec& spec() const;
  int num_fewshot() const;
  // In the order of document numbers, of the same number in the order of files: what a smaller limit would give comes
  // first.
  size_t size() const;  // at least 1
  const EvalInstance& instance(size_t i) const;

  // One value for each metric ("acc"), with a filter that has a name other than "none" for each pair
  // ("exact_match,strict-match"); of tasks of several files once more for the subset ("acc:astronomy").
  // Metrics that say nothing of an instance are left out (HasAns_f1 of an unanswerable question). Throws
  // Error(kCorruptData) for a response of another number of requests: it may come from a file.
  std::vector<MetricValue> Score(size_t i, const EvalResponse& response) const;

  // Of the values of any instances, in any order: metrics in the task's order. With subsets "acc" is the harness's
  // weight_by_size average, "acc_macro" the plain mean over subsets, then come the subsets. Metrics without values are
  // left out. Chance: see MetricResult; of all the task's instances, not of those given.
  std::vector<MetricResult> Aggregate(std::span<const std::vector<MetricValue>> scored) const;

  // One line of the samples log: task, doc_id, subset, doc, target, requests, response, filtered answers, metrics.
  nlohmann::json SampleRecord(size_t i, const EvalResponse& response) const;

  // Hex SHA-256 of the files that were read, one after the other: data, labels, few-shot examples, the next data file.
  const std::string& DataSha256() const;

 private:
  struct Impl;
  explicit Task(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

}  // namespace gateskip
