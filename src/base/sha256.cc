// SPDX-License-Identifier: Apache-2.0
#include "base/sha256.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <fstream>
#include <vector>

#include "base/check.h"

namespace gateskip {
namespace {

Sha256Compress* BestCompress() {
  Sha256Compress* x86 = X86Sha256();
  return x86 != nullptr ? x86 : CompressPortable;
}

void Compress(Sha256State& state, const std::byte* blocks, size_t count) {
  static Sha256Compress* const best = BestCompress();
  best(state, blocks, count);
}

}  // namespace

void CompressPortable(Sha256State& state, const std::byte* blocks, size_t count) {
  for (; count > 0; --count, blocks += kSha256BlockBytes) {
    std::array<uint32_t, 64> w;
    for (size_t i = 0; i < 16; ++i) {
      uint32_t word;
      std::memcpy(&word, blocks + 4 * i, 4);
      w[i] = __builtin_bswap32(word);
    }
    for (size_t i = 16; i < 64; ++i) {
      const uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
      const uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    auto [a, b, c, d, e, f, g, h] = state;
    for (size_t i = 0; i < 64; ++i) {
      const uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
      const uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + kSha256Round[i] + w[i];
      const uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
      const uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
      h = g;
      g = f;
      f = e;
      e = d + t1;
      d = c;
      c = b;
      b = a;
      a = t1 + t2;
    }
    const Sha256State add = {a, b, c, d, e, f, g, h};
    for (size_t i = 0; i < 8; ++i) state[i] += add[i];
  }
}

void Sha256::Update(std::span<const std::byte> bytes) {
  total_ += bytes.size();
  if (num_pending_ > 0) {
    const size_t n = std::min(kSha256BlockBytes - num_pending_, bytes.size());
    std::copy_n(bytes.begin(), n, pending_.begin() + static_cast<std::ptrdiff_t>(num_pending_));
    num_pending_ += n;
    bytes = bytes.subspan(n);
    if (num_pending_ < kSha256BlockBytes) return;
    Compress(state_, pending_.data(), 1);
  }
  const size_t blocks = bytes.size() / kSha256BlockBytes;
  Compress(state_, bytes.data(), blocks);
  bytes = bytes.subspan(blocks * kSha256BlockBytes);
  std::ranges::copy(bytes, pending_.begin());
  num_pending_ = bytes.size();
}

std::string Sha256::HexDigest() {
  const uint64_t bits = total_ * 8;
  const std::byte one{0x80};
  Update({&one, 1});
  const std::byte zero{0};
  while (num_pending_ != 56) Update({&zero, 1});
  const uint64_t big_endian = __builtin_bswap64(bits);
  Update(std::as_bytes(std::span<const uint64_t>(&big_endian, 1)));
  std::string hex;
  for (const uint32_t word : state_) hex += fmt::format("{:08x}", word);
  return hex;
}

std::string Sha256Hex(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.Update(bytes);
  return hash.HexDigest();
}

std::string Sha256File(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file)
    Fail(ErrorCode::kNotFound, "[{}] file: expected to open it, found that it cannot be read; check the path", path);
  Sha256 hash;
  std::vector<char> buffer(size_t{1} << 20);
  while (file) {
    file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    hash.Update(std::as_bytes(std::span(buffer).first(static_cast<size_t>(file.gcount()))));
  }
  if (file.bad())
    Fail(ErrorCode::kIo, "[{}] file: expected to read it to the end, found an error; check the disk", path);
  return hash.HexDigest();
}

}  // namespace gateskip
