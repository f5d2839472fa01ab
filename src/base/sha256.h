// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4), for identities and integrity.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace gateskip {

class Sha256 {
 public:
  void Update(std::span<const std::byte> bytes);
  std::string HexDigest();  // ends the hash; 64 lower-case digits

 private:
  void Compress(const std::byte* block);

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> pending_ = {};
  size_t num_pending_ = 0;
  uint64_t total_ = 0;
};

std::string Sha256Hex(std::span<const std::byte> bytes);
// Reads the whole file. Throws Error: kNotFound, kIo.
std::string Sha256File(const std::string& path);

}  // namespace gateskip
