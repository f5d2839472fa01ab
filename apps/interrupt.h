// SPDX-License-Identifier: Apache-2.0
// Ctrl-C. The first one asks the running call to end (Engine::Cancel or a flag), so that what was produced so
// far is shown; the second one, or one while nothing can be cancelled, leaves at once with status 130.
#pragma once

#include <atomic>

#include "gateskip/engine.h"

namespace gateskip::cli {

// While it lives, SIGINT cancels `engine`.
class InterruptEngine {
 public:
  explicit InterruptEngine(Engine& engine);
  ~InterruptEngine();
  InterruptEngine(const InterruptEngine&) = delete;
  InterruptEngine& operator=(const InterruptEngine&) = delete;
};

// While it lives, SIGINT and SIGTERM set `flag`.
class InterruptFlag {
 public:
  explicit InterruptFlag(std::atomic<bool>& flag);
  ~InterruptFlag();
  InterruptFlag(const InterruptFlag&) = delete;
  InterruptFlag& operator=(const InterruptFlag&) = delete;
};

// Installs the handler: until one of the guards above lives, Ctrl-C leaves at once, without a restarted read.
void InstallInterruptHandler();

// The signal that came since ClearInterrupt, or 0.
int InterruptSignal();
void ClearInterrupt();

// Throws Error(kCancelled) if a signal came. For loops over many short calls.
void ThrowIfInterrupted();

}  // namespace gateskip::cli
