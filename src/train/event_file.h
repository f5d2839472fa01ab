// SPDX-License-Identifier: Apache-2.0
// TensorBoard's event files: scalars and histograms over steps. Written, never read.
//
// The format is TFRecord framing (length, masked CRC-32C of the length, payload, masked CRC-32C of the payload) around
// Event messages of tensorflow/core/util/event.proto, which are encoded here by hand: five kinds of fields need no
// Protocol Buffers library.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace gateskip::train {

class EventFile {
 public:
  // Creates a new file in `directory`, which exists: events.out.tfevents.SECONDS.HOST.PID.N. TensorBoard reads the
  // files of a directory in the order of their names, so each process of a run opens its own and none is appended to.
  // A resumed run says after which step: what older files hold of later ones is then no longer shown.
  // Throws Error(kIo) when it cannot be created.
  explicit EventFile(const std::string& directory, int64_t resumed_after = 0);
  ~EventFile();  // flushes
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  // The wall time is the time of the call. A tag with slashes ("saving/realised") is shown in groups.
  void Scalar(std::string_view tag, int64_t step, double value);
  // Thirty buckets of equal width from the least to the greatest value. Non-finite values are left out; of none at all
  // nothing is written.
  void Histogram(std::string_view tag, int64_t step, std::span<const float> values);

  // Hands everything so far to the system. A write that fails (a full disk) loses these events but leaves the file
  // readable and the run alive: false, and the next ones are tried again.
  bool Flush();

  const std::string& path() const { return path_; }

 private:
  void Append(std::string_view event);

  std::string path_;
  std::string pending_;
  int64_t written_ = 0;  // bytes of whole records in the file
  int fd_ = -1;
};

}  // namespace gateskip::train
