// SPDX-License-Identifier: Apache-2.0
// Ctrl-C, and SIGTERM where a flag is set for it. The first one asks the running call to end (Engine::Cancel or a
// flag), so that what was produced so far is shown or saved; a second one of either, or one while nothing can be
// cancelled, leaves at once with status 128 + its number.
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
