// SPDX-License-Identifier: Apache-2.0
// Writes the tiny models and adapters the command-line tests run on: `write_fixtures DIR`.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "gateskip/error.h"
#include "io/adapter.h"
#include "support/tiny_model.h"

namespace {

void Write(const std::filesystem::path& directory, const std::string& name, gateskip::testing::TinyArch arch) {
  gateskip::testing::TinyOptions options;
  options.arch = arch;
  const std::vector<std::byte> bytes = gateskip::testing::TinyGguf(options);
  std::ofstream file(directory / (name + ".gguf"), std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!file.flush()) throw gateskip::Error(gateskip::ErrorCode::kIo, "cannot write " + name);
  const auto base = gateskip::testing::OpenTiny(bytes);
  const gateskip::Adapter adapter = gateskip::testing::TinyAdapter(*base, {});
  gateskip::WriteAdapter(adapter, (directory / (name + "-adapter")).string(), /*half_precision=*/false);
  const gateskip::Adapter deltas = gateskip::testing::TinyAdapter(*base, {.skip_rank = 2, .lora_rank = 4});
  gateskip::WriteAdapter(deltas, (directory / (name + "-delta-adapter")).string(), /*half_precision=*/false);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: write_fixtures DIR\n");
    return 2;
  }
  try {
    Write(argv[1], "llama", gateskip::testing::TinyArch::kLlama);
    Write(argv[1], "gemma3", gateskip::testing::TinyArch::kGemma3);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "write_fixtures: %s\n", error.what());
    return 1;
  }
  return 0;
}
