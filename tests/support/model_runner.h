// SPDX-License-Identifier: Apache-2.0
// Drives a Transformer directly: any split of a text into steps, several sequences in one step, all logits kept.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "gate/skip_plan.h"
#include "io/adapter.h"
#include "io/gguf.h"
#include "model/step.h"
#include "model/transformer.h"
#include "runtime/kv_cache.h"

namespace gateskip::testing {

// What one sequence gave, by position.
struct RunResult {
  std::vector<std::vector<float>> logits;       // [positions][vocab]
  std::vector<std::vector<uint8_t>> events;     // [branches][positions] RowEvent bits
  std::vector<std::vector<float>> importances;  // [branches][positions]

  bool operator==(const RunResult&) const = default;
};

// One sequence of a joint run: its tokens, its plan, and how many rows it gives to each step (the last entry
// repeats).
struct RunRequest {
  std::vector<int32_t> ids;
  SkipPlanPtr plan = DensePlan();
  std::vector<size_t> chunks = {1};
  size_t start_step = 0;  // joins at this step
};

class ModelRunner {
 public:
  // `exact` runs keep keys and values in f32, whatever `kv_type`.
  ModelRunner(std::shared_ptr<const GgufFile> file, const Adapter* adapter, bool exact, int threads,
              kernels::KvType kv_type = kernels::KvType::kF16);

  // Runs all requests together until each is through.
  std::vector<RunResult> Run(const std::vector<RunRequest>& requests, bool use_adapter = true);
  // One sequence, in one step.
  RunResult RunOne(const std::vector<int32_t>& ids, SkipPlanPtr plan, bool use_adapter = true);

  const Transformer& model() const { return *model_; }
  // Recording, the default, evaluates every gate; without it importances stay empty.
  void set_record_importance(bool record) { record_importance_ = record; }

 private:
  bool record_importance_ = true;
  std::shared_ptr<const GgufFile> file_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Transformer> model_;
  kernels::KvType kv_type_;
};

}  // namespace gateskip::testing
