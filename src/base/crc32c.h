// SPDX-License-Identifier: Apache-2.0
// CRC-32C (Castagnoli; RFC 3720, appendix B.4), as TFRecord files carry it. For integrity against accidents only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace gateskip {

uint32_t Crc32c(std::span<const std::byte> bytes);

}  // namespace gateskip
