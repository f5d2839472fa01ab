// SPDX-License-Identifier: Apache-2.0
// Which rank of a data-parallel run this process is: torchrun's environment variables, and two of our own that
// `gateskip train --nproc` sets. No LibTorch here: the command line asks too.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace gateskip::train {

inline constexpr const char* kTokenVariable = "GATESKIP_RANK_TOKEN";
inline constexpr const char* kListenerVariable = "GATESKIP_RANK_LISTENER";
inline constexpr int kMaxRanks = 1024;

struct RankEnvironment {
  int rank = 0;              // RANK
  int size = 1;              // WORLD_SIZE; 1 when RANK or WORLD_SIZE is absent
  int local_rank = 0;        // LOCAL_RANK, or `rank`: which device of this host
  std::string address;       // MASTER_ADDR: host name or address of rank 0
  uint16_t port = 0;         // MASTER_PORT
  std::string token;         // GATESKIP_RANK_TOKEN: ranks with another token are refused; empty: none is asked for
  int listener = -1;         // GATESKIP_RANK_LISTENER: a listening socket that rank 0 inherited
  std::string bind_address;  // GLOO_SOCKET_IFNAME: interface or address of this host; empty: what leads to rank 0

  // Throws Error(kInvalidArgument) naming the variable that is malformed, missing beside the others or out of range.
  static RankEnvironment Read();
  // The same with another source of variables: get(name) is their text, or nullptr.
  static RankEnvironment Read(const std::function<const char*(const char*)>& get);
};

}  // namespace gateskip::train
