// SPDX-License-Identifier: Apache-2.0
// The training loop: one object per run and rank, from the base file to the adapter directory. trainer.cc is the loop;
// trainer_state.cc is how it starts, is saved and comes back. Of several ranks all train, and rank 0 alone fits,
// measures, evaluates, writes and talks (docs/training_distributed.md).
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gate/cost_model.h"
#include "train/base_model.h"
#include "train/batch.h"
#include "train/checkpoint.h"
#include "train/data.h"
#include "train/evaluate.h"
#include "train/event_file.h"
#include "train/gated_model.h"
#include "train/micro_step.h"
#include "train/optimizer.h"
#include "train/process_group.h"
#include "train/step_guard.h"
#include "train/threshold.h"
#include "train/train.h"

namespace gateskip::train {

class Trainer {
 public:
  Trainer(const TrainOptions& options, TrainObserver& observer);
  TrainOutcome Run();

 private:
  // Of the steps since the last "branches" line of the log.
  struct BranchStatistics {
    std::vector<double> run_share, gate_mean;  // sums
    std::vector<int> gate_count;
    int count = 0;
  };

  void BuildModel();  // fresh: fit and prior; resumed: from the checkpoint
  void BuildEvaluator();
  AdapterConfig StartConfig() const;  // every branch gated that the options gate
  void CreateModel(const AdapterConfig& config);
  std::vector<NamedTensor> TrainedBase() const;
  void StartFresh();
  // checkpoint: null on other ranks than 0; all know its state.
  void Restore(const SavedCheckpoint* checkpoint, const nlohmann::json& state);
  bool Resume();  // false when there is nothing to resume from
  void InitialThresholds();
  TrainBatch Batch(int64_t first_sequence, int64_t count);

  TrainOutcome RunSteps();
  void Step(double seconds_so_far);
  // Adds the gradients of the current step, those of all ranks; returns the means over its micro-steps.
  MicroStepResult ForwardBackward();
  void CountBranches(const MicroStepResult& result);
  void Evaluate();
  void Report(const TrainEvaluation& e);
  bool NotBetterForLong() const;
  void WriteSamples();
  void LogBranches();
  EventFile* Events();  // of this process, opened when first wanted; null without --tensorboard
  void Log(const nlohmann::json& event);
  void Save();
  void SaveOrGoOn();  // a failure is what on_save_error says it is
  std::string StateJson() const;
  std::string OptionsHash() const;  // of everything that changes the result
  void WriteResults();
  std::string WriteTrainedModel() const;  // returns its fingerprint
  nlohmann::json Provenance() const;
  nlohmann::json DataEvent() const;

  bool is_main() const { return group_->rank() == 0; }
  void Say(const std::string& message) const;

  TrainOptions options_;  // accumulation_steps counts the micro-steps of all ranks
  TrainObserver& observer_;
  std::unique_ptr<ProcessGroup> group_;
  std::unique_ptr<RunLock> lock_;
  ModelSource source_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  BaseModel base_;
  std::unique_ptr<GatedModel> model_;
  std::unique_ptr<CostModel> cost_;
  std::unique_ptr<TrainData> data_;
  std::unique_ptr<AdamW> optimizer_;
  std::unique_ptr<MicroStep> micro_step_;
  std::unique_ptr<Evaluator> evaluator_;
  ThresholdCurve curve_;
  StepGuard guard_;
  BranchStatistics branches_;
  std::unique_ptr<EventFile> events_;
  int step_ = 0;          // steps done
  int failed_saves_ = 0;  // by this process
  int64_t tokens_ = 0;
  double average_rate_ = 0;  // tokens per second
  // Held-out loss: the mean NLL over the budgets.
  double best_loss_;
  int best_step_ = -1;
  int not_better_ = 0;  // evaluations in a row
};

}  // namespace gateskip::train
