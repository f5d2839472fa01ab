// SPDX-License-Identifier: Apache-2.0
// safetensors files (github.com/huggingface/safetensors): reader over mapped memory, and writer. Accepts and refuses
// what the reference does, and refuses duplicate keys, which the reference keeps silently.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor/tensor_view.h"

namespace gateskip {

class SafetensorsFile {
 public:
  // Throws Error: kNotFound, kIo, kCorruptData, kLimitExceeded. Tensors of element types gateskip has no use for
  // (integers, bools, f64) are listed by name only; finding them throws kUnsupported.
  static std::shared_ptr<const SafetensorsFile> Open(const std::string& path);
  static std::shared_ptr<const SafetensorsFile> Parse(std::span<const std::byte> bytes, const std::string& origin);
  ~SafetensorsFile();

  const TensorView* FindTensor(const std::string& name) const;  // nullptr when absent
  const std::map<std::string, TensorView>& tensors() const;
  const std::map<std::string, std::string>& metadata() const;  // __metadata__
  std::span<const std::byte> header() const;                   // for fingerprints

 private:
  struct Impl;
  explicit SafetensorsFile(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

struct SafetensorsEntry {
  std::string name;
  DType dtype;  // kF32, kF16 or kBF16
  std::vector<int64_t> shape;
  std::vector<std::byte> data;
};

std::vector<std::byte> SerializeSafetensors(const std::vector<SafetensorsEntry>& entries,
                                            const std::map<std::string, std::string>& metadata);

}  // namespace gateskip
