// SPDX-License-Identifier: Apache-2.0
// Everything a run needs, loaded and bound: file, tokenizer, transformer, threads, costs.
#pragma once

#include <memory>
#include <string>

#include "base/thread_pool.h"
#include "gate/cost_model.h"
#include "gateskip/engine.h"
#include "io/gguf.h"
#include "model/step.h"
#include "model/transformer.h"
#include "text/tokenizer.h"

namespace gateskip {

struct LoadedModel {
  std::unique_ptr<ThreadPool> pool;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const void> file;  // keeps the mapped weights alive
  std::unique_ptr<Transformer> transformer;
  std::string fingerprint;
  std::string adapter_origin;                       // where the adapter came from, for messages
  kernels::KvType kv_type = kernels::KvType::kF16;  // of the caches of its runs
  bool requantized = false;  // the weights were rounded after the adapter's self-test was made (embedded_adapter.h)
  uint64_t file_bytes = 0;
  CostModel plain_cost;    // the ungated model
  CostModel adapter_cost;  // with the adapter's gates and deltas, if there is one

  const CostModel& cost(bool use_adapter) const {
    return use_adapter && transformer->adapter ? adapter_cost : plain_cost;
  }
};

// A step's workspace for at most `max_rows` rows; logits come in tiles below 16 MiB whatever the vocabulary. Its
// kv_shape is that of the run's KV cache.
Step MakeStep(const LoadedModel& model, int max_rows);

// Loads options.model_path (a GGUF file or a hub-style directory) and binds options.adapter_path to it, or else the
// adapter inside the GGUF, if there is one. Does not run the self-test. Throws Error.
std::unique_ptr<LoadedModel> LoadModel(const EngineOptions& options);

// Throws Error(kInvalidArgument) for a context length that the model does not reach.
ModelInfo DescribeModel(const EngineOptions& options, const LoadedModel& model);

// The plan behind a budget: gates or random decisions. Throws Error(kInvalidArgument) for a budget out of range or
// one that needs an adapter when there is none.
SkipPlanPtr MakePlan(const LoadedModel& model, const BudgetOptions& options, double budget);

SavingReport MakeReport(const CostModel& cost, const SkipCounts& counts, double requested);

}  // namespace gateskip
