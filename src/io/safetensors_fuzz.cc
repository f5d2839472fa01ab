// SPDX-License-Identifier: Apache-2.0
// safetensors reader. An input that begins with 'h' is a header's text, NUL and the data, the length field being put in
// here; any other is one byte and a whole file.
#include "gateskip/error.h"
#include "io/safetensors.h"
#include "io/testing/deep_read.h"
#include "io/testing/split_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view input(reinterpret_cast<const char*>(data + 1), size - 1);
  std::string file(input);
  if (data[0] == 'h') {
    const std::string_view header = gateskip::testing::TakePart(&input);
    file = gateskip::testing::JoinSafetensors(header, input);
  }
  try {
    gateskip::testing::DeepRead(
        *gateskip::SafetensorsFile::Parse(std::as_bytes(std::span<const char>(file.data(), file.size())), "fuzz"));
  } catch (const gateskip::Error&) {
  }
  return 0;
}
