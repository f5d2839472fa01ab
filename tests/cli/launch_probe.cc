// SPDX-License-Identifier: Apache-2.0
// What launch_test.py starts: `gs_launch_probe RANKS KILL_AFTER ROLE [RANK NUMBER]` launches itself, and as a rank
// plays its role. RANK is the one to which something happens.
#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <csignal>
#include <cstring>
#include <string>

#include "gateskip/error.h"
#include "train/rank_channel.h"
#include "train_launch.h"

namespace {

using gateskip::train::RankEnvironment;

int Number(const char* text) {
  int value = 0;
  std::from_chars(text, text + std::strlen(text), value);
  return value;
}

volatile std::sig_atomic_t received = 0;
void OnSignal(int signal) { received = signal; }

// Ends as the trainer does: SIGTERM is a success, SIGINT is not.
int WaitForSignal(bool obeys_sigterm) {
  struct sigaction action {};
  action.sa_handler = OnSignal;
  sigaction(SIGINT, &action, nullptr);
  if (!obeys_sigterm) action.sa_handler = SIG_IGN;
  sigaction(SIGTERM, &action, nullptr);
  fmt::print(stderr, "waits\n");
  sigset_t blocked;
  sigset_t before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGINT);
  sigaddset(&blocked, SIGTERM);
  sigprocmask(SIG_BLOCK, &blocked, &before);
  while (received == 0) sigsuspend(&before);
  return received == SIGTERM ? 0 : 130;
}

int PlayRole(const std::string& role, int chosen, int number) {
  const RankEnvironment environment = RankEnvironment::Read();
  if (role == "print") {
    const char* local_size = std::getenv("LOCAL_WORLD_SIZE");
    fmt::print("out {} of {}, local {} of {}, {}\nno line end", environment.rank, environment.size,
               environment.local_rank, local_size == nullptr ? "?" : local_size, environment.address);
    fmt::print(stderr, "token {}\n", environment.token);
    return 0;
  }
  if (role == "meet") {
    gateskip::train::RankChannel channel(environment, {});
    for (const std::string& word : channel.Exchange("words", fmt::format("word{}", environment.rank))) {
      fmt::print(stderr, "{}\n", word);
    }
    channel.Leave();
    return 0;
  }
  if (role == "wait") return WaitForSignal(true);
  if (environment.rank != chosen) return WaitForSignal(role != "stubborn");
  // A moment, so that the others have set up their handlers.
  usleep(300'000);
  if (role == "signal" || role == "stubborn") std::raise(number);
  return number;  // "exit"
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  try {
    if (gateskip::cli::IsRank())
      return PlayRole(argv[3], argc > 4 ? Number(argv[4]) : 0, argc > 5 ? Number(argv[5]) : 0);
    return gateskip::cli::LaunchRanks(
        {.num_ranks = Number(argv[1]), .command = {}, .kill_after = static_cast<double>(Number(argv[2]))});
  } catch (const gateskip::Error& error) {
    fmt::print(stderr, "gateskip: error: {}\n", error.what());
    return gateskip::ExitCode(error.code());
  }
}
