// SPDX-License-Identifier: Apache-2.0
// A hub-style model directory: config.json, and model.safetensors or its shards under model.safetensors.index.json.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "tensor/tensor_view.h"

namespace gateskip {

class HubDirectory {
 public:
  // Throws Error: kNotFound, kCorruptData, kIo; kInvalidArgument for a shard name that leaves the directory.
  static std::shared_ptr<const HubDirectory> Open(const std::string& path);
  ~HubDirectory();

  const std::string& origin() const;
  const nlohmann::json& config() const;
  const TensorView* FindTensor(const std::string& hub_name) const;  // nullptr when absent
  // Identity: hex SHA-256 over config.json, the shards' headers and the first and last 4 KiB of every tensor.
  std::string Fingerprint() const;

 private:
  struct Impl;
  explicit HubDirectory(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// A file's text; throws kNotFound, kIo, or kLimitExceeded beyond max_bytes.
std::string ReadTextFile(const std::string& path, size_t max_bytes);

}  // namespace gateskip
