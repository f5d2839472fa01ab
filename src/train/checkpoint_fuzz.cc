// SPDX-License-Identifier: Apache-2.0
// What is read of a checkpoint. An input that begins with 'm' is a manifest: one that is accepted is the text gateskip
// writes for it. Any other is one byte, a state, NUL, the header of the tensors, NUL and their data, for which the
// manifest is put in here: it is refused with an Error, or every tensor of it can be read.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/sha256.h"
#include "gateskip/error.h"
#include "io/testing/split_input.h"
#include "train/checkpoint.h"
#include "train/checkpoint_manifest.h"

namespace {

namespace fs = std::filesystem;
using namespace gateskip::train;

std::span<const std::byte> BytesOf(const std::string& text) { return std::as_bytes(std::span<const char>(text)); }

// A run directory in memory where there is one, for speed; gone when the process ends.
class RunDirectory {
 public:
  RunDirectory() {
    std::string pattern = fs::is_directory("/dev/shm") ? "/dev/shm/checkpoint_fuzz-XXXXXX"
                                                       : fs::temp_directory_path() / "checkpoint_fuzz-XXXXXX";
    if (mkdtemp(pattern.data()) == nullptr) __builtin_trap();
    path = pattern;
    fs::create_directory(path + "/step-1");
  }
  ~RunDirectory() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  void Write(const char* name, const std::string& text) const {
    std::ofstream(path + "/step-1/" + name, std::ios::binary) << text;
  }
  std::string path;
};

void ReadManifest(std::string_view text) {
  const Manifest manifest = ParseManifest(text, "fuzz");
  const std::string again = SerializeManifest(manifest);
  if (text.find("format_version") != text.npos && text != again) __builtin_trap();
  if (SerializeManifest(ParseManifest(again, "fuzz")) != again) __builtin_trap();
}

void ReadCheckpoint(std::string_view input) {
  static const RunDirectory run;
  const std::string state(gateskip::testing::TakePart(&input));
  const std::string header(gateskip::testing::TakePart(&input));
  const std::string tensors = gateskip::testing::JoinSafetensors(header, input);
  run.Write(kStateFile, state);
  run.Write(kTensorFile, tensors);
  run.Write(kManifestFile, SerializeManifest({1,
                                              {tensors.size(), gateskip::Sha256Hex(BytesOf(tensors))},
                                              {state.size(), gateskip::Sha256Hex(BytesOf(state))}}));
  const SavedCheckpoint saved(run.path, 1);
  if (saved.state_json() != state) __builtin_trap();
  for (const auto& [name, shape] : saved.shapes()) {
    size_t elements = 1;
    for (const int64_t dim : shape) elements *= static_cast<size_t>(dim);
    std::vector<float> values(elements);
    saved.Read(name, shape, values);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data + 1), size - 1);
  try {
    data[0] == 'm' ? ReadManifest(input) : ReadCheckpoint(input);
  } catch (const gateskip::Error& error) {
    if (error.code() == gateskip::ErrorCode::kInternal) throw;
  }
  return 0;
}
