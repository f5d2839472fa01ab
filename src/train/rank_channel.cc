// SPDX-License-Identifier: Apache-2.0
#include "train/rank_channel.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace gateskip::train {
namespace {

constexpr double kDrainSeconds = 1;

std::string HostName() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "an unnamed host";
}

std::array<FileDescriptor, 2> SocketPair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0) {
    gateskip::Fail(ErrorCode::kIo, "[ranks] socketpair: expected two ends, found: {}; raise the limit of open files",
                   std::strerror(errno));
  }
  return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

FileDescriptor OpenListener(const RankEnvironment& environment) {
  if (environment.listener >= 0) return AdoptListener(environment.listener);
  return ListenAt(environment.bind_address.empty() ? environment.address : environment.bind_address, environment.port);
}

}  // namespace

void EndThisProcess(const std::string& message) {
  const std::string line = "gateskip: error: " + message + "\n";
  static_cast<void>(!::write(STDERR_FILENO, line.data(), line.size()));
  // Another thread hangs in a call that does not come back: nothing can be unwound any more.
  ::_exit(ExitCode(ErrorCode::kIo));
}

RankChannel::RankChannel(const RankEnvironment& environment, const RankTimes& times, EndProcess end_process)
    : rank_(environment.rank),
      size_(environment.size),
      times_(times),
      end_process_(std::move(end_process)),
      hub_name_(fmt::format("rank 0 of {} at {} port {}", size_, environment.address, environment.port)) {
  if (rank_ == 0) {
    FileDescriptor listener = OpenListener(environment);
    local_address_ = LocalAddress(listener);
    auto [own, other] = SocketPair();
    hub_ = std::make_unique<RankHub>(std::move(listener), std::move(other), size_, environment.token, times_);
    peer_.emplace(std::move(own));
  } else {
    peer_.emplace(ConnectTo(environment.address, environment.port, RankClock::now() + Seconds(times_.join_time_out)));
    local_address_ =
        environment.bind_address.empty() ? LocalAddress(peer_->socket()) : AddressOfInterface(environment.bind_address);
  }
  peer_->Send(MessageType::kHello, BodyWriter()
                                       .Text(kRankProtocol)
                                       .Text(TokenDigest(environment.token))
                                       .Number(static_cast<uint64_t>(rank_))
                                       .Number(static_cast<uint64_t>(size_))
                                       .Text(HostName())
                                       .body());
  thread_ = std::thread([this] { Run(); });
  try {
    Exchange(kJoin, {});
  } catch (...) {
    StopThread();
    throw;
  }
}

RankChannel::~RankChannel() {
  {
    const std::lock_guard lock(mutex_);
    if (!HasLeft() && !failure_) GiveUpLocked("it ended before the others");
  }
  StopThread();
}

void RankChannel::StopThread() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.Signal();
  thread_.join();
}

std::vector<std::string> RankChannel::Exchange(std::string_view what, std::string_view bytes) {
  const size_t limit = kMaxMessageBytes / static_cast<size_t>(size_) / 2;
  if (bytes.size() > limit) {
    gateskip::Fail(ErrorCode::kLimitExceeded, "[ranks] {}: expected at most {} bytes per rank, found {}; send less",
                   what, limit, bytes.size());
  }
  std::unique_lock lock(mutex_);
  ThrowIfFailedLocked();
  const uint64_t number = ++posted_;
  if (what == kLeave) leave_ = number;
  peer_->Send(MessageType::kPost, BodyWriter().Number(number).Text(what).Text(bytes).body());
  wake_.Signal();
  // Not bounded here: the thread either gets the result or says who is to blame.
  changed_.wait(lock, [&] { return finished_ == number || failure_.has_value(); });
  if (finished_ != number) ThrowIfFailedLocked();
  return std::move(result_);
}

void RankChannel::SetKey(const std::string& key, const std::string& value) {
  {
    const std::lock_guard lock(mutex_);
    keys_[key] = value;
    peer_->Send(MessageType::kKey, BodyWriter().Text(key).Text(value).body());
  }
  wake_.Signal();
  changed_.notify_all();
}

bool RankChannel::HasKey(const std::string& key) {
  const std::lock_guard lock(mutex_);
  return keys_.contains(key);
}

std::string RankChannel::WaitKey(const std::string& key, double seconds) {
  std::unique_lock lock(mutex_);
  const bool came =
      changed_.wait_for(lock, Seconds(seconds), [&] { return keys_.contains(key) || failure_.has_value(); });
  ThrowIfFailedLocked();
  if (!came) {
    gateskip::Fail(ErrorCode::kIo, "[ranks] key {}: expected another rank to set it within {} s, found it unset; {}",
                   key, seconds, "go on with --resume");
  }
  return keys_.at(key);
}

size_t RankChannel::NumKeys() {
  const std::lock_guard lock(mutex_);
  return keys_.size();
}

void RankChannel::ThrowIfFailed() {
  const std::lock_guard lock(mutex_);
  ThrowIfFailedLocked();
}

void RankChannel::ThrowIfFailsWithin(double seconds) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, Seconds(seconds), [&] { return failure_.has_value(); });
  ThrowIfFailedLocked();
}

void RankChannel::ThrowIfFailedLocked() const {
  if (failure_) throw Error(failure_->code, failure_->message);
}

void RankChannel::GiveUp(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  if (!failure_) GiveUpLocked(reason);  // else the others know
  wake_.Signal();
}

void RankChannel::GiveUpLocked(std::string_view reason) {
  peer_->Send(MessageType::kFailed, BodyWriter().Text(reason).body());
}

void RankChannel::Leave() { Exchange(kLeave, {}); }

RankChannel::Watch::Watch(RankChannel& channel, const std::string& what, double seconds) : channel_(channel) {
  const std::lock_guard lock(channel_.mutex_);
  channel_.watched_ = fmt::format(
      "[ranks] {}: expected it to end within {} s, found it still under way on rank {} of {}; go on with --resume",
      what, seconds, channel_.rank_, channel_.size_);
  channel_.watched_until_ = RankClock::now() + Seconds(seconds + channel_.times_.grace);
}

RankChannel::Watch::~Watch() {
  const std::lock_guard lock(channel_.mutex_);
  channel_.watched_.clear();
}

bool RankChannel::HasLeft() const { return leave_ != 0 && finished_ >= leave_; }

void RankChannel::Run() {
  const RankClock::duration beat = Seconds(BeatSeconds(times_.time_out));
  RankClock::time_point next_beat = RankClock::now();
  OwnSleep sleep(times_.time_out);
  bool alive = true;
  std::unique_lock lock(mutex_);
  while (!stop_) {
    std::array<pollfd, 2> polled = {
        {{wake_.fd(), POLLIN, 0}, {alive ? peer_->socket().get() : -1, peer_->events(), 0}}};
    lock.unlock();
    ::poll(polled.data(), polled.size(), MillisecondsUntil(next_beat));
    wake_.Drain();
    lock.lock();

    if (alive) alive = peer_->Pump(kMaxMessageBytes);
    try {
      while (const auto message = peer_->Next(kMaxMessageBytes)) OnMessage(*message);
    } catch (const std::exception& error) {
      Fail(ErrorCode::kIo, error.what());
    }
    if (!alive && !HasLeft()) {
      Fail(ErrorCode::kIo,
           fmt::format("[ranks] {}: expected it to stay until the end, found its connection closed: it was killed, it "
                       "crashed or the network broke; see its own output, and go on with --resume",
                       hub_name_));
    }
    const RankClock::time_point now = RankClock::now();
    if (sleep.Overslept(now)) peer_->Forgive(now);
    if (now >= next_beat) {
      peer_->Send(MessageType::kBeat, {});
      next_beat = now + beat;
      CheckTimes(now);
    }
  }
  const RankClock::time_point until = RankClock::now() + Seconds(kDrainSeconds);
  while (alive && !peer_->flushed() && RankClock::now() < until) {
    pollfd polled = {peer_->socket().get(), POLLOUT, 0};
    ::poll(&polled, 1, MillisecondsUntil(until));
    alive = peer_->Pump(kMaxMessageBytes);
  }
  peer_->EndSending();
}

void RankChannel::OnMessage(const Message& message) {
  BodyReader body(message.body);
  switch (message.type) {
    case MessageType::kKey: {
      const std::string key = body.Text();
      keys_[key] = body.Text();
      break;
    }
    case MessageType::kResult:
      finished_ = body.Number();
      result_.clear();
      for (int rank = 0; rank < size_; ++rank) result_.push_back(body.Text());
      break;
    case MessageType::kRefused:
      Fail(ErrorCode::kMismatch, body.Text());
      break;
    case MessageType::kFailed:
      Fail(ErrorCode::kIo, body.Text());
      break;
    default:  // a beat
      return;
  }
  changed_.notify_all();
}

void RankChannel::CheckTimes(RankClock::time_point now) {
  const double silence = InSeconds(now - peer_->last_heard());
  if (silence > times_.time_out && !HasLeft()) {
    Fail(ErrorCode::kIo,
         fmt::format("[ranks] {}: expected a sign of life every {} s, found none for {:.0f} s: it is stopped, or its "
                     "host or network is; go on with --resume",
                     hub_name_, BeatSeconds(times_.time_out), silence));
  }
  const bool failed_for_long = failure_ && now > failure_->when + Seconds(times_.grace);
  const bool watched_for_long = !watched_.empty() && now > watched_until_;
  if (ended_ || !(failed_for_long || watched_for_long)) return;
  ended_ = true;
  end_process_(failed_for_long ? failure_->message : watched_);
}

void RankChannel::Fail(ErrorCode code, const std::string& message) {
  if (failure_) return;  // what follows from the first one is no news
  failure_ = Failure{code, message, RankClock::now()};
  changed_.notify_all();
}

}  // namespace gateskip::train
