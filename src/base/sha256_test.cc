// SPDX-License-Identifier: Apache-2.0
#include "base/sha256.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace gateskip {
namespace {

// The examples of FIPS 180-4's predecessor, appendix B, and the empty message of NIST's CAVP set (SHA256ShortMsg).
const std::vector<std::pair<std::string, std::string>> kVectors = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
     "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    {std::string(1000000, 'a'), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
};

std::span<const std::byte> BytesOf(const std::string& text) { return std::as_bytes(std::span<const char>(text)); }
std::string HashOf(const std::string& text) { return Sha256Hex(BytesOf(text)); }

// Padded as FIPS 180-4, section 5.1.1, says, and compressed in one call.
std::string HashWith(Sha256Compress& compress, const std::string& text) {
  std::string padded = text + '\x80';
  while (padded.size() % kSha256BlockBytes != 56) padded += '\0';
  for (int shift = 56; shift >= 0; shift -= 8) padded += static_cast<char>(8 * text.size() >> shift & 0xFF);
  Sha256State state = kSha256Start;
  compress(state, BytesOf(padded).data(), padded.size() / kSha256BlockBytes);
  std::string hex;
  for (const uint32_t word : state) {
    for (int shift = 28; shift >= 0; shift -= 4) hex += "0123456789abcdef"[word >> shift & 15];
  }
  return hex;
}

TEST(Sha256, MatchesTheStandardsExamples) {
  for (const auto& [text, hash] : kVectors) {
    EXPECT_EQ(HashOf(text), hash);
    EXPECT_EQ(HashWith(CompressPortable, text), hash);
    if (X86Sha256() != nullptr) {
      EXPECT_EQ(HashWith(*X86Sha256(), text), hash);
    }
  }
}

TEST(Sha256, EveryImplementationGivesTheSameStates) {
  Sha256Compress* x86 = X86Sha256();
  std::printf("SHA extensions of x86: %s\n", x86 != nullptr ? "compared" : "none on this CPU");
  Sha256Compress& other = x86 != nullptr ? *x86 : CompressPortable;
  std::mt19937 random(5);
  std::vector<std::byte> bytes(64 * 12 + 16);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  for (size_t offset = 0; offset < 16; ++offset) {
    for (size_t count = 0; count <= 12; ++count) {
      Sha256State start;
      for (uint32_t& word : start) word = static_cast<uint32_t>(random());
      Sha256State a = start;
      Sha256State b = start;
      CompressPortable(a, bytes.data() + offset, count);
      other(b, bytes.data() + offset, count);
      EXPECT_EQ(a, b) << count << " blocks at " << offset;
      EXPECT_EQ(a == start, count == 0);
    }
  }
}

TEST(Sha256, PiecesMakeTheSameHash) {
  std::string text(777, 'x');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * i % 251);
  for (size_t piece : {1u, 3u, 63u, 64u, 65u, 127u, 128u, 129u, 200u, 776u}) {
    Sha256 hash;
    for (size_t i = 0; i < text.size(); i += piece) {
      hash.Update(std::as_bytes(std::span(text).subspan(i, std::min(piece, text.size() - i))));
      hash.Update({});
    }
    EXPECT_EQ(hash.HexDigest(), HashOf(text)) << piece;
  }
}

}  // namespace
}  // namespace gateskip
