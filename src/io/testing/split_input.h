// SPDX-License-Identifier: Apache-2.0
// Fuzz inputs of several parts. A mutated header rarely keeps its own length field right; inputs whose length is put in
// afterwards get past it to what lies behind.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace gateskip::testing {

// Takes what is before the first NUL (which JSON text never holds) off the front.
inline std::string_view TakePart(std::string_view* input) {
  const size_t nul = input->find('\0');
  const std::string_view part = input->substr(0, nul);
  input->remove_prefix(nul == input->npos ? input->size() : nul + 1);
  return part;
}

// A safetensors file of this header and data.
inline std::string JoinSafetensors(std::string_view header, std::string_view data) {
  const uint64_t length = header.size();
  std::string file(sizeof(length), '\0');
  std::memcpy(file.data(), &length, sizeof(length));
  return file.append(header).append(data);
}

}  // namespace gateskip::testing
