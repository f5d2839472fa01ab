// SPDX-License-Identifier: Apache-2.0
#include "io/hub_directory.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <vector>

#include "base/check.h"
#include "base/sha256.h"
#include "io/json.h"
#include "io/mapped_file.h"
#include "io/safetensors.h"

namespace gateskip {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxConfigBytes = size_t{16} << 20;
constexpr size_t kMaxShards = 1000;

// Shard names come from a file: a plain name of this directory, and no link out of it.
void CheckShardName(const fs::path& directory, const std::string& name, const std::string& origin) {
  const bool plain = !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
                     name.find('\\') == std::string::npos && name.find('\0') == std::string::npos;
  std::error_code error;
  const fs::path resolved = plain ? fs::weakly_canonical(directory / name, error) : fs::path();
  // Hub caches link into a blob store beside the snapshot, so a link may leave the directory only by ending in a
  // regular file; a name may not.
  if (!plain || error || !fs::is_regular_file(resolved, error)) {
    Fail(ErrorCode::kInvalidArgument,
         "[{}] shard: expected the name of a file in this directory, found {}; correct "
         "model.safetensors.index.json",
         origin, name);
  }
}

}  // namespace

struct HubDirectory::Impl {
  std::string origin;
  std::string config_text;
  nlohmann::json config;
  std::vector<std::shared_ptr<const SafetensorsFile>> shards;
};

std::string ReadTextFile(const std::string& path, size_t max_bytes) {
  const MappedFile file(path);
  if (file.bytes().size() > max_bytes) {
    Fail(ErrorCode::kLimitExceeded, "[{}] file: expected at most {} bytes, found {}; this is not the file it should be",
         path, max_bytes, file.bytes().size());
  }
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

HubDirectory::HubDirectory(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HubDirectory::~HubDirectory() = default;

std::shared_ptr<const HubDirectory> HubDirectory::Open(const std::string& path) {
  auto impl = std::make_unique<Impl>();
  const fs::path directory = path;
  impl->origin = path;
  impl->config_text = ReadTextFile((directory / "config.json").string(), kMaxConfigBytes);
  impl->config = ParseJson(impl->config_text, (directory / "config.json").string());
  const fs::path index = directory / "model.safetensors.index.json";
  std::error_code ignored;
  if (!fs::exists(index, ignored)) {
    impl->shards.push_back(SafetensorsFile::Open((directory / "model.safetensors").string()));
  } else {
    const nlohmann::json json = ParseJson(ReadTextFile(index.string(), kMaxConfigBytes), index.string());
    const auto map = json.find("weight_map");
    if (map == json.end() || !map->is_object()) {
      Fail(ErrorCode::kCorruptData, "[{}] weight_map: expected an object, found nothing; the file is damaged",
           index.string());
    }
    std::map<std::string, int> names;
    for (const auto& [tensor, file] : map->items()) {
      if (!file.is_string()) {
        Fail(ErrorCode::kCorruptData, "[{}] weight_map {}: expected a file name, found {}; the file is damaged",
             index.string(), tensor, file.type_name());
      }
      names[file.get<std::string>()] = 1;
    }
    if (names.size() > kMaxShards) {
      Fail(ErrorCode::kLimitExceeded, "[{}] shards: expected at most {}, found {}; merge them", index.string(),
           kMaxShards, names.size());
    }
    for (const auto& [name, unused] : names) {
      CheckShardName(directory, name, index.string());
      impl->shards.push_back(SafetensorsFile::Open((directory / name).string()));
    }
  }
  return std::shared_ptr<const HubDirectory>(new HubDirectory(std::move(impl)));
}

const std::string& HubDirectory::origin() const { return impl_->origin; }
const nlohmann::json& HubDirectory::config() const { return impl_->config; }

const TensorView* HubDirectory::FindTensor(const std::string& hub_name) const {
  for (const auto& shard : impl_->shards) {
    if (const TensorView* tensor = shard->FindTensor(hub_name)) return tensor;
  }
  return nullptr;
}

std::string HubDirectory::Fingerprint() const {
  constexpr size_t kSample = 4096;
  Sha256 hash;
  hash.Update(std::as_bytes(std::span<const char>(impl_->config_text)));
  for (const auto& shard : impl_->shards) {
    hash.Update(shard->header());
    for (const auto& [name, tensor] : shard->tensors()) {
      hash.Update(tensor.data.first(std::min(kSample, tensor.data.size())));
      hash.Update(tensor.data.last(std::min(kSample, tensor.data.size())));
    }
  }
  return hash.HexDigest();
}

}  // namespace gateskip
