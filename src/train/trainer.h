// SPDX-License-Identifier: Apache-2.0
// The training loop: one object per run, from the base file to the adapter directory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "gate/cost_model.h"
#include "train/base_model.h"
#include "train/checkpoint.h"
#include "train/data.h"
#include "train/evaluate.h"
#include "train/gated_model.h"
#include "train/optimizer.h"
#include "train/threshold.h"
#include "train/train.h"

namespace gateskip::train {

class Trainer {
 public:
  Trainer(const TrainOptions& options, TrainObserver& observer);
  TrainOutcome Run();

 private:
  struct StepResult {
    double loss = 0, kl = 0, nll = 0;
    double requested = 0, realised = 0;
    bool finite = true;
  };

  void BuildModel();                  // fresh: fit and prior; resumed: from the checkpoint
  AdapterConfig StartConfig() const;  // every branch gated that the options gate
  void StartFresh();
  void Restore(const Checkpoint& checkpoint);
  bool Resume();  // false when there is nothing to resume from
  void InitialThresholds();
  StepResult ForwardBackward();  // accumulates gradients of the current step
  void MicroStep(int micro, StepResult& result);
  std::vector<double> DrawBudgets(int micro) const;
  double NoiseScale() const;
  at::Tensor Batch(int64_t first_sequence, int64_t count);
  void Evaluate();
  void Save();
  void Log(const std::string& json_line);
  std::string StateJson() const;
  std::string OptionsHash() const;  // of everything that changes the result
  void WriteFinalAdapter();

  TrainOptions options_;
  TrainObserver& observer_;
  std::unique_ptr<RunLock> lock_;
  std::shared_ptr<const GgufFile> file_;
  BaseModel base_;
  std::unique_ptr<GatedModel> model_;
  std::unique_ptr<CostModel> cost_;
  std::unique_ptr<TrainData> data_;
  std::unique_ptr<AdamW> optimizer_;
  std::unique_ptr<Evaluator> evaluator_;
  ThresholdCurve curve_;
  int step_ = 0;       // steps done
  int bad_steps_ = 0;  // in all
  int bad_run_ = 0;    // in a row
  int64_t tokens_ = 0;
};

}  // namespace gateskip::train
