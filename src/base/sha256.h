// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4), for identities and integrity.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/sha256_compress.h"

namespace gateskip {

class Sha256 {
 public:
  void Update(std::span<const std::byte> bytes);
  std::string HexDigest();  // ends the hash; 64 lower-case digits

 private:
  Sha256State state_ = kSha256Start;
  std::array<std::byte, kSha256BlockBytes> pending_ = {};
  size_t num_pending_ = 0;
  uint64_t total_ = 0;
};

std::string Sha256Hex(std::span<const std::byte> bytes);
// Reads the whole file. Throws Error: kNotFound, kIo.
std::string Sha256File(const std::string& path);

}  // namespace gateskip
