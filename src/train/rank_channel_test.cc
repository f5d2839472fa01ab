// SPDX-License-Identifier: Apache-2.0
// The ranks here are threads with a channel each; tests with processes that die are in process_group_test.cc.
#include "train/rank_channel.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <future>

#include "io/testing/expect_error.h"

namespace gateskip::train {
namespace {

using gateskip::testing::ExpectError;
using ::testing::HasSubstr;

// Failures are to come by name, not by time: long times, and short ones where the test waits for them to pass.
constexpr RankTimes kPatient{.time_out = 60, .work_time_out = 60, .join_time_out = 60, .grace = 60};

// A port of this host with a listener on it, as the launcher makes one.
struct Port {
  FileDescriptor listener = ListenAt("127.0.0.1", 0);
  uint16_t number = LocalPort(listener);
};

RankEnvironment Environment(Port& port, int rank, int size) {
  RankEnvironment environment;
  environment.rank = rank;
  environment.size = size;
  environment.address = "127.0.0.1";
  environment.port = port.number;
  environment.token = "secret";
  if (rank == 0) environment.listener = ::dup(port.listener.get());
  return environment;
}

// The channels of all ranks, which have to join at the same time.
std::vector<std::unique_ptr<RankChannel>> Join(int size, const RankTimes& times, EndProcess end = EndThisProcess) {
  Port port;
  std::vector<std::future<std::unique_ptr<RankChannel>>> joining;
  for (int rank = 0; rank < size; ++rank) {
    joining.push_back(std::async(std::launch::async, [&, rank] {
      return std::make_unique<RankChannel>(Environment(port, rank, size), times, end);
    }));
  }
  std::vector<std::unique_ptr<RankChannel>> channels;
  for (auto& channel : joining) channels.push_back(channel.get());
  return channels;
}

void OnAll(const std::vector<std::unique_ptr<RankChannel>>& channels, const std::function<void(RankChannel&)>& action) {
  std::vector<std::future<void>> running;
  for (const auto& channel : channels) {
    running.push_back(std::async(std::launch::async, [&] { action(*channel); }));
  }
  for (auto& one : running) one.get();
}

// A connection that speaks the protocol by hand.
class Stranger {
 public:
  explicit Stranger(const Port& port) : peer_(ConnectTo("127.0.0.1", port.number, RankClock::now() + Seconds(10))) {}

  void SendHello(const std::string& token, uint64_t rank, uint64_t size) {
    Send(MessageType::kHello,
         BodyWriter().Text(kRankProtocol).Text(TokenDigest(token)).Number(rank).Number(size).Text("nowhere").body());
  }
  void Send(MessageType type, const std::string& body) {
    peer_.Send(type, body);
    peer_.Pump(kMaxMessageBytes);
  }
  void SendRaw(const std::string& bytes) { ::send(peer_.socket().get(), bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  // The next message that is no beat; nothing once the other end closed.
  std::optional<Message> Receive() {
    for (;;) {
      const bool alive = peer_.Pump(kMaxMessageBytes);
      while (auto message = peer_.Next(kMaxMessageBytes)) {
        if (message->type != MessageType::kBeat) return message;
      }
      if (!alive) return std::nullopt;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

 private:
  RankPeer peer_;
};

TEST(RankChannel, EveryRankGetsWhatEveryRankBrought) {
  const auto channels = Join(3, kPatient);
  OnAll(channels, [](RankChannel& channel) {
    EXPECT_EQ(channel.local_address(), "127.0.0.1");
    for (int round = 0; round < 100; ++round) {
      const auto all = channel.Exchange("values", fmt::format("{} of {}", round, channel.rank()));
      EXPECT_THAT(all, ::testing::ElementsAre(fmt::format("{} of 0", round), fmt::format("{} of 1", round),
                                              fmt::format("{} of 2", round)));
    }
    // Longer than any socket's buffer, and of different lengths.
    const auto all = channel.Exchange("long values", std::string(size_t{3} << 20, static_cast<char>(channel.rank())));
    EXPECT_EQ(all.at(2), std::string(size_t{3} << 20, 2));
    ExpectError([&] { channel.Exchange("too long", std::string(kMaxMessageBytes, 'x')); }, ErrorCode::kLimitExceeded,
                "too long");
    channel.Leave();
  });
}

TEST(RankChannel, KeysReachAllRanks) {
  const auto channels = Join(3, kPatient);
  OnAll(channels, [](RankChannel& channel) {
    channel.SetKey(fmt::format("key {}", channel.rank()), std::string(1000, static_cast<char>('a' + channel.rank())));
    for (int rank = 0; rank < 3; ++rank) {
      EXPECT_EQ(channel.WaitKey(fmt::format("key {}", rank), 60), std::string(1000, static_cast<char>('a' + rank)));
    }
    EXPECT_EQ(channel.NumKeys(), 3U);
    EXPECT_FALSE(channel.HasKey("key 3"));
    ExpectError([&] { channel.WaitKey("key 3", 0.01); }, ErrorCode::kIo, "key 3");
    channel.Leave();
  });
}

TEST(RankChannel, ARankThatGivesUpIsNamedToAll) {
  const auto channels = Join(3, kPatient);
  channels[2]->GiveUp("[train] disk: expected space, found none");
  for (const int rank : {0, 1}) {
    ExpectError([&] { channels[static_cast<size_t>(rank)]->Exchange("step", {}); }, ErrorCode::kIo, "rank 2 of 3 on");
    ExpectError([&] { channels[static_cast<size_t>(rank)]->ThrowIfFailed(); }, ErrorCode::kIo, "found none");
  }
}

TEST(RankChannel, ARankThatEndsWithoutLeavingIsNamedWhoeverItIs) {
  for (const size_t ends : {size_t{0}, size_t{1}}) {
    auto channels = Join(3, kPatient);
    channels[ends].reset();
    for (size_t rank = 0; rank < 3; ++rank) {
      if (rank == ends) continue;
      ExpectError([&] { channels[rank]->Exchange("step", {}); }, ErrorCode::kIo, fmt::format("rank {} of 3", ends));
    }
  }
}

TEST(RankChannel, RanksThatComeToDifferentPlacesAreToldSo) {
  const auto channels = Join(2, kPatient);
  OnAll(channels, [](RankChannel& channel) {
    ExpectError([&] { channel.Exchange(channel.rank() == 0 ? "a sum" : "a barrier", {}); }, ErrorCode::kIo, "a sum");
  });
}

TEST(RankChannel, ARankThatWorksForTooLongIsNamed) {
  const auto channels = Join(3, {.time_out = 60, .work_time_out = 0.2, .join_time_out = 60, .grace = 60});
  std::vector<std::future<void>> waiting;
  for (const size_t rank : {size_t{0}, size_t{2}}) {
    waiting.push_back(std::async(std::launch::async, [&, rank] {
      ExpectError([&] { channels[rank]->Exchange("the sum", {}); }, ErrorCode::kIo, "rank 1 of 3");
    }));
  }
  for (auto& one : waiting) one.get();
}

TEST(RankChannel, RanksThatDoNotComeAreNamed) {
  Port port;
  ExpectError([&] { RankChannel(Environment(port, 0, 3), {.time_out = 60, .join_time_out = 0.2}); }, ErrorCode::kIo,
              "rank 1 of 3, rank 2 of 3");
}

TEST(RankChannel, ASilentRankIsNamedWithItsHost) {
  Port port;
  Stranger silent(port);
  silent.SendHello("secret", 1, 2);
  silent.Send(MessageType::kPost, BodyWriter().Number(1).Text(kJoin).Text({}).body());
  RankChannel channel(Environment(port, 0, 2), {.time_out = 0.5, .grace = 60});
  ExpectError([&] { channel.Exchange("the sum", {}); }, ErrorCode::kIo,
              "rank 1 of 2 on nowhere: expected a sign of life");
}

TEST(RankChannel, ASilentRankZeroIsNamed) {
  Port port;
  RankEnvironment environment = Environment(port, 1, 2);
  // A rank 0 that answers once and then never.
  auto hub = std::async(std::launch::async, [&] {
    FileDescriptor socket;
    while (!(socket = Accept(port.listener)).open()) std::this_thread::yield();
    auto peer = std::make_unique<RankPeer>(std::move(socket));
    peer->Send(MessageType::kResult, BodyWriter().Number(1).Text({}).Text({}).body());
    peer->Pump(kMaxMessageBytes);
    return peer;
  });
  RankChannel channel(environment, {.time_out = 0.5, .grace = 60});
  ExpectError([&] { channel.Exchange("the sum", {}); }, ErrorCode::kIo, "rank 0 of 2 at 127.0.0.1");
}

TEST(RankChannel, StrangersAreRefusedAndDoNoHarm) {
  Port port;
  auto first =
      std::async(std::launch::async, [&] { return std::make_unique<RankChannel>(Environment(port, 0, 2), kPatient); });
  const auto refused = [&](const std::string& token, uint64_t rank, uint64_t size) {
    Stranger stranger(port);
    stranger.SendHello(token, rank, size);
    const auto message = stranger.Receive();
    EXPECT_TRUE(message && message->type == MessageType::kRefused);
    EXPECT_FALSE(stranger.Receive());
    return message ? BodyReader(message->body).Text() : std::string();
  };
  EXPECT_THAT(refused("wrong", 1, 2), HasSubstr("GATESKIP_RANK_TOKEN"));
  EXPECT_THAT(refused("", 1, 2), HasSubstr("GATESKIP_RANK_TOKEN"));
  EXPECT_THAT(refused("secret", 1, 3), HasSubstr("WORLD_SIZE 2"));
  EXPECT_THAT(refused("secret", 2, 2), HasSubstr("WORLD_SIZE 2"));
  EXPECT_THAT(refused("secret", 0, 2), HasSubstr("second process"));
  // No word to who does not speak the protocol.
  for (const std::string& bytes :
       {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(2000, '\x01'), std::string("\xFF\xFF\xFF\x7F\x01", 5),
        std::string("\x04\0\0\0\x01\xFF\xFF\xFF\xFF", 9), std::string("\0\0\0\0\x01", 5),
        std::string("\0\0\0\0\x03", 5)}) {
    Stranger stranger(port);
    stranger.SendRaw(bytes);
    EXPECT_FALSE(stranger.Receive());
  }
  std::vector<std::unique_ptr<Stranger>> idle;
  for (int i = 0; i < 20; ++i) idle.push_back(std::make_unique<Stranger>(port));

  // A rank of the run is told why it may not join ...
  RankEnvironment other = Environment(port, 1, 2);
  other.token = "wrong";
  ExpectError([&] { RankChannel(other, kPatient); }, ErrorCode::kMismatch, "GATESKIP_RANK_TOKEN");
  // ... and the right one still may.
  RankChannel second(Environment(port, 1, 2), kPatient);
  const auto channel = first.get();
  auto leaving = std::async(std::launch::async, [&] { channel->Leave(); });
  second.Leave();
  leaving.get();
}

TEST(RankChannel, NobodyListensOnceAllAreThere) {
  Port port;
  auto first =
      std::async(std::launch::async, [&] { return std::make_unique<RankChannel>(Environment(port, 0, 2), kPatient); });
  RankChannel second(Environment(port, 1, 2), kPatient);
  const auto channel = first.get();
  port.listener.Close();
  ExpectError([&] { ConnectTo("127.0.0.1", port.number, RankClock::now()); }, ErrorCode::kIo, "expected rank 0");
}

// Keeps the first message that an end of this process would have had.
class FirstEnd {
 public:
  EndProcess callback() {
    return [this](const std::string& message) {
      if (!done_.exchange(true)) message_.set_value(message);
    };
  }
  std::string Wait() { return message_.get_future().get(); }

 private:
  std::atomic<bool> done_{false};
  std::promise<std::string> message_;
};

TEST(RankChannel, AProcessThatDoesNotEndAfterAFailureIsEnded) {
  FirstEnd end;
  auto channels = Join(2, {.time_out = 1, .work_time_out = 60, .join_time_out = 60, .grace = 0.1}, end.callback());
  channels[1].reset();  // and rank 0 computes on
  EXPECT_THAT(end.Wait(), HasSubstr("rank 1 of 2"));
}

TEST(RankChannel, ACallThatDoesNotComeBackEndsTheProcess) {
  FirstEnd end;
  const auto channels =
      Join(2, {.time_out = 1, .work_time_out = 60, .join_time_out = 60, .grace = 0.1}, end.callback());
  const RankChannel::Watch watch(*channels[0], "connecting", 0.1);
  EXPECT_THAT(end.Wait(), HasSubstr("connecting"));
}

TEST(RankSocket, AllInterfacesAtOnceAreRefused) {
  for (const char* host : {"0.0.0.0", "::", ""}) {
    ExpectError([&] { ListenAt(host, 0); }, ErrorCode::kInvalidArgument, "[ranks]");
  }
  ExpectError([] { ListenAt("192.0.2.1", 0); }, ErrorCode::kInvalidArgument, "192.0.2.1");
  ExpectError([] { ListenAt("no.such.host.invalid", 0); }, ErrorCode::kInvalidArgument, "no.such.host.invalid");
  ExpectError([] { AdoptListener(0); }, ErrorCode::kInvalidArgument, "listening socket");
  EXPECT_EQ(LocalAddress(ListenAt("lo", 0)), "127.0.0.1");
  EXPECT_EQ(AddressOfInterface("lo"), "127.0.0.1");
  EXPECT_TRUE(IsLoopback("127.0.0.1") && IsLoopback("::1") && !IsLoopback("10.0.0.1"));
}

}  // namespace
}  // namespace gateskip::train
