// SPDX-License-Identifier: Apache-2.0
// The ranks of one host as processes that a test may kill: what train_launch does, without its care for them.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "train/rank_environment.h"
#include "train/rank_socket.h"

namespace gateskip::train::testing {

class RankProcesses {
 public:
  // Starts `size` times `program` with `arguments`; what rank r prints goes to files in `folder`.
  RankProcesses(int size, const std::string& folder, const std::string& program,
                const std::vector<std::string>& arguments)
      : folder_(folder), pids_(static_cast<size_t>(size)), statuses_(static_cast<size_t>(size)) {
    const FileDescriptor listener = ListenAt("127.0.0.1", 0);
    const std::string port = std::to_string(LocalPort(listener));
    for (int rank = 0; rank < size; ++rank) {
      std::vector<std::string> variables = {"RANK=" + std::to_string(rank),
                                            "WORLD_SIZE=" + std::to_string(size),
                                            "LOCAL_RANK=" + std::to_string(rank),
                                            "MASTER_ADDR=127.0.0.1",
                                            "MASTER_PORT=" + port,
                                            std::string(kTokenVariable) + "=a token of this test"};
      if (rank == 0) variables.push_back(std::string(kListenerVariable) + "=" + std::to_string(listener.get()));
      std::vector<std::string> words = {program};
      words.insert(words.end(), arguments.begin(), arguments.end());
      const int out = ::open(OutputPath(rank).c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
      const int err = ::open(ErrorPath(rank).c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
      const pid_t pid = ::fork();
      if (pid == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::dup2(out, STDOUT_FILENO);
        ::dup2(err, STDERR_FILENO);
        if (rank == 0) ::fcntl(listener.get(), F_SETFD, 0);
        ::execve(program.c_str(), Pointers(words).data(), Pointers(variables).data());
        ::kill(::getpid(), SIGKILL);
      }
      ::close(out);
      ::close(err);
      pids_[static_cast<size_t>(rank)] = pid;
    }
  }
  ~RankProcesses() {
    for (size_t rank = 0; rank < pids_.size(); ++rank) {
      if (statuses_[rank]) continue;
      ::kill(pids_[rank], SIGKILL);
      ::waitpid(pids_[rank], nullptr, 0);
    }
  }
  RankProcesses(const RankProcesses&) = delete;
  RankProcesses& operator=(const RankProcesses&) = delete;

  int size() const { return static_cast<int>(pids_.size()); }
  pid_t pid(int rank) const { return pids_[static_cast<size_t>(rank)]; }
  void Signal(int rank, int signal) const { ::kill(pid(rank), signal); }

  // The status that waitpid gives, once the process has ended.
  std::optional<int> Poll(int rank) {
    auto& status = statuses_[static_cast<size_t>(rank)];
    int value = 0;
    if (!status && ::waitpid(pid(rank), &value, WNOHANG) == pid(rank)) status = value;
    return status;
  }
  std::optional<int> WaitUntil(int rank, std::chrono::steady_clock::time_point until) {
    while (!Poll(rank) && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return Poll(rank);
  }

  std::string OutputPath(int rank) const { return folder_ + "/out." + std::to_string(rank); }
  std::string ErrorPath(int rank) const { return folder_ + "/err." + std::to_string(rank); }

 private:
  static std::vector<char*> Pointers(std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    for (std::string& text : texts) pointers.push_back(text.data());
    pointers.push_back(nullptr);
    return pointers;
  }

  std::string folder_;
  std::vector<pid_t> pids_;
  std::vector<std::optional<int>> statuses_;
};

}  // namespace gateskip::train::testing
