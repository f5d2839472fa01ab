// SPDX-License-Identifier: Apache-2.0
// The middle of the star, a thread in rank 0: lets ranks in that know the run's token, hands what they post to all, and
// is the one that says which rank is dead. Every rank, rank 0 too, talks to it through a RankChannel.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "train/rank_peer.h"

namespace gateskip::train {

// Seconds. The same on all ranks of a run.
struct RankTimes {
  double time_out = 60;         // a rank that is silent for so long is dead; so is a transfer that takes so long
  double work_time_out = 1800;  // how long the others wait for a rank that answers but works on something else
  double join_time_out = 300;   // from the start of rank 0 until all ranks are there
  double grace = 5;             // what a process gets to end by itself after the run failed
};

inline constexpr std::string_view kRankProtocol = "gateskip-ranks-1";
inline constexpr std::string_view kJoin = "the start of the run";
inline constexpr std::string_view kLeave = "the end of the run";

std::string TokenDigest(const std::string& token);

class RankHub {
 public:
  // `own` is the end of a socket pair whose other end rank 0's channel holds.
  RankHub(FileDescriptor listener, FileDescriptor own, int size, const std::string& token, const RankTimes& times);
  // Sends what is under way and waits a moment for the other ends to close.
  ~RankHub();

 private:
  struct Connection;
  struct Member;

  void Run();
  void AcceptNew(RankClock::time_point now);
  void Serve(Connection& connection);
  void OnMessage(Connection& connection, const Message& message);
  void OnHello(Connection& connection, const Message& message);
  void OnPost(Member& member, BodyReader body);
  void Refuse(Connection& connection, const std::string& reason);
  void FinishExchange();
  void CheckTimes(RankClock::time_point now);
  void Broadcast(MessageType type, std::string_view body, const Connection* except);
  void FailRun(const std::string& reason);
  std::string NameOf(const Member& member) const;
  std::string Missing() const;

  const int size_;
  const std::string token_digest_;
  const RankTimes times_;
  const RankClock::time_point start_ = RankClock::now();
  FileDescriptor listener_;
  std::string address_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<Member> members_;
  std::map<std::string, std::string> keys_;
  uint64_t exchange_ = 1;  // the one that is being gathered
  std::string what_;       // its name, from the rank that came first; empty: none came
  RankClock::time_point since_;
  std::string failure_;  // the first; empty: none

  WakeUp wake_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace gateskip::train
