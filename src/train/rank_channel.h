// SPDX-License-Identifier: Apache-2.0
// What the ranks of a run say to each other besides tensors: that they are alive, small values, and why a run ends. A
// star over TCP with rank 0's RankHub in the middle; a thread per process keeps it going while the caller computes.
//
// The promise: when a rank dies, stops or loses its network, every other rank learns its name within
// RankTimes::time_out, calls here throw, and a process that has not ended `grace` seconds later is ended.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "gateskip/error.h"
#include "train/rank_environment.h"
#include "train/rank_hub.h"
#include "train/rank_peer.h"

namespace gateskip::train {

// The default prints the message as the command line does and ends the process with ExitCode(kIo).
using EndProcess = std::function<void(const std::string& message)>;
void EndThisProcess(const std::string& message);

class RankChannel {
 public:
  // Returns when all ranks are there. Throws Error: kInvalidArgument (addresses), kMismatch (rank 0 refuses this one:
  // another token, WORLD_SIZE or a RANK taken), kIo (not all came within join_time_out).
  RankChannel(const RankEnvironment& environment, const RankTimes& times, EndProcess end_process = EndThisProcess);
  // Without Leave() before it: tells the others that this rank has given up.
  ~RankChannel();
  RankChannel(const RankChannel&) = delete;
  RankChannel& operator=(const RankChannel&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const RankTimes& times() const { return times_; }
  // This host's numeric address on the network of the run.
  const std::string& local_address() const { return local_address_; }

  // Waits until every rank has come here with the same `what` (a name for messages, not empty), and returns what each
  // brought, by rank. Throws Error(kIo) naming the rank at fault once the run has failed.
  std::vector<std::string> Exchange(std::string_view what, std::string_view bytes);

  // Keys that any rank sets once and all ranks see. WaitKey throws Error(kIo) after `seconds`.
  void SetKey(const std::string& key, const std::string& value);
  bool HasKey(const std::string& key);
  std::string WaitKey(const std::string& key, double seconds);
  size_t NumKeys();

  void ThrowIfFailed();
  // Waits up to `seconds` for the reason of a failure that was noticed elsewhere, and throws it if it comes.
  void ThrowIfFailsWithin(double seconds);
  // Ends the run for all ranks, naming this one.
  void GiveUp(const std::string& reason);
  // The end of the run, in which all ranks must come together: nobody closes a connection that another still reads.
  void Leave();

  // While it lives, a call that may not come back: the process is ended `grace` after `seconds`.
  class Watch {
   public:
    Watch(RankChannel& channel, const std::string& what, double seconds);
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

   private:
    RankChannel& channel_;
  };

 private:
  struct Failure {
    ErrorCode code;
    std::string message;
    RankClock::time_point when;
  };

  void Run();
  void OnMessage(const Message& message);
  void CheckTimes(RankClock::time_point now);
  void Fail(ErrorCode code, const std::string& message);
  void ThrowIfFailedLocked() const;
  void GiveUpLocked(std::string_view reason);
  bool HasLeft() const;
  void StopThread();

  const int rank_;
  const int size_;
  const RankTimes times_;
  const EndProcess end_process_;
  const std::string hub_name_;  // rank 0, for messages
  std::string local_address_;
  std::unique_ptr<RankHub> hub_;  // rank 0 only

  std::mutex mutex_;  // of all that follows
  std::condition_variable changed_;
  std::optional<RankPeer> peer_;
  std::map<std::string, std::string> keys_;
  uint64_t posted_ = 0;  // number of the last exchange begun, and of the last one finished with its result
  uint64_t finished_ = 0;
  std::vector<std::string> result_;
  std::optional<Failure> failure_;
  uint64_t leave_ = 0;  // number of the exchange that is the end of the run; 0: not yet
  bool stop_ = false;
  bool ended_ = false;   // end_process_ was called
  std::string watched_;  // empty: nothing
  RankClock::time_point watched_until_;

  WakeUp wake_;
  std::thread thread_;
};

}  // namespace gateskip::train
