// SPDX-License-Identifier: Apache-2.0
// safetensors files (github.com/huggingface/safetensors): reader over mapped memory, and writer. Accepts and refuses
// what the reference does, with these exceptions, all refused here: duplicate keys (the reference keeps one silently),
// a tensor described by a JSON array instead of an object, more than 1 M tensors, ranks above 8, names above 1 KiB,
// JSON deeper than 8 levels, element counts above 2^63 - 1.
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

  bool Has(const std::string& name) const;                      // of whatever element type
  const TensorView* FindTensor(const std::string& name) const;  // nullptr when absent
  const std::map<std::string, TensorView>& tensors() const;
  const std::map<std::string, std::string>& metadata() const;  // __metadata__
  std::span<const std::byte> header() const;                   // for fingerprints

 private:
  struct Impl;
  explicit SafetensorsFile(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

struct SafetensorsInfo {
  std::string name;
  DType dtype;  // kF32, kF16 or kBF16
  std::vector<int64_t> shape;
};

// Everything before the data of a file that holds these tensors' data in this order, without gaps. For files that are
// written piece by piece.
std::vector<std::byte> SafetensorsHeader(std::span<const SafetensorsInfo> tensors,
                                         const std::map<std::string, std::string>& metadata);

struct SafetensorsEntry {
  std::string name;
  DType dtype;  // kF32, kF16 or kBF16
  std::vector<int64_t> shape;
  std::vector<std::byte> data;
};

std::vector<std::byte> SerializeSafetensors(const std::vector<SafetensorsEntry>& entries,
                                            const std::map<std::string, std::string>& metadata);

}  // namespace gateskip
