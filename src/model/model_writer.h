// SPDX-License-Identifier: Apache-2.0
// Whole models, written from the metadata and weights of a source model and new values for any of its tensors: merged
// adapters (merge.h), full fine-tunes. Row by row: what is in memory is a few MiB, whatever the model's size.
//
// From a GGUF come GGUF files and hub-style directories, from a hub-style directory come such directories. Between the
// two lie, for every tensor, its name (Architecture::hub_tensor_name), for Llama the order of the rows of attn_q and
// attn_k (hub: the two halves of a head; GGUF: pairs), and for Gemma norm weights (hub: minus 1).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "io/embedded_adapter.h"
#include "model/model_source.h"

namespace gateskip {

// Changes row r of a tensor in place: `row`, [last dimension], holds the source's values in f32. Called for rows in any
// order, once each.
using RowUpdate = std::function<void(size_t r, std::span<float> row)>;
// The update of the tensor with this canonical name ("blk.3.attn_q.weight"); null: as in the source. Rows and values
// are in the source's layout. A full fine-tune's update copies its own row over `row`.
using WeightUpdates = std::function<RowUpdate(const std::string& canonical)>;

enum class ModelFormat { kGguf, kSafetensors };

// How a tensor is stored.
struct TensorFormat {
  DType dtype = DType::kF32;
  bool search = false;              // QuantizeSearched, else Quantize
  std::vector<float> weights = {};  // [last dimension], of the squared errors in every row; empty: all 1
};

// What is left of a tensor. Empty lists: all rows, all columns.
struct TensorSlice {
  bool dropped = false;
  std::string name = {};                     // in the new file
  std::vector<size_t> rows = {}, cols = {};  // of the source, ascending
};

struct WrittenModel {
  uint64_t bytes = 0;  // of tensors
  size_t tensors = 0;
  bool requantized = false;  // some values were rounded on the way
};

struct WriteModelOptions {
  ModelFormat format = ModelFormat::kGguf;
  // Of the matrices (kF32, kF16 or kBF16 for safetensors, norms too). None: every tensor keeps its type, bit for bit
  // without an update, but for these: changed tensors of blocks become Q8_0 (F16 where rows are no whole blocks), since
  // a second rounding to 4 bits costs more than the deltas are worth (docs/export.md), and in safetensors all blocks
  // become F16.
  std::optional<DType> dtype;
  // GGUF only: a format of its own for each matrix, instead of `dtype`, and what the file says of itself then
  // (general.file_type, enum llama_ftype).
  std::function<TensorFormat(const TensorView& tensor)> format_of;
  uint32_t file_type = 0;
  // GGUF only: the smaller model that these slices make, and the numbers in the metadata that it needs.
  std::function<TensorSlice(const std::string& canonical)> slice_of;
  std::map<std::string, uint32_t> sizes;
  const EmbeddedAdapter* adapter = nullptr;
  DType gate_type = DType::kF32;             // see EmbedAdapter
  ThreadPool* pool = nullptr;                // rounds rows on its threads; updates are called from all of them
  uint64_t max_shard_bytes = 5'000'000'000;  // of a safetensors file
  std::function<void(uint64_t done, uint64_t total)> on_progress;  // bytes; may throw to give up
  // GGUF only: gets the path of the complete file before it is in place, and may refuse it by throwing.
  std::function<void(const std::string& path, const WrittenModel& written)> check;
};

// Writes the file (or directory) `path` in one step: on failure it is what it was. Throws Error: kIo; kUnsupported for
// a GGUF from a hub-style directory and for what config.json or tokenizer.json cannot say; kInvalidArgument for a type
// the format has not, and for values that are not finite or do not fit the type, naming the tensor.
WrittenModel WriteModel(const ModelSource& source, const WeightUpdates& updates, const WriteModelOptions& options,
                        const std::string& path);

}  // namespace gateskip
