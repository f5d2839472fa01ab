// SPDX-License-Identifier: Apache-2.0
// Several ranks of one training run on this host: `gateskip train --nproc N` starts itself N times and looks after the
// processes. How they then find each other is train/rank_environment.h.
#pragma once

#include <string>
#include <vector>

namespace gateskip::cli {

struct LaunchOptions {
  int num_ranks = 2;
  std::vector<std::string> command;  // argv of every rank; empty: the command line of this process
  double kill_after = 60;            // s that the other ranks get to end by themselves after one has failed
};

// Starts the ranks with RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT and a random token in
// their environment, and waits for all. Rank 0 keeps stdin, stdout and stderr; what another rank k prints comes out on
// stderr, each line behind "[rank k] ". SIGINT, SIGTERM and SIGHUP are passed on. When a rank fails, that is said on
// stderr with its number and the reason, and the others are ended: SIGTERM, and SIGKILL after `kill_after`. The ranks
// die with this process.
//
// Returns 0 if all ranks did, else the status of the first that failed: its exit status, or 128 + its signal.
// Throws Error: kInvalidArgument (num_ranks), kIo (no process, pipe or socket to be had).
int LaunchRanks(const LaunchOptions& options);

// Whether this process is one of several ranks already, started by LaunchRanks, torchrun or by hand.
bool IsRank();

// The share of one rank of `threads` threads, at least 1.
int ThreadsPerRank(int threads, int num_ranks);

}  // namespace gateskip::cli
