// SPDX-License-Identifier: Apache-2.0
// GGUF v2/v3 files (github.com/ggml-org/ggml/blob/master/docs/gguf.md), memory-mapped and read-only.
//
// Bounds before bytes: every count, length and offset is checked against the remaining file before it reaches
// an allocator, an index or a loop bound. What comes out of Open is fully validated.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor_view.h"

namespace gateskip {

enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

class GgufFile {
 public:
  // Maps and validates. Throws Error: kNotFound, kIo, kCorruptData, kUnsupported, kLimitExceeded.
  static std::shared_ptr<const GgufFile> Open(const std::string& path);
  // The same over memory that outlives the result. `origin` names it in messages.
  static std::shared_ptr<const GgufFile> Parse(std::span<const std::byte> bytes, const std::string& origin);
  ~GgufFile();

  const std::string& origin() const;  // path, for messages
  std::span<const TensorView> tensors() const;
  const TensorView* FindTensor(std::string_view name) const;  // nullptr when absent

  // Typed metadata. Has() tells presence; the getters accept any integer (or float) width that holds the value
  // and throw Error(kCorruptData) naming the key when it is absent (no fallback given) or of another type.
  bool Has(std::string_view key) const;
  std::vector<std::string_view> Keys() const;
  std::optional<GgufType> TypeOf(std::string_view key) const;
  uint64_t GetUint(std::string_view key, std::optional<uint64_t> fallback = std::nullopt) const;
  int64_t GetInt(std::string_view key, std::optional<int64_t> fallback = std::nullopt) const;
  double GetFloat(std::string_view key, std::optional<double> fallback = std::nullopt) const;
  bool GetBool(std::string_view key, std::optional<bool> fallback = std::nullopt) const;
  std::string_view GetString(std::string_view key, std::optional<std::string_view> fallback = std::nullopt) const;
  // Arrays: element type checked, views into the file.
  std::vector<std::string_view> GetStrings(std::string_view key) const;
  std::vector<float> GetFloats(std::string_view key) const;
  std::vector<int64_t> GetInts(std::string_view key) const;
  // A value as it is in the file, its type in front, for GgufWriter::CopyValue. The key must be there.
  std::span<const std::byte> RawValue(std::string_view key) const;
  std::string DescribeValue(std::string_view key, size_t max_chars) const;  // for `gateskip info`

  // Hints the kernel to drop the file pages behind a tensor that has been repacked (madvise); they come back on
  // the next read.
  void ReleasePages(const TensorView& tensor) const;

  // Identity of the base model: hex SHA-256 over metadata, tensor table and the first and last 4 KiB of every
  // tensor's data. Fast (no full read) and stable across copies of the file.
  std::string Fingerprint() const;

 private:
  struct Impl;
  explicit GgufFile(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Where bytes go piece by piece, and what gives them so.
using ByteSink = std::function<void(std::span<const std::byte>)>;
using ByteSource = std::function<void(const ByteSink& sink)>;

// Builds a GGUF v3 file, in memory or on disk (temp + fsync + rename). Used by export and tests.
class GgufWriter {
 public:
  GgufWriter();
  ~GgufWriter();
  void SetUint32(std::string_view key, uint32_t value);
  void SetFloat32(std::string_view key, float value);
  void SetBool(std::string_view key, bool value);
  void SetString(std::string_view key, std::string_view value);
  void SetStrings(std::string_view key, const std::vector<std::string>& values);
  void SetFloats(std::string_view key, const std::vector<float>& values);
  void SetInt32s(std::string_view key, const std::vector<int32_t>& values);
  // The value of a key of another file, whatever its type.
  void CopyValue(const GgufFile& source, std::string_view key);
  // Shape row-major as in TensorView; the bytes are copied.
  void AddTensor(std::string_view name, DType dtype, const std::vector<int64_t>& shape,
                 std::span<const std::byte> data);
  // `data` is called once per file that is written, and gives the tensor's bytes then: no tensor need be in memory.
  void AddTensor(std::string_view name, DType dtype, const std::vector<int64_t>& shape, ByteSource data);

  std::vector<std::byte> Serialize() const;
  // `check`, if any, as in WriteFileAtomically.
  void WriteFile(const std::string& path, const std::function<void(const std::string&)>& check = nullptr) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gateskip
