// SPDX-License-Identifier: Apache-2.0
// manifest.json of a checkpoint: which files it has, their sizes and SHA-256.
//
//   {"files": {"model.safetensors": {"bytes": 332, "sha256": "35d8..."}, "state.json": {...}},
//    "format_version": 1, "step": 2}
//
// The text is canonical, and the reader insists on it: every byte of it then says something, so that no damage to the
// manifest passes. "format_version" is absent in the first manifests.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gateskip::train {

inline constexpr const char* kTensorFile = "model.safetensors";
inline constexpr const char* kStateFile = "state.json";
inline constexpr const char* kManifestFile = "manifest.json";

struct ManifestEntry {
  uint64_t bytes = 0;
  std::string sha256;  // 64 lower-case digits
};

struct Manifest {
  int step = 0;
  ManifestEntry tensors;
  ManifestEntry state;
};

std::string SerializeManifest(const Manifest& manifest);
// Throws Error: kCorruptData, kUnsupported (a later version), kLimitExceeded.
Manifest ParseManifest(std::string_view text, const std::string& origin);

}  // namespace gateskip::train
