// SPDX-License-Identifier: Apache-2.0
#include "train/rank_peer.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace gateskip::train {

short RankPeer::events() const { return static_cast<short>(out_.empty() ? POLLIN : POLLIN | POLLOUT); }

bool RankPeer::Pump(size_t limit) {
  const bool sent = Flush();
  return Receive(limit) && sent;
}

bool RankPeer::Flush() {
  size_t done = 0;
  bool alive = true;
  while (done < out_.size()) {
    const ssize_t n = ::send(socket_.get(), out_.data() + done, out_.size() - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      done += static_cast<size_t>(n);
    } else if (errno != EINTR) {
      alive = errno == EAGAIN;
      break;
    }
  }
  out_.erase(0, done);
  return alive;
}

bool RankPeer::Receive(size_t limit) {
  std::array<char, 1 << 16> buffer;
  // Bounded: the rest is read once the messages in front of it were taken.
  while (in_.size() <= limit + kHeaderBytes) {
    const ssize_t n = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n > 0) {
      in_.append(buffer.data(), static_cast<size_t>(n));
      last_heard_ = RankClock::now();
    } else if (n == 0 || errno != EINTR) {
      return n != 0 && errno == EAGAIN;
    }
  }
  return true;
}

void RankPeer::EndSending() { ::shutdown(socket_.get(), SHUT_WR); }

WakeUp::WakeUp() : event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!event_.open()) {
    Fail(ErrorCode::kIo, "[ranks] eventfd: expected a descriptor, found: {}; raise the limit of open files",
         std::strerror(errno));
  }
}

void WakeUp::Signal() const {
  const uint64_t one = 1;
  static_cast<void>(!::write(event_.get(), &one, sizeof one));
}

void WakeUp::Drain() const {
  uint64_t count = 0;
  static_cast<void>(!::read(event_.get(), &count, sizeof count));
}

}  // namespace gateskip::train
