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

// Shard names come from a file: the plain name of a file in this directory. (Hub caches link into a blob store beside
// the snapshot, so the file may be a link out of it; its name may not be a path out of it.)
void CheckShard(const fs::path& directory, const std::string& name, const std::string& origin) {
  const bool plain = !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
                     name.find('\\') == std::string::npos && name.find('\0') == std::string::npos;
  if (!plain) {
    Fail(ErrorCode::kInvalidArgument,
         "[{}] shard: expected the name of a file in this directory, found {}; correct "
         "model.safetensors.index.json",
         origin, nlohmann::json(name.substr(0, 200)).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
  }
  std::error_code error;
  if (!fs::is_regular_file(directory / name, error)) {
    Fail(ErrorCode::kNotFound, "[{}] shard: expected the file {} beside it, found none; fetch the whole model again",
         origin, name);
  }
}

// What the index says of itself must hold: every tensor it names is in the shard it names.
void CheckIndex(const nlohmann::json& map, const std::map<std::string, std::shared_ptr<const SafetensorsFile>>& shards,
                const std::string& origin) {
  for (const auto& [tensor, file] : map.items()) {
    const std::string name = file.get<std::string>();
    if (!shards.at(name)->Has(tensor)) {
      Fail(ErrorCode::kCorruptData,
           "[{}] weight_map: expected tensor {} in {}, found none; fetch the whole model again", origin,
           tensor.substr(0, 200), name);
    }
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
    std::map<std::string, std::shared_ptr<const SafetensorsFile>> shards;
    for (const auto& [tensor, file] : map->items()) {
      if (!file.is_string()) {
        Fail(ErrorCode::kCorruptData, "[{}] weight_map {}: expected a file name, found {}; the file is damaged",
             index.string(), tensor, file.type_name());
      }
      shards[file.get<std::string>()] = nullptr;
    }
    if (shards.empty() || shards.size() > kMaxShards) {
      Fail(ErrorCode::kLimitExceeded, "[{}] shards: expected 1 to {}, found {}; merge them", index.string(), kMaxShards,
           shards.size());
    }
    for (auto& [name, shard] : shards) {
      CheckShard(directory, name, index.string());
      shard = SafetensorsFile::Open((directory / name).string());
      impl->shards.push_back(shard);
    }
    CheckIndex(*map, shards, index.string());
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
