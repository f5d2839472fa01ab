// SPDX-License-Identifier: Apache-2.0
// Event files read back by a decoder that shares nothing with the writer but the CRC, which has its own test.
#include "train/event_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <vector>

#include "base/crc32c.h"
#include "gateskip/error.h"
#include "io/testing/temp_directory.h"

namespace gateskip::train {
namespace {

using ::testing::ElementsAre;
using ::testing::MatchesRegex;
using testing::ReadBack;
using testing::TempDirectory;

template <typename Number>
Number Take(std::string_view& bytes) {
  Number value{};
  if (bytes.size() < sizeof(value)) {
    ADD_FAILURE() << "ends early";
    bytes = {};
    return value;
  }
  std::memcpy(&value, bytes.data(), sizeof(value));
  bytes.remove_prefix(sizeof(value));
  return value;
}

uint64_t TakeVarint(std::string_view& bytes) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const auto byte = Take<uint8_t>(bytes);
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  ADD_FAILURE() << "a varint of more than ten bytes";
  return value;
}

// A message as the wire format has it: field number -> raw values in order.
struct Message {
  std::map<int, std::vector<uint64_t>> varints;
  std::map<int, std::vector<double>> doubles;
  std::map<int, std::vector<float>> floats;
  std::map<int, std::vector<std::string>> bytes;

  static Message Parse(std::string_view text) {
    Message message;
    while (!text.empty()) {
      const uint64_t key = TakeVarint(text);
      const int field = static_cast<int>(key >> 3);
      switch (key & 7) {
        case 0:
          message.varints[field].push_back(TakeVarint(text));
          break;
        case 1:
          message.doubles[field].push_back(Take<double>(text));
          break;
        case 2: {
          const uint64_t size = TakeVarint(text);
          if (size > text.size()) {
            ADD_FAILURE() << "field " << field << " is longer than its message";
            return message;
          }
          message.bytes[field].emplace_back(text.substr(0, size));
          text.remove_prefix(size);
          break;
        }
        case 5:
          message.floats[field].push_back(Take<float>(text));
          break;
        default:
          ADD_FAILURE() << "wire type " << (key & 7);
          return message;
      }
    }
    return message;
  }
};

uint32_t Unmask(uint32_t masked) {
  const uint32_t rotated = masked - 0xA282EAD8U;
  return rotated >> 17 | rotated << 15;
}

uint32_t Crc(std::string_view text) { return Crc32c(std::as_bytes(std::span(text))); }

std::vector<Message> ReadEvents(const std::string& path) {
  const std::string file = ReadBack(path);
  std::string_view rest = file;
  std::vector<Message> events;
  while (!rest.empty()) {
    const std::string_view length_bytes = rest.substr(0, 8);
    const auto length = Take<uint64_t>(rest);
    EXPECT_EQ(Unmask(Take<uint32_t>(rest)), Crc(length_bytes));
    if (rest.size() < length + 4) {
      ADD_FAILURE() << "a record ends early";
      return events;
    }
    const std::string_view payload = rest.substr(0, length);
    rest.remove_prefix(length);
    EXPECT_EQ(Unmask(Take<uint32_t>(rest)), Crc(payload));
    events.push_back(Message::Parse(payload));
  }
  return events;
}

// The only Value of the Summary of an event.
Message ValueOf(const Message& event) {
  const Message summary = Message::Parse(event.bytes.at(5).at(0));
  return Message::Parse(summary.bytes.at(1).at(0));
}

std::vector<double> Packed(const Message& message, int field) {
  std::string_view bytes = message.bytes.at(field).at(0);
  std::vector<double> values;
  while (!bytes.empty()) values.push_back(Take<double>(bytes));
  return values;
}

TEST(EventFileTest, ScalarsComeBackWithTagStepAndTime) {
  const TempDirectory directory;
  std::string path;
  const auto before = static_cast<double>(time(nullptr));
  {
    EventFile file(directory.path());
    path = file.path();
    file.Scalar("train/loss", 1, 0.75);
    file.Scalar("train/loss", int64_t{1} << 40, 0.0);
    file.Scalar("train/loss", 3, std::numeric_limits<double>::quiet_NaN());
  }
  const std::vector<Message> events = ReadEvents(path);
  ASSERT_EQ(events.size(), 4U);
  EXPECT_EQ(events[0].bytes.at(3).at(0), "brain.Event:2");
  for (const Message& event : events) {
    EXPECT_GE(event.doubles.at(1).at(0), before);
    EXPECT_LE(event.doubles.at(1).at(0), before + 100);
  }
  EXPECT_EQ(events[1].varints.at(2).at(0), 1U);
  EXPECT_EQ(ValueOf(events[1]).bytes.at(1).at(0), "train/loss");
  EXPECT_EQ(ValueOf(events[1]).floats.at(2).at(0), 0.75F);
  EXPECT_EQ(events[2].varints.at(2).at(0), uint64_t{1} << 40);
  EXPECT_EQ(ValueOf(events[2]).floats.at(2).at(0), 0.0F);
  EXPECT_TRUE(std::isnan(ValueOf(events[3]).floats.at(2).at(0)));
}

TEST(EventFileTest, HistogramsCountEveryFiniteValueOnce) {
  const TempDirectory directory;
  EventFile file(directory.path());
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {0.0F, 0.25F, 0.25F, 0.5F, 1.0F, kInf, -kInf, std::nanf("")};
  file.Histogram("gates/mean", 7, values);
  file.Histogram("gates/same", 7, std::vector<float>{3.0F, 3.0F});
  file.Histogram("gates/none", 7, std::vector<float>{kInf});
  file.Histogram("gates/empty", 7, {});
  EXPECT_TRUE(file.Flush());
  const std::vector<Message> events = ReadEvents(file.path());
  ASSERT_EQ(events.size(), 3U);
  const Message histogram = Message::Parse(ValueOf(events[1]).bytes.at(5).at(0));
  EXPECT_EQ(histogram.doubles.at(1).at(0), 0.0);
  EXPECT_EQ(histogram.doubles.at(2).at(0), 1.0);
  EXPECT_EQ(histogram.doubles.at(3).at(0), 5.0);
  EXPECT_EQ(histogram.doubles.at(4).at(0), 2.0);
  EXPECT_EQ(histogram.doubles.at(5).at(0), 1.375);
  const std::vector<double> limits = Packed(histogram, 6);
  const std::vector<double> counts = Packed(histogram, 7);
  ASSERT_EQ(limits.size(), 30U);
  ASSERT_EQ(counts.size(), 30U);
  EXPECT_EQ(limits.back(), 1.0);
  // Bucket i holds what is above limit i - 1 and at most limit i.
  std::vector<double> expected(30, 0.0);
  for (const double v : {0.0, 0.25, 0.25, 0.5, 1.0}) {
    size_t i = 0;
    while (limits[i] < v) ++i;
    expected[i] += 1;
  }
  EXPECT_EQ(counts, expected);
  EXPECT_EQ(counts[0], 1.0);
  EXPECT_EQ(counts[29], 1.0);
  const Message same = Message::Parse(ValueOf(events[2]).bytes.at(5).at(0));
  EXPECT_THAT(Packed(same, 6), ElementsAre(3.0));
  EXPECT_THAT(Packed(same, 7), ElementsAre(2.0));
}

TEST(EventFileTest, EveryProcessOpensItsOwnFileAndAResumedOneSaysWhere) {
  const TempDirectory directory;
  EventFile first(directory.path());
  EventFile second(directory.path(), 450);
  EXPECT_NE(first.path(), second.path());
  for (const std::string& name : directory.Names()) {
    EXPECT_THAT(name, MatchesRegex("events\\.out\\.tfevents\\.[0-9]{10}\\..+\\.[0-9]+\\.[0-9]+"));
  }
  EXPECT_EQ(ReadEvents(first.path()).size(), 1U);
  const std::vector<Message> events = ReadEvents(second.path());
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[1].varints.at(2).at(0), 451U);
  EXPECT_EQ(Message::Parse(events[1].bytes.at(7).at(0)).varints.at(1).at(0), 1U);  // SessionLog.START
}

TEST(EventFileTest, ADirectoryThatIsNotThereIsAnError) {
  const TempDirectory directory;
  try {
    EventFile file(directory / "absent");
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
  }
}

// RLIMIT_FSIZE stands for the full disk: a write comes out short, the next one fails.
TEST(EventFileTest, AFullDiskLosesEventsButNoWholeRecord) {
  const TempDirectory directory;
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  EventFile file(directory.path());
  file.Scalar("before", 1, 1.0);
  ASSERT_TRUE(file.Flush());
  rlimit old_limit{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  rlimit small = old_limit;
  small.rlim_cur = std::filesystem::file_size(file.path()) + 10;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  file.Scalar("lost", 2, 2.0);
  EXPECT_FALSE(file.Flush());
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old_limit), 0);
  std::signal(SIGXFSZ, old_handler);
  file.Scalar("after", 3, 3.0);
  EXPECT_TRUE(file.Flush());
  const std::vector<Message> events = ReadEvents(file.path());
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(ValueOf(events[1]).bytes.at(1).at(0), "before");
  EXPECT_EQ(ValueOf(events[2]).bytes.at(1).at(0), "after");
}

}  // namespace
}  // namespace gateskip::train
