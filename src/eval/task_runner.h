// SPDX-License-Identifier: Apache-2.0
// Runs the instances of a task through the scheduler: many at a time, a prefix shared between the choices of a
// question.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "eval/policies.h"
#include "eval/task.h"
#include "runtime/loaded_model.h"
#include "sched/scheduler.h"

namespace gateskip {

// What was executed for some rows, in the cost model's units.
struct Work {
  uint64_t rows = 0;
  double executed = 0;  // of the layers, decisions included
  uint64_t branches_run = 0;
  uint64_t branches_skipped = 0;

  void Add(const Work& other);
  void Add(const CostModel& cost, const SkipCounts& counts);
  // `dense_per_row` of the cost model that counted. 0 without rows.
  double NetSaving(double dense_per_row) const;
  double NominalSaving() const;
};

struct InstanceResult {
  size_t instance = 0;
  EvalResponse response;
  Work prefill;
  Work decode;
};

struct TaskRunnerOptions {
  bool use_adapter = true;
  size_t max_length = 0;  // tokens a request may have; 0: the model's context, at most 8192
};

// The plan of one instance; its number seeds random policies, so that a result does not depend on which instances run.
using PlanOf = std::function<SkipPlanPtr(size_t instance)>;

// Runs `instances` (indices into the task). `done` is called once for each as it is finished, in any order; when it
// returns false the rest is left. Throws Error.
void RunInstances(const LoadedModel& model, const Task& task, std::span<const size_t> instances, const PlanOf& plan_of,
                  const TaskRunnerOptions& options, const std::function<bool(InstanceResult&&)>& done);

}  // namespace gateskip
