// SPDX-License-Identifier: Apache-2.0
#include "train/event_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <vector>

#include "base/check.h"
#include "base/crc32c.h"

namespace gateskip::train {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr size_t kFlushBytes = size_t{1} << 16;
constexpr int kMaxSameNames = 100;
constexpr int kBuckets = 30;

// Protocol Buffers: a field is its key (number << 3 | wire type) and its value.
template <typename Number>
void PutRaw(std::string& out, Number value) {
  const char* bytes = reinterpret_cast<const char*>(&value);
  out.append(bytes, sizeof(value));
}

void PutVarint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void PutInt(std::string& out, int field, int64_t value) {
  PutVarint(out, static_cast<uint64_t>(field) << 3);
  PutVarint(out, static_cast<uint64_t>(value));
}

void PutDouble(std::string& out, int field, double value) {
  PutVarint(out, static_cast<uint64_t>(field) << 3 | 1);
  PutRaw(out, value);
}

void PutBytes(std::string& out, int field, std::string_view bytes) {
  PutVarint(out, static_cast<uint64_t>(field) << 3 | 2);
  PutVarint(out, bytes.size());
  out += bytes;
}

void PutFloat(std::string& out, int field, float value) {
  PutVarint(out, static_cast<uint64_t>(field) << 3 | 5);
  PutRaw(out, value);
}

void PutPackedDoubles(std::string& out, int field, const std::vector<double>& values) {
  PutBytes(out, field, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double)});
}

double Now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

// Event: wall_time = 1, step = 2, and one of file_version = 3, summary = 5, session_log = 7.
std::string Event(int64_t step, int field, std::string_view what) {
  std::string event;
  PutDouble(event, 1, Now());
  PutInt(event, 2, step);
  PutBytes(event, field, what);
  return event;
}

// Event with a Summary of one Value, whose tag = 1 is set here.
std::string SummaryEvent(int64_t step, std::string_view tag, std::string_view rest_of_value) {
  std::string value;
  PutBytes(value, 1, tag);
  value += rest_of_value;
  std::string summary;
  PutBytes(summary, 1, value);
  return Event(step, 5, summary);
}

uint32_t MaskedCrc(std::string_view bytes) {
  const uint32_t crc = Crc32c(std::as_bytes(std::span(bytes)));
  return std::rotr(crc, 15) + 0xA282EAD8U;
}

std::string Host() {
  char name[256] = {};
  if (gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0') return "localhost";
  std::string host = name;
  std::replace(host.begin(), host.end(), '/', '_');
  return host;
}

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

}  // namespace

EventFile::EventFile(const std::string& directory, int64_t resumed_after) {
  const std::string stem =
      fmt::format("events.out.tfevents.{:010d}.{}.{}", static_cast<int64_t>(Now()), Host(), getpid());
  for (int n = 0; fd_ < 0; ++n) {
    path_ = (std::filesystem::path(directory) / fmt::format("{}.{}", stem, n)).string();
    fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd_ < 0 && (errno != EEXIST || n >= kMaxSameNames)) {
      Fail(ErrorCode::kIo, "[{}] event file: expected to create it, found: {}; check space and permissions", path_,
           std::strerror(errno));
    }
  }
  Append(Event(0, 3, "brain.Event:2"));
  if (resumed_after > 0) {
    std::string session;  // SessionLog: status = 1, which is START = 1
    PutInt(session, 1, 1);
    Append(Event(resumed_after + 1, 7, session));
  }
  Flush();
}

EventFile::~EventFile() {
  Flush();
  close(fd_);
}

void EventFile::Append(std::string_view event) {
  std::string length;
  PutRaw(length, static_cast<uint64_t>(event.size()));
  pending_ += length;
  PutRaw(pending_, MaskedCrc(length));
  pending_ += event;
  PutRaw(pending_, MaskedCrc(event));
  if (pending_.size() >= kFlushBytes) Flush();
}

bool EventFile::Flush() {
  const bool whole = WriteAll(fd_, pending_);
  if (whole) {
    written_ += static_cast<int64_t>(pending_.size());
  } else if (ftruncate(fd_, written_) == 0) {
    // Half a record would hide every later one.
    lseek(fd_, written_, SEEK_SET);
  }
  pending_.clear();
  return whole;
}

void EventFile::Scalar(std::string_view tag, int64_t step, double value) {
  std::string simple_value;
  PutFloat(simple_value, 2, static_cast<float>(value));
  Append(SummaryEvent(step, tag, simple_value));
}

void EventFile::Histogram(std::string_view tag, int64_t step, std::span<const float> values) {
  std::vector<double> finite;
  for (const float v : values) {
    if (std::isfinite(v)) finite.push_back(v);
  }
  if (finite.empty()) return;
  const auto [low, high] = std::minmax_element(finite.begin(), finite.end());
  const double min = *low;
  const double max = *high;
  const int buckets = max > min ? kBuckets : 1;
  const double width = (max - min) / buckets;
  std::vector<double> limits;  // of bucket i the upper one; the last is the greatest value itself
  for (int i = 1; i < buckets; ++i) limits.push_back(min + i * width);
  limits.push_back(max);
  std::vector<double> counts(limits.size(), 0.0);
  double sum = 0;
  double squares = 0;
  for (const double v : finite) {
    const auto bucket = std::lower_bound(limits.begin(), limits.end(), v) - limits.begin();
    counts[static_cast<size_t>(bucket)] += 1;
    sum += v;
    squares += v * v;
  }
  // HistogramProto: min = 1, max = 2, num = 3, sum = 4, sum_squares = 5, bucket_limit = 6, bucket = 7.
  std::string histogram;
  PutDouble(histogram, 1, min);
  PutDouble(histogram, 2, max);
  PutDouble(histogram, 3, static_cast<double>(finite.size()));
  PutDouble(histogram, 4, sum);
  PutDouble(histogram, 5, squares);
  PutPackedDoubles(histogram, 6, limits);
  PutPackedDoubles(histogram, 7, counts);
  std::string value;
  PutBytes(value, 5, histogram);
  Append(SummaryEvent(step, tag, value));
}

}  // namespace gateskip::train
