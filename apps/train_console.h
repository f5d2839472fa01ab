// SPDX-License-Identifier: Apache-2.0
// What a person and a program see of a training run: progress on stderr; with --json one object per line on stdout as
// well.
#pragma once

#include <atomic>

#include "terminal.h"
#include "train/train.h"

namespace gateskip::cli {

class TrainConsole : public TrainObserver {
 public:
  TrainConsole(int steps, bool json, std::atomic<bool>& cancelled)
      : bar_("training"), steps_(steps), json_(json), cancelled_(cancelled) {}

  void OnMessage(const std::string& message) override;
  void OnStep(const TrainProgress& p) override;
  void OnEvaluation(const TrainEvaluation& e) override;
  bool Cancelled() override { return cancelled_.load(); }

 private:
  ProgressBar bar_;
  int steps_;
  bool json_;
  std::atomic<bool>& cancelled_;
};

}  // namespace gateskip::cli
