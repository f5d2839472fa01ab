// SPDX-License-Identifier: Apache-2.0
// GGUF reader: any bytes end in an Error or in a file of which everything can be read.
#include <cstddef>
#include <cstdint>

#include "gateskip/error.h"
#include "io/gguf.h"
#include "io/testing/deep_read.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto file = gateskip::GgufFile::Parse(std::as_bytes(std::span(data, size)), "fuzz");
    gateskip::testing::DeepRead(*file);
  } catch (const gateskip::Error&) {
  }
  return 0;
}
