// SPDX-License-Identifier: Apache-2.0
// One connection between ranks: a non-blocking socket and what waits to go out or has come in, owned by one thread; and
// the clock rules both ends share.
#pragma once

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "train/rank_socket.h"
#include "train/rank_wire.h"

namespace gateskip::train {

using RankClock = std::chrono::steady_clock;

inline RankClock::duration Seconds(double seconds) {
  return std::chrono::duration_cast<RankClock::duration>(std::chrono::duration<double>(seconds));
}
inline double InSeconds(RankClock::duration duration) { return std::chrono::duration<double>(duration).count(); }
// For poll().
inline int MillisecondsUntil(RankClock::time_point until) {
  const auto wait = std::chrono::ceil<std::chrono::milliseconds>(until - RankClock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(wait, 0, 60'000));
}
// How often a rank says that it is alive, given the silence after which it counts as dead.
inline double BeatSeconds(double time_out) { return std::clamp(time_out / 4, 0.05, 1.0); }

class RankPeer {
 public:
  explicit RankPeer(FileDescriptor socket) : socket_(std::move(socket)), last_heard_(RankClock::now()) {}

  void Send(MessageType type, std::string_view body) { AppendMessage(out_, type, body); }
  // What poll() is to wait for.
  short events() const;
  // Sends what goes without waiting and receives until a message of `limit` bytes is complete at the latest. False: the
  // other end is gone; messages may still be there.
  bool Pump(size_t limit);
  // The next message that came. Throws Error(kCorruptData).
  std::optional<Message> Next(size_t limit) { return TakeMessage(in_, limit); }
  // No more will be sent: the other end sees that once it has read everything.
  void EndSending();

  const FileDescriptor& socket() const { return socket_; }
  bool flushed() const { return out_.empty(); }
  RankClock::time_point last_heard() const { return last_heard_; }
  void Forgive(RankClock::time_point now) { last_heard_ = now; }

 private:
  bool Flush();
  bool Receive(size_t limit);

  FileDescriptor socket_;
  std::string in_;
  std::string out_;
  RankClock::time_point last_heard_;
};

// A process that was stopped itself (SIGSTOP, a suspended machine) must not blame the others for its own silence.
class OwnSleep {
 public:
  explicit OwnSleep(double time_out) : limit_(Seconds(time_out / 2)), last_(RankClock::now()) {}
  // Called in every round of a loop that never waits for long: true after a gap that cannot be work.
  bool Overslept(RankClock::time_point now) { return now - std::exchange(last_, now) > limit_; }

 private:
  RankClock::duration limit_;
  RankClock::time_point last_;
};

// Wakes a thread that sits in poll().
class WakeUp {
 public:
  WakeUp();
  void Signal() const;
  void Drain() const;
  int fd() const { return event_.get(); }

 private:
  FileDescriptor event_;
};

}  // namespace gateskip::train
