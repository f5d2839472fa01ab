// SPDX-License-Identifier: Apache-2.0
#include "train/rank_hub.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>

#include <span>

#include "base/check.h"
#include "base/sha256.h"

namespace gateskip::train {
namespace {

constexpr size_t kMaxStrangers = 64;  // connections that have not said who they are
constexpr double kHelloSeconds = 10;
constexpr double kDrainSeconds = 1;

bool EqualInConstantTime(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  int difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference |= a[i] ^ b[i];
  return difference == 0;
}

}  // namespace

struct RankHub::Connection {
  explicit Connection(FileDescriptor socket) : peer(std::move(socket)) {}
  RankPeer peer;
  const RankClock::time_point accepted = RankClock::now();
  int rank = -1;         // before its hello: -1
  bool refused = false;  // is told why, then closed
  bool gone = false;
};

struct RankHub::Member {
  int rank = 0;
  Connection* connection = nullptr;  // null before it joined and after it closed
  bool joined = false;
  bool left = false;
  bool posted = false;
  std::string host;
  std::string bytes;
};

std::string TokenDigest(const std::string& token) {
  const std::string text = std::string(kRankProtocol) + '\n' + token;
  return Sha256Hex(std::as_bytes(std::span(text)));
}

RankHub::RankHub(FileDescriptor listener, FileDescriptor own, int size, const std::string& token,
                 const RankTimes& times)
    : size_(size),
      token_digest_(TokenDigest(token)),
      times_(times),
      listener_(std::move(listener)),
      address_(fmt::format("{} port {}", LocalAddress(listener_), LocalPort(listener_))),
      members_(static_cast<size_t>(size)) {
  for (int rank = 0; rank < size; ++rank) members_[static_cast<size_t>(rank)].rank = rank;
  connections_.push_back(std::make_unique<Connection>(std::move(own)));
  thread_ = std::thread([this] { Run(); });
}

RankHub::~RankHub() {
  stop_ = true;
  wake_.Signal();
  thread_.join();
}

void RankHub::Run() {
  const RankClock::duration beat = Seconds(BeatSeconds(times_.time_out));
  RankClock::time_point next_beat = start_;
  RankClock::time_point drained{};
  OwnSleep sleep(times_.time_out);
  for (;;) {
    std::vector<pollfd> polled;
    for (const auto& c : connections_) polled.push_back({c->peer.socket().get(), c->peer.events(), 0});
    polled.push_back({wake_.fd(), POLLIN, 0});
    if (listener_.open()) polled.push_back({listener_.get(), POLLIN, 0});
    const RankClock::time_point until = stop_ ? std::min(next_beat, drained) : next_beat;
    ::poll(polled.data(), polled.size(), MillisecondsUntil(until));
    wake_.Drain();

    for (size_t i = 0; i < connections_.size(); ++i) {
      if (polled[i].revents != 0) Serve(*connections_[i]);
    }
    const RankClock::time_point now = RankClock::now();
    if (listener_.open()) AcceptNew(now);
    std::erase_if(connections_, [](const auto& c) { return c->gone; });
    if (sleep.Overslept(now)) {
      for (const auto& c : connections_) c->peer.Forgive(now);
    }
    if (now >= next_beat) {
      Broadcast(MessageType::kBeat, {}, nullptr);
      next_beat = now + beat;
      CheckTimes(now);
    }
    if (!stop_) continue;
    if (drained == RankClock::time_point{}) {
      drained = now + Seconds(kDrainSeconds);
      listener_.Close();
    }
    for (const auto& c : connections_) {
      if (c->peer.flushed()) c->peer.EndSending();
    }
    if (connections_.empty() || now >= drained) return;
  }
}

void RankHub::AcceptNew(RankClock::time_point now) {
  size_t strangers = 0;
  for (const auto& c : connections_) {
    if (c->rank >= 0) continue;
    ++strangers;
    if (now - c->accepted > Seconds(kHelloSeconds)) c->gone = true;
  }
  while (strangers < kMaxStrangers) {
    FileDescriptor socket = Accept(listener_);
    if (!socket.open()) return;
    connections_.push_back(std::make_unique<Connection>(std::move(socket)));
    ++strangers;
  }
}

void RankHub::Serve(Connection& connection) {
  const size_t limit = connection.rank < 0 ? kMaxHelloBytes : kMaxMessageBytes;
  const bool alive = connection.peer.Pump(limit);
  try {
    while (!connection.refused) {
      const auto message = connection.peer.Next(limit);
      if (!message) break;
      OnMessage(connection, *message);
    }
  } catch (const std::exception& error) {
    if (connection.rank >= 0) FailRun(error.what());
    connection.gone = true;
  }
  if (connection.refused && connection.peer.flushed()) connection.gone = true;
  if (!alive) connection.gone = true;
  if (!connection.gone || connection.rank < 0) return;
  Member& member = members_[static_cast<size_t>(connection.rank)];
  member.connection = nullptr;
  if (!member.left) {
    FailRun(
        fmt::format("[ranks] {}: expected it to stay until the end, found its connection closed: it was killed, it "
                    "crashed or the network broke; see its own output, and go on with --resume",
                    NameOf(member)));
  }
}

void RankHub::OnMessage(Connection& connection, const Message& message) {
  if (connection.rank < 0) {
    OnHello(connection, message);
    return;
  }
  Member& member = members_[static_cast<size_t>(connection.rank)];
  BodyReader body(message.body);
  switch (message.type) {
    case MessageType::kKey: {
      const std::string key = body.Text();
      keys_[key] = body.Text();
      Broadcast(MessageType::kKey, message.body, &connection);
      break;
    }
    case MessageType::kPost:
      OnPost(member, body);
      break;
    case MessageType::kFailed:
      FailRun(fmt::format("[ranks] {}: expected it to go on, found that it gave up: {}; see its own output",
                          NameOf(member), body.Text()));
      break;
    default:  // a beat; the rest is not for rank 0 and does no harm
      break;
  }
}

void RankHub::OnHello(Connection& connection, const Message& message) {
  BodyReader body(message.body);
  if (message.type != MessageType::kHello || body.Text() != kRankProtocol) {
    connection.gone = true;  // not one of us, and not to be talked to
    return;
  }
  if (!EqualInConstantTime(body.Text(), token_digest_)) {
    Refuse(connection, fmt::format("[ranks] {}: expected a rank of this run, found one with another {}; give all ranks "
                                   "the same",
                                   address_, "GATESKIP_RANK_TOKEN"));
    return;
  }
  const uint64_t rank = body.Number();
  const uint64_t size = body.Number();
  if (size != static_cast<uint64_t>(size_) || rank >= size) {
    Refuse(connection, fmt::format("[ranks] {}: expected WORLD_SIZE {}, found rank {} of {}; give all ranks the same",
                                   address_, size_, rank, size));
    return;
  }
  Member& member = members_[rank];
  if (member.joined) {
    Refuse(connection,
           fmt::format("[ranks] {}: expected another RANK, found a second process; {} is in the run already", address_,
                       NameOf(member)));
    return;
  }
  member.host = body.Text().substr(0, 256);
  member.connection = &connection;
  member.joined = true;
  connection.rank = static_cast<int>(rank);
  for (const auto& [key, value] : keys_) {
    connection.peer.Send(MessageType::kKey, BodyWriter().Text(key).Text(value).body());
  }
  if (!failure_.empty()) connection.peer.Send(MessageType::kFailed, BodyWriter().Text(failure_).body());
  if (std::all_of(members_.begin(), members_.end(), [](const Member& m) { return m.joined; })) listener_.Close();
}

void RankHub::Refuse(Connection& connection, const std::string& reason) {
  connection.peer.Send(MessageType::kRefused, BodyWriter().Text(reason).body());
  connection.refused = true;
}

void RankHub::OnPost(Member& member, BodyReader body) {
  const uint64_t number = body.Number();
  const std::string what = body.Text();
  if (!failure_.empty()) return;
  if (what_.empty()) {
    what_ = what;
    since_ = RankClock::now();
  }
  if (number != exchange_ || member.posted || what != what_) {
    FailRun(
        fmt::format("[ranks] {}: expected it to come to {}, number {}, found it at {}, number {}; please report "
                    "this as a bug",
                    NameOf(member), what_, exchange_, what, number));
    return;
  }
  member.bytes = body.Text();
  member.posted = true;
  if (std::all_of(members_.begin(), members_.end(), [](const Member& m) { return m.posted; })) FinishExchange();
}

void RankHub::FinishExchange() {
  BodyWriter result;
  result.Number(exchange_);
  for (Member& member : members_) {
    result.Text(member.bytes);
    member.bytes.clear();
    member.posted = false;
    member.left = what_ == kLeave;
  }
  Broadcast(MessageType::kResult, result.body(), nullptr);
  ++exchange_;
  what_.clear();
}

void RankHub::CheckTimes(RankClock::time_point now) {
  if (!failure_.empty()) return;
  for (const Member& member : members_) {
    if (member.connection == nullptr || member.left) continue;
    const double silence = InSeconds(now - member.connection->peer.last_heard());
    if (silence <= times_.time_out) continue;
    FailRun(
        fmt::format("[ranks] {}: expected a sign of life every {} s, found none for {:.0f} s: it is stopped, or "
                    "its host or network is; go on with --resume",
                    NameOf(member), BeatSeconds(times_.time_out), silence));
    return;
  }
  if (exchange_ == 1 && now - start_ > Seconds(times_.join_time_out)) {
    FailRun(
        fmt::format("[ranks] {}: expected {} ranks within {} s, found no {}; start every rank, with the same "
                    "MASTER_ADDR, MASTER_PORT and WORLD_SIZE",
                    address_, size_, times_.join_time_out, Missing()));
  } else if (!what_.empty() && now - since_ > Seconds(times_.work_time_out)) {
    FailRun(
        fmt::format("[ranks] {}: expected to come to {} within {} s as others did, found it alive but elsewhere; "
                    "give it more time, or see what it waits for",
                    Missing(), what_, times_.work_time_out));
  }
}

std::string RankHub::Missing() const {
  std::vector<std::string> names;
  for (const Member& member : members_) {
    if (!member.posted) names.push_back(NameOf(member));
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string RankHub::NameOf(const Member& member) const {
  return member.joined ? fmt::format("rank {} of {} on {}", member.rank, size_, member.host)
                       : fmt::format("rank {} of {}", member.rank, size_);
}

void RankHub::Broadcast(MessageType type, std::string_view body, const Connection* except) {
  for (const Member& member : members_) {
    if (member.connection != nullptr && member.connection != except) member.connection->peer.Send(type, body);
  }
}

void RankHub::FailRun(const std::string& reason) {
  if (!failure_.empty()) return;  // what follows from the first failure is no news
  failure_ = reason;
  Broadcast(MessageType::kFailed, BodyWriter().Text(reason).body(), nullptr);
}

}  // namespace gateskip::train
