// SPDX-License-Identifier: Apache-2.0
#include "base/sha256.h"

#include <gtest/gtest.h>

namespace gateskip {
namespace {

std::string HashOf(const std::string& text) { return Sha256Hex(std::as_bytes(std::span<const char>(text))); }

TEST(Sha256, MatchesTheStandardsExamples) {  // FIPS 180-4, appendix B
  EXPECT_EQ(HashOf("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(HashOf(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(HashOf("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(HashOf(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PiecesMakeTheSameHash) {
  const std::string text(777, 'x');
  for (size_t piece : {1u, 3u, 63u, 64u, 65u}) {
    Sha256 hash;
    for (size_t i = 0; i < text.size(); i += piece) {
      hash.Update(std::as_bytes(std::span(text).subspan(i, std::min(piece, text.size() - i))));
    }
    EXPECT_EQ(hash.HexDigest(), HashOf(text));
  }
}

}  // namespace
}  // namespace gateskip
