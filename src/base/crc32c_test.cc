// SPDX-License-Identifier: Apache-2.0
#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

namespace gateskip {
namespace {

uint32_t OfBytes(const std::vector<uint8_t>& bytes) { return Crc32c(std::as_bytes(std::span<const uint8_t>(bytes))); }

// RFC 3720, appendix B.4. The RFC lists the bytes as sent, least significant first.
TEST(Crc32cTest, TheVectorsOfRfc3720) {
  EXPECT_EQ(OfBytes(std::vector<uint8_t>(32, 0x00)), 0x8A9136AAU);
  EXPECT_EQ(OfBytes(std::vector<uint8_t>(32, 0xFF)), 0x62A8AB43U);
  std::vector<uint8_t> rising;
  for (uint8_t i = 0; i < 32; ++i) rising.push_back(i);
  EXPECT_EQ(OfBytes(rising), 0x46DD794EU);
  EXPECT_EQ(OfBytes({rising.rbegin(), rising.rend()}), 0x113FDB5CU);
  // An iSCSI SCSI Read (10) command PDU.
  EXPECT_EQ(OfBytes({0x01, 0xC0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                     0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18,
                     0x28, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00}),
            0xD9963A56U);
}

TEST(Crc32cTest, TheCheckValueOfTheCatalogueAndNothing) {
  EXPECT_EQ(Crc32c(std::as_bytes(std::span(std::string_view("123456789")))), 0xE3069283U);
  EXPECT_EQ(OfBytes({}), 0U);
}

}  // namespace
}  // namespace gateskip
