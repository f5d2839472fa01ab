// SPDX-License-Identifier: Apache-2.0
// A task with its documents: what it asks of a model, and what the answers score. No model is needed here.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "eval/metrics.h"
#include "eval/task_spec.h"

namespace gateskip {

struct TaskOptions {
  std::string data_path;           // a file, or the directory that holds it (DataSpec::files)
  int64_t limit = 0;               // of documents, from the first; 0: all
  std::optional<int> num_fewshot;  // instead of the task's own
  uint64_t seed = 1234;            // of drawn examples
};

struct EvalRequest {
  std::string context;
  std::string continuation;  // rolling: the whole text; generations have none
};

struct EvalInstance {
  int64_t document = 0;  // 0-based, in the data set
  std::vector<EvalRequest> requests;
};

struct EvalResponse {
  std::vector<double> log_likelihoods;  // per request
  std::vector<uint8_t> is_greedy;
  std::string text;  // of a generation
};

class Task {
 public:
  // Reads the data and renders every request. Throws Error as ReadDataset; kInvalidArgument for examples without a
  // file, for a template that fails, for a right choice that is none of the choices.
  static std::unique_ptr<Task> Load(const TaskSpec& spec, const TaskOptions& options);
  ~Task();

  const TaskSpec& spec() const;
  int num_fewshot() const;
  size_t size() const;
  const EvalInstance& instance(size_t i) const;
  const std::string& data_sha256() const;

  std::vector<MetricValue> Score(size_t i, const EvalResponse& response) const;
  // Of any instances' scores.
  std::vector<MetricResult> Aggregate(std::span<const std::vector<MetricValue>> scored) const;
  // What a person wants to see of an instance: document, requests, target, answer, scores.
  nlohmann::json SampleRecord(size_t i, const EvalResponse& response) const;

 private:
  struct Impl;
  explicit Task(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace gateskip
