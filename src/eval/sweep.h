// SPDX-License-Identifier: Apache-2.0
// `gateskip eval`: tasks x arms x budgets, each cell run for real, logged sample by sample, and summed up in one
// results file (docs/results_format.md). Interrupted, it goes on where it stopped; several machines may share the work.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "eval/task.h"
#include "gateskip/engine.h"
#include "text/document_encoder.h"

namespace gateskip {

// A policy and the adapter it runs with: a line of the plots.
struct EvalArm {
  std::string name;
  std::string policy;   // eval/policies.h
  std::string adapter;  // a directory; empty: the plain model
};

struct EvalTask {
  TaskSpec spec;
  TaskOptions options;
};

struct SweepOptions {
  std::string model_path;
  std::vector<EvalArm> arms;
  std::vector<EvalTask> tasks;
  std::vector<double> budgets;                 // ascending; 0 is run once for the plain model and once for each adapter
  std::string output;                          // a directory: results.json and samples/
  std::vector<std::string> calibration_paths;  // text that policies other than gates are measured and set on
  int64_t calibration_tokens = 8192;
  bool calibrate_on_documents = false;  // WindowOptions::per_document and pair_format
  PairFormat pair_format = PairFormat::kMixed;
  uint64_t seed = 0;  // of random policies
  int threads = 0;
  ComputeType compute = ComputeType::kFast;
  size_t max_length = 0;
  // This process runs every `shards`-th instance, from `shard` on, and writes samples only. When all have run, a call
  // without shards over the same output adds them up.
  int shard = 0;
  int shards = 1;
  std::string command;  // noted in the results
};

class SweepObserver {
 public:
  virtual ~SweepObserver() = default;
  virtual void OnMessage(const std::string& message) { (void)message; }
  // Instances of the whole sweep; what is done already counts.
  virtual void OnProgress(const std::string& cell, size_t done, size_t total) { (void)cell, (void)done, (void)total; }
  // Polled between instances; true ends the sweep early.
  virtual bool Cancelled() { return false; }
};

// Returns the results as in results.json, which is written anew after every cell. Throws Error; kCancelled when the
// observer ended it. What was run is in the samples either way.
nlohmann::json RunSweep(const SweepOptions& options, SweepObserver& observer);

}  // namespace gateskip
