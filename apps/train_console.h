// SPDX-License-Identifier: Apache-2.0
// What a person and a program see of a training run: progress on stderr, with --json one object per line on stdout as
// well, and report.html in the run directory.
#pragma once

#include <atomic>
#include <chrono>
#include <string>

#include "terminal.h"
#include "train/train.h"

namespace gateskip::cli {

class TrainConsole : public TrainObserver {
 public:
  TrainConsole(const TrainOptions& options, bool json, std::atomic<bool>& cancelled);
  // Writes the report whichever way the run ends, unless no step or evaluation of it was seen.
  ~TrainConsole() override;

  void OnMessage(const std::string& message) override;
  void OnStep(const TrainProgress& p) override;
  void OnEvaluation(const TrainEvaluation& e) override;
  void OnSample(const TrainSample& sample) override;
  bool Cancelled() override { return cancelled_.load(); }

 private:
  // A report that cannot be written costs a warning, never the run.
  bool WriteReport() noexcept;

  const std::string run_directory_;
  const bool json_;
  std::atomic<bool>& cancelled_;
  ProgressBar bar_{"training"};
  bool any_step_ = false;
  bool any_event_ = false;
  bool warned_ = false;
  std::chrono::steady_clock::time_point next_report_;  // not before
};

}  // namespace gateskip::cli
