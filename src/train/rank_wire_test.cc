// SPDX-License-Identifier: Apache-2.0
#include "train/rank_wire.h"

#include <gtest/gtest.h>

#include "io/testing/expect_error.h"

namespace gateskip::train {
namespace {

using gateskip::testing::ExpectError;

TEST(RankWire, MessagesComeWholeAndInOrderHoweverTheyAreCut) {
  const std::string body = BodyWriter().Number(0x0123456789ABCDEF).Text("key").Text(std::string("\0\n", 2)).body();
  std::string sent;
  AppendMessage(sent, MessageType::kBeat, {});
  AppendMessage(sent, MessageType::kKey, body);
  std::string received;
  std::vector<Message> messages;
  for (const char c : sent) {
    received.push_back(c);
    while (const auto message = TakeMessage(received, 64)) messages.push_back(*message);
  }
  ASSERT_EQ(messages.size(), 2U);
  EXPECT_EQ(messages[0].type, MessageType::kBeat);
  EXPECT_TRUE(messages[0].body.empty());
  EXPECT_EQ(messages[1].type, MessageType::kKey);
  BodyReader reader(messages[1].body);
  EXPECT_EQ(reader.Number(), 0x0123456789ABCDEFU);
  EXPECT_EQ(reader.Text(), "key");
  EXPECT_EQ(reader.Text(), std::string("\0\n", 2));
  EXPECT_TRUE(received.empty());
}

TEST(RankWire, LengthsAndTypesAreCheckedBeforeAnythingIsKept) {
  const auto take = [](std::string bytes) { return [bytes]() mutable { TakeMessage(bytes, 16); }; };
  ExpectError(take(std::string("\x11\0\0\0\x03", 5)), ErrorCode::kCorruptData, "at most 16 bytes");
  ExpectError(take(std::string("\xFF\xFF\xFF\xFF\x03", 5)), ErrorCode::kCorruptData, "4294967295 bytes");
  ExpectError(take(std::string("\0\0\0\0\0", 5)), ErrorCode::kCorruptData, "type 0");
  ExpectError(take("GET / HTTP/1.1\r\n"), ErrorCode::kCorruptData, "known type");
}

TEST(RankWire, ATruncatedBodyIsAnErrorAtEveryLength) {
  const std::string body = BodyWriter().Number(7).Text("text").body();
  for (size_t length = 0; length < body.size(); ++length) {
    ExpectError(
        [&] {
          BodyReader reader(std::string_view(body).substr(0, length));
          reader.Number();
          reader.Text();
        },
        ErrorCode::kCorruptData, "more bytes");
  }
}

}  // namespace
}  // namespace gateskip::train
