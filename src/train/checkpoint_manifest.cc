// SPDX-License-Identifier: Apache-2.0
#include "train/checkpoint_manifest.h"

#include <limits>
#include <utility>

#include "base/check.h"
#include "io/json.h"

namespace gateskip::train {
namespace {

using Json = nlohmann::json;

constexpr int kFormatVersion = 1;
constexpr int kMaxDepth = 3;
constexpr size_t kMaxItems = 100;

Json EntryJson(const ManifestEntry& entry) { return {{"bytes", entry.bytes}, {"sha256", entry.sha256}}; }

std::string Dump(const Manifest& manifest, bool with_version) {
  Json json = {{"step", manifest.step},
               {"files", {{kTensorFile, EntryJson(manifest.tensors)}, {kStateFile, EntryJson(manifest.state)}}}};
  if (with_version) json["format_version"] = kFormatVersion;
  return json.dump(1);
}

ManifestEntry ParseEntry(const Json& files, const char* name, const std::string& origin) {
  const Json entry = files.is_object() && files.contains(name) ? files[name] : Json::object();
  const int64_t bytes = GetInt(entry, "bytes", origin);
  if (bytes < 0) {
    Fail(ErrorCode::kCorruptData, "[{}] {}: expected its size, found {}; the manifest is damaged", origin, name, bytes);
  }
  std::string sha256 = GetString(entry, "sha256", origin);
  if (sha256.size() != 64 || sha256.find_first_not_of("0123456789abcdef") != std::string::npos) {
    Fail(ErrorCode::kCorruptData,
         "[{}] {}: expected a SHA-256 of 64 digits, found another text; the manifest is damaged", origin, name);
  }
  return {static_cast<uint64_t>(bytes), std::move(sha256)};
}

}  // namespace

std::string SerializeManifest(const Manifest& manifest) { return Dump(manifest, true); }

Manifest ParseManifest(std::string_view text, const std::string& origin) {
  const Json json = ParseJson(text, origin, kMaxDepth, kMaxItems);
  const int64_t version = GetInt(json, "format_version", origin, kFormatVersion);
  if (version != kFormatVersion) {
    Fail(ErrorCode::kUnsupported, "[{}] manifest: expected format version {}, found {}; use a newer gateskip", origin,
         kFormatVersion, version);
  }
  const int64_t step = GetInt(json, "step", origin);
  if (step < 0 || step > std::numeric_limits<int>::max()) {
    Fail(ErrorCode::kCorruptData, "[{}] manifest: expected a step, found {}; it is damaged", origin, step);
  }
  const Json files = json.value("files", Json::object());
  Manifest manifest;
  manifest.step = static_cast<int>(step);
  manifest.tensors = ParseEntry(files, kTensorFile, origin);
  manifest.state = ParseEntry(files, kStateFile, origin);
  if (text != Dump(manifest, json.contains("format_version"))) {
    Fail(ErrorCode::kCorruptData, "[{}] manifest: expected the text gateskip writes, found another; it is damaged",
         origin);
  }
  return manifest;
}

}  // namespace gateskip::train
