// SPDX-License-Identifier: Apache-2.0
#include "model/model_writer.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>
#include <utility>
#include <vector>

#include "base/check.h"
#include "io/atomic_write.h"
#include "io/embedded_adapter.h"
#include "io/safetensors.h"
#include "tensor/dequantize.h"
#include "tensor/quantize.h"
#include "text/hub_tokenizer.h"

namespace gateskip {
namespace {

namespace fs = std::filesystem;

constexpr size_t kChunkBytes = size_t{4} << 20;
constexpr size_t kMaxHubFileBytes = size_t{256} << 20;
constexpr const char* kConfigFile = "config.json";
constexpr const char* kAdapterDirectory = "gateskip";
// What a hub directory may hold beside its weights that is still true of a changed model.
constexpr const char* kHubFiles[] = {"tokenizer.json",
                                     "tokenizer_config.json",
                                     "special_tokens_map.json",
                                     "added_tokens.json",
                                     "tokenizer.model",
                                     "vocab.json",
                                     "merges.txt",
                                     "chat_template.jinja",
                                     "chat_template.json",
                                     "generation_config.json"};

bool IsFloat(DType dtype) { return GetDTypeInfo(dtype).block_elements == 1; }

// One tensor on its way.
struct Plan {
  std::string name;  // in the file
  const TensorView* from;
  TensorFormat format;
  RowUpdate update = nullptr;
  std::vector<size_t> kept_rows = {}, kept_cols = {};  // empty: all
  size_t permuted_head = 0;                            // see PermutedHead
  float subtract = 0;

  // Values as they are in the source, if not all of them or in another order.
  bool KeepsRows() const { return format.dtype == from->dtype && !update && kept_cols.empty() && subtract == 0.0F; }
  bool Verbatim() const { return KeepsRows() && kept_rows.empty() && permuted_head == 0; }
  bool Rounds() const { return !KeepsRows() && format.dtype != DType::kF32; }
  size_t source_cols() const { return static_cast<size_t>(from->shape.back()); }
  size_t cols() const { return kept_cols.empty() ? source_cols() : kept_cols.size(); }
  size_t rows() const {
    return kept_rows.empty() ? static_cast<size_t>(from->num_elements()) / source_cols() : kept_rows.size();
  }
  std::vector<int64_t> shape() const {
    std::vector<int64_t> shape = from->shape;
    shape.back() = static_cast<int64_t>(cols());
    if (!kept_rows.empty()) shape.front() = static_cast<int64_t>(rows());
    return shape;
  }
  uint64_t bytes() const { return *StorageBytes(format.dtype, static_cast<uint64_t>(rows() * cols())); }
  size_t SourceRow(size_t r) const {
    if (!kept_rows.empty()) return kept_rows[r];
    return permuted_head == 0 ? r : GgufRowOfHubRow(r, permuted_head);
  }
};

class Writer {
 public:
  Writer(const ModelSource& source, const WeightUpdates& updates, const WriteModelOptions& options)
      : source_(source), updates_(updates), options_(options) {}

  WrittenModel WriteGguf(const std::string& path);
  WrittenModel WriteHub(const std::string& path);

 private:
  TensorFormat FormatFor(const TensorView& tensor, size_t cols, bool changed) const;
  void Add(Plan plan);
  void Send(const Plan& plan, const ByteSink& sink);
  void Convert(const Plan& plan, const ByteSink& sink);
  bool ConvertRow(const Plan& plan, size_t r, std::span<float> source, std::span<float> row,
                  std::span<std::byte> out) const;
  void Progress(uint64_t bytes);
  void CopyMetadata(GgufWriter* writer) const;
  nlohmann::json HubConfigJson() const;
  void WriteHubFiles(const fs::path& directory) const;
  void WriteShards(const fs::path& directory);
  void WriteHubAdapter(const fs::path& directory) const;

  const ModelSource& source_;
  const WeightUpdates& updates_;
  const WriteModelOptions& options_;
  std::vector<Plan> plans_;
  WrittenModel result_;
  uint64_t done_ = 0;
};

TensorFormat Writer::FormatFor(const TensorView& tensor, size_t cols, bool changed) const {
  const bool gguf = options_.format == ModelFormat::kGguf;
  // llama.cpp wants norms and frequencies in F32, as its converter leaves them.
  if (gguf && tensor.shape.size() == 1) return {.dtype = tensor.dtype};
  if (options_.dtype || options_.format_of) {
    TensorFormat format = options_.format_of ? options_.format_of(tensor) : TensorFormat{.dtype = *options_.dtype};
    if (cols % GetDTypeInfo(format.dtype).block_elements != 0) {
      Fail(ErrorCode::kUnsupported,
           "[{}] tensor {}: expected rows of whole blocks of {}, found {} elements; choose f16", source_.origin(),
           tensor.name, GetDTypeInfo(format.dtype).block_elements, cols);
    }
    return format;
  }
  if (IsFloat(tensor.dtype) || (gguf && !changed)) return {.dtype = tensor.dtype};
  const bool blocks = gguf && cols % GetDTypeInfo(DType::kQ8_0).block_elements == 0;
  return {.dtype = blocks ? DType::kQ8_0 : DType::kF16};
}

void Writer::Add(Plan plan) {
  result_.bytes += plan.bytes();
  ++result_.tensors;
  result_.requantized |= plan.Rounds();
  plans_.push_back(std::move(plan));
}

void Writer::Progress(uint64_t bytes) {
  done_ += bytes;
  if (options_.on_progress) options_.on_progress(done_, result_.bytes);
}

void Writer::Send(const Plan& plan, const ByteSink& sink) {
  if (plan.Verbatim()) {
    for (std::span<const std::byte> rest = plan.from->data; !rest.empty();) {
      const size_t chunk = std::min(kChunkBytes, rest.size());
      sink(rest.first(chunk));
      Progress(chunk);
      rest = rest.subspan(chunk);
    }
  } else {
    Convert(plan, sink);
  }
  source_.weights->Release(*plan.from);
}

// Row r of the result from its row of the source. False when a value does not fit the type.
bool Writer::ConvertRow(const Plan& plan, size_t r, std::span<float> source, std::span<float> row,
                        std::span<std::byte> out) const {
  const size_t from = plan.SourceRow(r);
  if (plan.KeepsRows()) {
    std::ranges::copy(plan.from->data.subspan(from * out.size(), out.size()), out.begin());
    return true;
  }
  DequantizeRow(*plan.from, from, source);
  if (plan.update) plan.update(from, source);
  for (size_t c = 0; c < row.size(); ++c) {
    row[c] = source[plan.kept_cols.empty() ? c : plan.kept_cols[c]] - plan.subtract;
  }
  return plan.format.search ? QuantizeSearched(plan.format.dtype, row, plan.format.weights, out)
                            : Quantize(plan.format.dtype, row, out);
}

void Writer::Convert(const Plan& plan, const ByteSink& sink) {
  const size_t row_bytes = *StorageBytes(plan.format.dtype, plan.cols());
  const size_t chunk_rows = std::max<size_t>(1, kChunkBytes / (plan.source_cols() * sizeof(float)));
  std::vector<std::byte> chunk;
  for (size_t first = 0; first < plan.rows(); first += chunk_rows) {
    const size_t count = std::min(chunk_rows, plan.rows() - first);
    chunk.resize(count * row_bytes);
    std::atomic<size_t> bad = SIZE_MAX;
    const auto convert = [&](size_t begin, size_t end, int) {
      std::vector<float> source(plan.source_cols());
      std::vector<float> row(plan.cols());
      for (size_t i = begin; i < end; ++i) {
        if (ConvertRow(plan, first + i, source, row, std::span(chunk).subspan(i * row_bytes, row_bytes))) continue;
        bad = first + i;
        return;
      }
    };
    if (options_.pool != nullptr) {
      options_.pool->ParallelFor(count, 1, convert);
    } else {
      convert(0, count, 0);
    }
    if (bad != SIZE_MAX) {
      Fail(ErrorCode::kInvalidArgument,
           "[{}] tensor {}: expected finite numbers that {} can hold, found others in row {}; choose a wider type, or "
           "train again at a lower rate",
           source_.origin(), plan.from->name, GetDTypeInfo(plan.format.dtype).name, plan.SourceRow(bad));
    }
    sink(chunk);
    Progress(chunk.size());
  }
}

uint32_t GgufFileType(DType dtype) {  // enum llama_ftype
  switch (dtype) {
    case DType::kF16:
      return 1;
    case DType::kQ4_0:
      return 2;
    case DType::kQ4_1:
      return 3;
    case DType::kQ8_0:
      return 7;
    case DType::kQ5_0:
      return 8;
    case DType::kQ5_1:
      return 9;
    case DType::kQ4_K:
      return 14;
    case DType::kQ5_K:
      return 16;
    case DType::kQ6_K:
      return 18;
    case DType::kBF16:
      return 32;
    case DType::kF32:
      break;
  }
  return 0;
}

void Writer::CopyMetadata(GgufWriter* writer) const {
  constexpr std::string_view kFileType = "general.file_type";
  constexpr std::string_view kQuantizationVersion = "general.quantization_version";
  const bool other_types = options_.dtype || options_.format_of;
  for (const std::string_view key : source_.gguf->Keys()) {
    // The writer aligns as the format does by default.
    if (key == "general.alignment" || IsEmbeddedName(key) || (key == kFileType && other_types) ||
        options_.sizes.contains(std::string(key))) {
      continue;
    }
    writer->CopyValue(*source_.gguf, key);
  }
  for (const auto& [key, size] : options_.sizes) writer->SetUint32(key, size);
  if (!other_types) return;
  writer->SetUint32(kFileType, options_.dtype ? GgufFileType(*options_.dtype) : options_.file_type);
  const bool blocks = std::ranges::any_of(plans_, [](const Plan& plan) { return !IsFloat(plan.format.dtype); });
  if (blocks && !source_.gguf->Has(kQuantizationVersion)) writer->SetUint32(kQuantizationVersion, 2);
}

WrittenModel Writer::WriteGguf(const std::string& path) {
  RequireGguf(source_);
  for (const TensorView& tensor : source_.gguf->tensors()) {
    if (IsEmbeddedName(tensor.name)) continue;
    RowUpdate update = updates_ ? updates_(tensor.name) : nullptr;
    TensorSlice slice = options_.slice_of ? options_.slice_of(tensor.name) : TensorSlice{.name = tensor.name};
    if (slice.dropped) continue;
    const size_t cols = slice.cols.empty() ? static_cast<size_t>(tensor.shape.back()) : slice.cols.size();
    Add({.name = std::move(slice.name),
         .from = &tensor,
         .format = FormatFor(tensor, cols, update != nullptr || !slice.cols.empty()),
         .update = std::move(update),
         .kept_rows = std::move(slice.rows),
         .kept_cols = std::move(slice.cols)});
  }
  GgufWriter writer;
  CopyMetadata(&writer);
  for (const Plan& plan : plans_) {
    writer.AddTensor(plan.name, plan.format.dtype, plan.shape(),
                     [this, &plan](const ByteSink& sink) { Send(plan, sink); });
  }
  if (options_.adapter != nullptr) {
    EmbeddedAdapter embedded = *options_.adapter;
    embedded.requantized |= result_.requantized;
    EmbedAdapter(embedded, options_.gate_type, &writer);
  }
  writer.WriteFile(path, [this](const std::string& temporary) {
    if (options_.check) options_.check(temporary, result_);
  });
  return result_;
}

const char* TorchType(DType dtype) {
  return dtype == DType::kF32 ? "float32" : dtype == DType::kBF16 ? "bfloat16" : "float16";
}

nlohmann::json Writer::HubConfigJson() const {
  // The type of the layers' matrices.
  const auto matrix = std::ranges::find_if(plans_, [](const Plan& p) { return p.from->shape.size() == 2; });
  const char* type = TorchType(matrix == plans_.end() ? DType::kF32 : matrix->format.dtype);
  if (source_.hub != nullptr) {
    nlohmann::json config = source_.hub->config();
    config[config.contains("dtype") ? "dtype" : "torch_dtype"] = type;
    return config;
  }
  const GgufFile& file = *source_.gguf;
  nlohmann::json config = source_.architecture->hub_config(file, source_.config);
  config["torch_dtype"] = type;
  config["tie_word_embeddings"] = source_.weights->Find("output.weight") == nullptr;
  for (const char* name : {"bos", "eos"}) {
    const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
    if (file.Has(key)) config[fmt::format("{}_token_id", name)] = file.GetUint(key);
  }
  return config;
}

void WriteText(const fs::path& path, std::string_view text) {
  WriteFileAtomically(path.string(), std::as_bytes(std::span<const char>(text)));
}

void Writer::WriteHubFiles(const fs::path& directory) const {
  WriteText(directory / kConfigFile, HubConfigJson().dump(2) + "\n");
  if (source_.gguf != nullptr) {
    const HubTokenizer tokenizer = MakeHubTokenizer(*source_.gguf);
    WriteText(directory / "tokenizer.json", tokenizer.tokenizer_json);
    WriteText(directory / "tokenizer_config.json", tokenizer.tokenizer_config_json);
    return;
  }
  const fs::path from = source_.hub->origin();
  for (const char* name : kHubFiles) {
    std::error_code ignored;
    if (fs::exists(from / name, ignored)) {
      WriteText(directory / name, ReadTextFile((from / name).string(), kMaxHubFileBytes));
    }
  }
}

void Writer::WriteShards(const fs::path& directory) {
  std::vector<std::vector<const Plan*>> shards(1);
  uint64_t shard_bytes = 0;
  for (const Plan& plan : plans_) {
    if (shard_bytes > 0 && shard_bytes + plan.bytes() > options_.max_shard_bytes) {
      shards.emplace_back();
      shard_bytes = 0;
    }
    shards.back().push_back(&plan);
    shard_bytes += plan.bytes();
  }
  nlohmann::json weight_map = nlohmann::json::object();
  for (size_t s = 0; s < shards.size(); ++s) {
    const std::string name = shards.size() == 1 ? std::string("model.safetensors")
                                                : fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, shards.size());
    std::vector<SafetensorsInfo> infos;
    for (const Plan* plan : shards[s]) {
      infos.push_back({plan->name, plan->format.dtype, plan->from->shape});
      weight_map[plan->name] = name;
    }
    FileWriter file((directory / name).string());
    file.Write(SafetensorsHeader(infos, {{"format", "pt"}}));  // transformers asks for it
    for (const Plan* plan : shards[s]) {
      Send(*plan, [&file](std::span<const std::byte> bytes) { file.Write(bytes); });
    }
    file.SyncAndClose();
  }
  if (shards.size() == 1) return;
  const nlohmann::json index = {{"metadata", {{"total_size", result_.bytes}}}, {"weight_map", weight_map}};
  WriteText(directory / "model.safetensors.index.json", index.dump(2) + "\n");
}

void Writer::WriteHubAdapter(const fs::path& directory) const {
  Adapter adapter = options_.adapter->adapter;
  DropDeltas(&adapter);
  adapter.config.base_fingerprint = HubDirectory::Open(directory.string())->Fingerprint();
  if (result_.requantized || options_.adapter->requantized) adapter.config.self_test = {};
  WriteAdapter(adapter, (directory / kAdapterDirectory).string(), /*half_precision=*/false);
}

WrittenModel Writer::WriteHub(const std::string& path) {
  if (options_.dtype && !IsFloat(*options_.dtype)) {
    Fail(ErrorCode::kInvalidArgument,
         "[{}] type: expected f32, f16 or bf16 for safetensors, found {}; choose one of them", path,
         GetDTypeInfo(*options_.dtype).name);
  }
  for (const auto& [canonical, shape] : CanonicalTensors(source_)) {
    const TensorView* tensor = source_.weights->Find(canonical);
    if (tensor == nullptr || tensor->shape != shape) {
      Fail(ErrorCode::kCorruptData,
           "[{}] tensor {}: expected shape [{}], found {}; the file does not hold the model its metadata describes",
           source_.origin(), canonical, fmt::join(shape, ", "),
           tensor == nullptr ? "no such tensor" : fmt::format("[{}]", fmt::join(tensor->shape, ", ")));
    }
    RowUpdate update = updates_ ? updates_(canonical) : nullptr;
    TensorFormat format = FormatFor(*tensor, static_cast<size_t>(tensor->shape.back()), update != nullptr);
    Plan plan = {.name = source_.architecture->hub_tensor_name(canonical),
                 .from = tensor,
                 .format = std::move(format),
                 .update = std::move(update),
                 .permuted_head = PermutedHead(source_, canonical.substr(0, canonical.rfind('.')))};
    if (source_.gguf != nullptr && canonical.ends_with("norm.weight"))
      plan.subtract = source_.architecture->hub_norm_shift;
    Add(std::move(plan));
  }
  WriteDirectoryAtomically(path, [&](const std::string& temporary) {
    WriteHubFiles(temporary);
    WriteShards(temporary);
    if (options_.adapter != nullptr) WriteHubAdapter(temporary);
  });
  return result_;
}

}  // namespace

WrittenModel WriteModel(const ModelSource& source, const WeightUpdates& updates, const WriteModelOptions& options,
                        const std::string& path) {
  Writer writer(source, updates, options);
  return options.format == ModelFormat::kGguf ? writer.WriteGguf(path) : writer.WriteHub(path);
}

}  // namespace gateskip
