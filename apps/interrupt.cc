// SPDX-License-Identifier: Apache-2.0
#include "interrupt.h"

#include <unistd.h>

#include <csignal>

#include "base/check.h"

namespace gateskip::cli {
namespace {

// Everything the handler touches is lock-free atomic; it calls only write and _exit besides.
std::atomic<Engine*> active_engine{nullptr};
std::atomic<std::atomic<bool>*> active_flag{nullptr};
std::atomic<int> received{0};
static_assert(std::atomic<Engine*>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

constexpr int kSignalStatus = 128;  // plus its number, as shells have it: 130 after SIGINT

extern "C" void OnSignal(int signal) {
  Engine* engine = active_engine.load();
  std::atomic<bool>* flag = active_flag.load();
  const bool again = received.exchange(signal) != 0;
  if ((engine == nullptr && flag == nullptr) || again) {
    const ssize_t ignored = write(STDERR_FILENO, "\n", 1);
    static_cast<void>(ignored);
    _exit(kSignalStatus + signal);
  }
  if (engine != nullptr) engine->Cancel();
  if (flag != nullptr) flag->store(true);
}

void Handle(int signal, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  action.sa_flags = 0;  // no SA_RESTART: a read at the chat prompt must return
  sigaction(signal, &action, nullptr);
}

}  // namespace

void InstallInterruptHandler() { Handle(SIGINT, OnSignal); }

InterruptEngine::InterruptEngine(Engine& engine) {
  active_engine.store(&engine);
  InstallInterruptHandler();
}

InterruptEngine::~InterruptEngine() { active_engine.store(nullptr); }

InterruptFlag::InterruptFlag(std::atomic<bool>& flag) {
  active_flag.store(&flag);
  InstallInterruptHandler();
  Handle(SIGTERM, OnSignal);
}

InterruptFlag::~InterruptFlag() {
  Handle(SIGTERM, SIG_DFL);
  active_flag.store(nullptr);
}

int InterruptSignal() { return received.load(); }
void ClearInterrupt() { received.store(0); }

void ThrowIfInterrupted() {
  if (InterruptSignal() != 0) Fail(ErrorCode::kCancelled, "[gateskip] run: stopped by a signal");
}

}  // namespace gateskip::cli
