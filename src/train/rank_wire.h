// SPDX-License-Identifier: Apache-2.0
// Messages between the ranks of a run: u32 length of the body, u8 type, body; little endian. Bodies hold u64 numbers
// and texts (u32 length, bytes). What arrives is not trusted: lengths are checked before anything is kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace gateskip::train {

enum class MessageType : uint8_t {
  kHello = 1,  // to rank 0: protocol, token digest, rank, number of ranks, host
  kRefused,    // from rank 0: reason
  kBeat,       // both ways, without a body: still here
  kKey,        // both ways: key, value
  kPost,       // to rank 0: number, what, bytes of this rank
  kResult,     // from rank 0: number, then the bytes of every rank
  kFailed,     // both ways: reason
};

inline constexpr size_t kHeaderBytes = 5;
inline constexpr size_t kMaxHelloBytes = 1024;
inline constexpr size_t kMaxMessageBytes = size_t{64} << 20;

struct Message {
  MessageType type;
  std::string body;
};

void AppendMessage(std::string& out, MessageType type, std::string_view body);
// Takes the first message off `in` once all of it is there. Throws Error(kCorruptData) for a body of more than `limit`
// bytes or an unknown type.
std::optional<Message> TakeMessage(std::string& in, size_t limit);

class BodyWriter {
 public:
  BodyWriter& Number(uint64_t value);
  BodyWriter& Text(std::string_view value);
  const std::string& body() const { return body_; }

 private:
  std::string body_;
};

class BodyReader {
 public:
  explicit BodyReader(std::string_view body) : rest_(body) {}
  // Throw Error(kCorruptData) when the body ends early.
  uint64_t Number();
  std::string Text();

 private:
  std::string_view Take(size_t count);
  std::string_view rest_;
};

}  // namespace gateskip::train
