// SPDX-License-Identifier: Apache-2.0
// WriteModel, tensor by tensor: what is copied, what is rounded and how far, other values for all of them (as a full
// fine-tune has), shards, PEFT deltas, and what is refused.
#include "model/model_writer.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "io/atomic_write.h"
#include "io/safetensors.h"
#include "io/testing/allocation_meter.h"
#include "io/testing/expect_error.h"
#include "model/peft.h"
#include "support/export_case.h"

namespace gateskip::testing {
namespace {

using Json = nlohmann::json;

struct Tiny {
  explicit Tiny(TinyArch arch, DType dtype = DType::kQ4_1)
      : bytes(TinyGguf({.arch = arch, .dtype = dtype})),
        file(OpenTiny(bytes)),
        source(MakeModelSource(file)),
        adapter(TinyAdapter(*file, {.skip_rank = 2, .lora_rank = 4})) {}
  WeightUpdates Merge() const { return MergeDeltas(adapter, source, "adapter"); }
  bool HasDelta(const std::string& tensor) const {
    return adapter.tensors.contains(tensor.substr(0, tensor.rfind('.')) + ".lora_a");
  }

  std::vector<std::byte> bytes;
  std::shared_ptr<const GgufFile> file;
  ModelSource source;
  Adapter adapter;
};

class Archs : public ::testing::TestWithParam<TinyArch> {
 protected:
  TempDirectory directory_;
};
INSTANTIATE_TEST_SUITE_P(ModelWriter, Archs, ::testing::Values(TinyArch::kLlama, TinyArch::kGemma3),
                         [](const auto& test) { return test.param == TinyArch::kLlama ? "Llama" : "Gemma3"; });

Json ReadJsonFile(const std::string& path) { return Json::parse(ReadBack(path)); }

// W + alpha / rank B A of row r, in double.
std::vector<double> MergedRow(const Tiny& tiny, const std::string& tensor, const std::vector<float>& weights,
                              size_t r) {
  const std::string matrix = tensor.substr(0, tensor.rfind('.'));
  const AdapterTensor& a = tiny.adapter.tensors.at(matrix + ".lora_a");
  const AdapterTensor& b = tiny.adapter.tensors.at(matrix + ".lora_b");
  const auto rank = static_cast<size_t>(a.shape[0]);
  const auto cols = static_cast<size_t>(a.shape[1]);
  std::vector<double> row(weights.begin() + static_cast<ptrdiff_t>(r * cols),
                          weights.begin() + static_cast<ptrdiff_t>((r + 1) * cols));
  for (size_t c = 0; c < cols; ++c) {
    for (size_t k = 0; k < rank; ++k) {
      row[c] += 8.0 / static_cast<double>(rank) * static_cast<double>(b.values[r * rank + k]) *
                static_cast<double>(a.values[k * cols + c]);
    }
  }
  return row;
}

TEST_P(Archs, SourceTypesCopyWhatIsUnchangedBitForBit) {
  const Tiny tiny(GetParam());
  const std::string path = directory_ / "out.gguf";
  const WrittenModel written = WriteModel(tiny.source, tiny.Merge(), {}, path);
  const auto out = GgufFile::Open(path);
  ASSERT_EQ(out->Keys(), tiny.file->Keys());
  for (const std::string_view key : out->Keys()) {
    EXPECT_TRUE(std::ranges::equal(out->RawValue(key), tiny.file->RawValue(key))) << key;
  }
  ASSERT_EQ(out->tensors().size(), tiny.file->tensors().size());
  EXPECT_EQ(written.tensors, out->tensors().size());
  EXPECT_TRUE(written.requantized);
  size_t changed = 0;
  for (const TensorView& tensor : tiny.file->tensors()) {
    const TensorView* found = out->FindTensor(tensor.name);
    ASSERT_NE(found, nullptr) << tensor.name;
    ASSERT_EQ(found->shape, tensor.shape);
    if (!tiny.HasDelta(tensor.name)) {
      EXPECT_EQ(found->dtype, tensor.dtype);
      EXPECT_TRUE(std::ranges::equal(found->data, tensor.data)) << tensor.name;
      continue;
    }
    ++changed;
    ASSERT_EQ(found->dtype, DType::kQ8_0) << tensor.name;
    // A code is half a step off, amax / 127 / 2, and the step is a half, 2^-11 of up to 127 steps.
    const std::vector<float> before = Values(tensor);
    const std::vector<float> after = Values(*found);
    const auto cols = static_cast<size_t>(tensor.shape[1]);
    for (size_t r = 0; r < static_cast<size_t>(tensor.shape[0]); ++r) {
      const std::vector<double> merged = MergedRow(tiny, tensor.name, before, r);
      for (size_t c = 0; c < cols; ++c) {
        double largest = 0;
        for (size_t i = c / 32 * 32; i < c / 32 * 32 + 32; ++i) largest = std::max(largest, std::fabs(merged[i]));
        ASSERT_NEAR(after[r * cols + c], merged[c], largest * (0.5 / 127 + 0x1p-11) * 1.001) << tensor.name;
      }
    }
  }
  EXPECT_EQ(changed, 5U * static_cast<size_t>(tiny.source.config.num_layers));

  // Without deltas the file is the same, but for the writer's own alignment.
  const WrittenModel copy = WriteModel(tiny.source, nullptr, {}, directory_ / "copy.gguf");
  EXPECT_FALSE(copy.requantized);
  EXPECT_EQ(ReadBack(directory_ / "copy.gguf"),
            std::string(reinterpret_cast<const char*>(tiny.bytes.data()), tiny.bytes.size()));
}

TEST_P(Archs, EveryTypeIsWhatItSaysAndRuns) {
  const Tiny tiny(GetParam());
  const EmbeddedAdapter embedded = {tiny.adapter, false, {}};
  const auto ids = TinyTokens(20, 91);
  const std::string base = WriteTiny(directory_, tiny.bytes);
  const std::string adapter = directory_ / "adapter";
  WriteAdapter(tiny.adapter, adapter, /*half_precision=*/false);
  const ScoreResult expected = ScoreModel(base, adapter, ids, 0);
  struct Case {
    DType dtype;
    uint64_t file_type;  // enum llama_ftype
    double step;         // largest rounding of a weight of a block, as a share of the block's largest
  };
  for (const Case& c :
       {Case{DType::kF32, 0, 0x1p-24}, Case{DType::kF16, 1, 0x1p-11}, Case{DType::kBF16, 32, 0x1p-8},
        Case{DType::kQ8_0, 7, 0.6 / 127}, Case{DType::kQ4_1, 3, 1.1 / 15}, Case{DType::kQ4_0, 2, 1.1 / 8}}) {
    SCOPED_TRACE(GetDTypeInfo(c.dtype).name);
    const std::string path = directory_ / "typed.gguf";
    WriteModelOptions options;
    options.dtype = c.dtype;
    options.adapter = &embedded;
    const WrittenModel written = WriteModel(tiny.source, tiny.Merge(), options, path);
    EXPECT_EQ(written.requantized, c.dtype != DType::kF32);
    const auto out = GgufFile::Open(path);
    EXPECT_EQ(ReadEmbeddedAdapter(*out).requantized, written.requantized);
    EXPECT_EQ(out->GetUint("general.file_type"), c.file_type);
    for (const TensorView& tensor : out->tensors()) {
      const bool matrix = tensor.shape.size() == 2 && !IsEmbeddedName(tensor.name);
      EXPECT_EQ(tensor.dtype, matrix ? c.dtype : DType::kF32) << tensor.name;
      const TensorView* before = matrix ? tiny.file->FindTensor(tensor.name) : nullptr;
      if (before == nullptr || tiny.HasDelta(tensor.name)) continue;
      const std::vector<float> old_values = Values(*before);
      const std::vector<float> values = Values(tensor);
      for (size_t i = 0; i < values.size(); ++i) {
        float largest = 0;
        for (size_t j = i / 32 * 32; j < i / 32 * 32 + 32; ++j) largest = std::max(largest, std::fabs(old_values[j]));
        ASSERT_NEAR(values[i], old_values[i], c.step * static_cast<double>(largest)) << tensor.name;
      }
    }
    const ScoreResult found = ScoreModel(path, "", ids, 0, ComputeType::kFast);
    EXPECT_TRUE(std::ranges::all_of(found.log_probs, [](float p) { return std::isfinite(p); }));
    EXPECT_GT(ScoreModel(path, "", ids, 0.4, ComputeType::kFast).saving.branches_skipped, 0U);
  }
  EXPECT_EQ(expected.log_probs.size(), ids.size() - 1);
}

// What a full fine-tune calls: new values for every tensor, from memory.
TEST_P(Archs, NewValuesForEveryTensor) {
  const Tiny tiny(GetParam(), DType::kF32);
  std::map<std::string, std::vector<float>> trained;
  for (const TensorView& tensor : tiny.file->tensors()) {
    trained[tensor.name] = Values(tensor);
    for (float& value : trained[tensor.name]) value = value * 1.25F + 0.125F;
  }
  const WeightUpdates updates = [&](const std::string& name) -> RowUpdate {
    const std::vector<float>& values = trained.at(name);
    return [&values](size_t r, std::span<float> row) {
      std::copy_n(values.begin() + static_cast<ptrdiff_t>(r * row.size()), row.size(), row.begin());
    };
  };
  WriteModelOptions options;
  options.dtype = DType::kF32;
  WriteModel(tiny.source, updates, options, directory_ / "tuned.gguf");
  const auto out = GgufFile::Open(directory_ / "tuned.gguf");
  for (const TensorView& tensor : out->tensors()) EXPECT_EQ(Values(tensor), trained.at(tensor.name)) << tensor.name;

  options.format = ModelFormat::kSafetensors;
  WriteModel(tiny.source, updates, options, directory_ / "tuned");
  const auto hub = SafetensorsFile::Open(directory_ / "tuned/model.safetensors");
  EXPECT_EQ(hub->metadata().at("format"), "pt");
  const std::vector<CanonicalTensor> tensors = CanonicalTensors(tiny.source);
  EXPECT_EQ(hub->tensors().size(), tensors.size());
  EXPECT_EQ(tensors.size(), tiny.file->tensors().size());
  const bool llama = GetParam() == TinyArch::kLlama;
  const auto head = static_cast<size_t>(tiny.source.config.head_dim);
  for (const auto& [name, shape] : tensors) {
    SCOPED_TRACE(name);
    const TensorView* found = hub->FindTensor(tiny.source.architecture->hub_tensor_name(name));
    ASSERT_NE(found, nullptr);
    const std::vector<float> values = Values(*found);
    const std::vector<float>& expected = trained.at(name);
    ASSERT_EQ(values.size(), expected.size());
    const size_t cols = static_cast<size_t>(found->shape.back());
    const bool rotated = llama && (name.find("attn_q.") != name.npos || name.find("attn_k.") != name.npos);
    const bool norm = name.find("norm") != name.npos;
    for (size_t i = 0; i < values.size(); ++i) {
      // transformers rotates element e of a head with e + head / 2, llama.cpp 2 e with 2 e + 1.
      size_t row = i / cols;
      if (rotated) {
        const size_t e = row % head;
        row = row / head * head + (e < head / 2 ? 2 * e : 2 * (e - head / 2) + 1);
      }
      const float value = expected[row * cols + i % cols];
      ASSERT_EQ(values[i], !llama && norm ? value - 1.0F : value) << i;
    }
  }
}

TEST_P(Archs, ShardsHoldTheSameModel) {
  const Tiny tiny(GetParam());
  WriteModelOptions options;
  options.format = ModelFormat::kSafetensors;
  WriteModel(tiny.source, nullptr, options, directory_ / "whole");
  options.max_shard_bytes = 60'000;
  const WrittenModel written = WriteModel(tiny.source, nullptr, options, directory_ / "shards");
  const Json index = ReadJsonFile(directory_ / "shards/model.safetensors.index.json");
  EXPECT_EQ(index.at("metadata").at("total_size"), written.bytes);
  EXPECT_EQ(index.at("weight_map").size(), written.tensors);
  size_t shards = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "shards")) {
    shards += entry.path().extension() == ".safetensors";
  }
  EXPECT_GT(shards, 3U);
  EXPECT_FALSE(std::filesystem::exists(directory_ / "shards/model.safetensors"));
  const auto ids = TinyTokens(20, 92);
  EXPECT_EQ(ScoreModel(directory_ / "shards", "", ids, 0).log_probs,
            ScoreModel(directory_ / "whole", "", ids, 0).log_probs);
}

TEST_P(Archs, ADirectoryBecomesADirectory) {
  const Tiny tiny(GetParam());
  WriteModelOptions options;
  options.format = ModelFormat::kSafetensors;
  WriteModel(tiny.source, nullptr, options, directory_ / "one");
  const Json one = ReadJsonFile(directory_ / "one/config.json");
  EXPECT_EQ(one.at("torch_dtype"), "float16") << "blocks become F16";
  EXPECT_TRUE(one.at("tie_word_embeddings"));
  directory_.Write("one/chat_template.jinja", "{{ messages }}");
  directory_.Write("one/pytorch_model.bin", "not to be copied");

  const ModelSource hub = OpenModelSource(directory_ / "one");
  const WrittenModel copied = WriteModel(hub, nullptr, options, directory_ / "two");
  EXPECT_FALSE(copied.requantized);
  for (const char* name : {"model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}) {
    EXPECT_EQ(ReadBack(directory_ / "two/" + name), ReadBack(directory_ / "one/" + name)) << name;
  }
  EXPECT_FALSE(std::filesystem::exists(directory_ / "two/pytorch_model.bin"));
  options.dtype = DType::kBF16;
  WriteModel(hub, nullptr, options, directory_ / "three");
  EXPECT_EQ(ReadJsonFile(directory_ / "three/config.json").at("torch_dtype"), "bfloat16");
  const auto three = SafetensorsFile::Open(directory_ / "three/model.safetensors");
  for (const auto& [name, tensor] : three->tensors()) {
    EXPECT_EQ(tensor.dtype, DType::kBF16) << name;
  }
  EXPECT_FALSE(ScoreModel(directory_ / "three", "", TinyTokens(8, 93), 0).log_probs.empty());
  options.format = ModelFormat::kGguf;
  ExpectError([&] { WriteModel(hub, nullptr, options, directory_ / "four.gguf"); }, ErrorCode::kUnsupported,
              "found a hub-style directory");
  EXPECT_FALSE(std::filesystem::exists(directory_ / "four.gguf"));
}

// Base and deltas in hub layout add up to the merged model in hub layout, rotations and all.
TEST_P(Archs, PeftDeltasAddUpToTheMergedModel) {
  const Tiny tiny(GetParam(), DType::kF32);
  WriteModelOptions options;
  options.format = ModelFormat::kSafetensors;
  WriteModel(tiny.source, nullptr, options, directory_ / "base");
  WriteModel(tiny.source, tiny.Merge(), options, directory_ / "merged");
  WritePeft(tiny.adapter, tiny.source, "org/base", /*with_gates=*/true, directory_ / "peft");
  const Json config = ReadJsonFile(directory_ / "peft/adapter_config.json");
  EXPECT_EQ(config.at("peft_type"), "LORA");
  EXPECT_EQ(config.at("base_model_name_or_path"), "org/base");
  EXPECT_EQ(config.at("r"), 4);
  EXPECT_EQ(config.at("lora_alpha"), 8);
  EXPECT_EQ(config.at("target_modules"), Json({"q_proj", "k_proj", "o_proj", "up_proj", "down_proj"}));
  const auto base = SafetensorsFile::Open(directory_ / "base/model.safetensors");
  const auto merged = SafetensorsFile::Open(directory_ / "merged/model.safetensors");
  const auto peft = SafetensorsFile::Open(directory_ / "peft/adapter_model.safetensors");
  EXPECT_EQ(peft->tensors().size(), 2 * 5U * static_cast<size_t>(tiny.source.config.num_layers));
  size_t changed = 0;
  for (const auto& [name, tensor] : base->tensors()) {
    const std::string module = "base_model.model." + name.substr(0, name.rfind('.'));
    const std::vector<float> w = Values(tensor);
    const std::vector<float> sum = Values(*merged->FindTensor(name));
    const TensorView* a = peft->FindTensor(module + ".lora_A.weight");
    if (a == nullptr) {
      EXPECT_EQ(w, sum) << name;
      continue;
    }
    ++changed;
    const std::vector<float> av = Values(*a);
    const std::vector<float> bv = Values(*peft->FindTensor(module + ".lora_B.weight"));
    const auto cols = static_cast<size_t>(tensor.shape[1]);
    for (size_t i = 0; i < w.size(); ++i) {
      double delta = 0;
      for (size_t k = 0; k < 4; ++k) {
        delta += 2.0 * static_cast<double>(bv[i / cols * 4 + k]) * static_cast<double>(av[k * cols + i % cols]);
      }
      const double expected = static_cast<double>(w[i]) + delta;
      ASSERT_NEAR(sum[i], expected, std::fabs(expected) * 0x1p-24 + 1e-12) << name << " " << i;  // rounded once
    }
  }
  EXPECT_EQ(2 * changed, peft->tensors().size());

  const auto gates = SafetensorsFile::Open(directory_ / "peft/gateskip_gates.safetensors");
  EXPECT_EQ(Json::parse(gates->metadata().at("adapter_config")).at("gate_kind"), "scalar");
  EXPECT_EQ(gates->tensors().size() + peft->tensors().size(), tiny.adapter.tensors.size());
  WritePeft(tiny.adapter, tiny.source, "org/base", /*with_gates=*/false, directory_ / "bare");
  EXPECT_FALSE(std::filesystem::exists(directory_ / "bare/gateskip_gates.safetensors"));
  const Adapter plain = TinyAdapter(*tiny.file, {});
  ExpectError([&] { WritePeft(plain, tiny.source, "b", true, directory_ / "none"); }, ErrorCode::kInvalidArgument,
              "expected an adapter with LoRA deltas");
}

// Llama 3.1's rotations: GGUF has a divisor per frequency, config.json the rule they come from.
TEST(ModelWriter, Llama3RotationsKeepTheirRule) {
  constexpr double kBase = 500000.0, kFactor = 32.0, kLow = 1.0, kHigh = 4.0, kOriginal = 8192.0;
  const TempDirectory directory;
  const Tiny tiny(TinyArch::kLlama);
  std::vector<float> divisors;
  for (int i = 0; i < tiny.source.config.head_dim / 2; ++i) {
    const double wavelength = 2.0 * 3.14159265358979323846 * std::pow(kBase, 2.0 * i / tiny.source.config.head_dim);
    const double smooth = (kOriginal / wavelength - kLow) / (kHigh - kLow);
    divisors.push_back(static_cast<float>(wavelength < kOriginal / kHigh  ? 1.0
                                          : wavelength > kOriginal / kLow ? kFactor
                                                                          : 1.0 / ((1.0 - smooth) / kFactor + smooth)));
  }
  EXPECT_EQ(divisors.front(), 1.0F);
  EXPECT_EQ(divisors.back(), 32.0F);
  EXPECT_TRUE(std::ranges::any_of(divisors, [](float d) { return d > 1.0F && d < 32.0F; }));
  const auto write = [&](const std::string& path) {
    GgufWriter writer;
    for (const std::string_view key : tiny.file->Keys()) writer.CopyValue(*tiny.file, key);
    writer.SetFloat32("llama.rope.freq_base", static_cast<float>(kBase));
    for (const TensorView& tensor : tiny.file->tensors()) {
      writer.AddTensor(tensor.name, tensor.dtype, tensor.shape, tensor.data);
    }
    writer.AddTensor("rope_freqs.weight", DType::kF32, {static_cast<int64_t>(divisors.size())},
                     std::as_bytes(std::span<const float>(divisors)));
    writer.WriteFile(path);
  };
  WriteModelOptions options;
  options.format = ModelFormat::kSafetensors;
  options.dtype = DType::kF32;
  write(directory / "llama3.gguf");
  WriteModel(OpenModelSource(directory / "llama3.gguf"), nullptr, options, directory / "hub");
  const Json scaling = ReadJsonFile(directory / "hub/config.json").at("rope_scaling");
  EXPECT_EQ(scaling.at("rope_type"), "llama3");
  EXPECT_EQ(scaling.at("factor"), 32.0);
  const auto ids = TinyTokens(200, 94);
  const ScoreResult expected = ScoreModel(directory / "llama3.gguf", "", ids, 0);
  const ScoreResult found = ScoreModel(directory / "hub", "", ids, 0);
  // The divisors are f32: angles of up to 200 are off by 2^-24 of that, and so is what they rotate.
  const double tolerance = 2 * ExportTolerance(tiny.source.config) + 200 * 0x1p-24 * 8 * 8;
  for (size_t t = 0; t < expected.log_probs.size(); ++t) {
    ASSERT_NEAR(found.log_probs[t], expected.log_probs[t], tolerance) << "position " << t;
  }
  divisors[2] = 2.0F;
  write(directory / "odd.gguf");
  ExpectError([&] { WriteModel(OpenModelSource(directory / "odd.gguf"), nullptr, options, directory / "odd"); },
              ErrorCode::kUnsupported, "rope_freqs.weight: expected the factors of Llama 3");
}

TEST(ModelWriter, RefusesWhatCannotBeWritten) {
  const TempDirectory directory;
  const Tiny tiny(TinyArch::kLlama);
  const auto write = [&](const WriteModelOptions& options, const WeightUpdates& updates) {
    return [&, options, updates] { WriteModel(tiny.source, updates, options, directory / "out"); };
  };
  WriteModelOptions options;
  options.dtype = DType::kQ4_K;
  ExpectError(write(options, nullptr), ErrorCode::kUnsupported, "expected rows of whole blocks of 256, found 64");
  options.format = ModelFormat::kSafetensors;
  options.dtype = DType::kQ8_0;
  ExpectError(write(options, nullptr), ErrorCode::kInvalidArgument, "found Q8_0");

  // A number that is none, in one row of one tensor; one that is too large for the type only.
  for (const ModelFormat format : {ModelFormat::kGguf, ModelFormat::kSafetensors}) {
    options.format = format;
    for (const float bad : {std::nanf(""), 1e6F}) {
      options.dtype = DType::kF16;
      const WeightUpdates poison = [bad](const std::string& name) -> RowUpdate {
        if (name != "blk.2.ffn_up.weight") return nullptr;
        return [bad](size_t r, std::span<float> row) {
          if (r == 3) row[5] = bad;
        };
      };
      ExpectError(write(options, poison), ErrorCode::kInvalidArgument, "tensor blk.2.ffn_up.weight");
    }
  }
  EXPECT_TRUE(directory.Names().empty()) << "nothing is left of a failed write";

  Adapter other = tiny.adapter;
  other.tensors["blk.1.attn_q.lora_b"].shape[0] -= 1;
  ExpectError([&] { MergeDeltas(other, tiny.source, "other"); }, ErrorCode::kMismatch, "[other] blk.1.attn_q.lora");
}

// Shapes of a directory are a stranger's: rows that are no whole heads, dimensions of 0, no dimension at all.
TEST(ModelWriter, RefusesDirectoriesWhoseShapesAreOthers) {
  const TempDirectory directory;
  const Tiny tiny(TinyArch::kLlama, DType::kF32);
  WriteModelOptions options;
  options.format = ModelFormat::kSafetensors;
  WriteModel(tiny.source, nullptr, options, directory / "hub");
  const std::string path = directory / "hub/model.safetensors";
  const std::string name = "model.layers.1.self_attn.q_proj.weight";
  for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{{63, 64}, {64, 0}, {0, 64}, {}}) {
    std::vector<SafetensorsEntry> entries;
    {
      const auto whole = SafetensorsFile::Open(path);
      for (const auto& [key, tensor] : whole->tensors()) {
        entries.push_back({key, tensor.dtype, tensor.shape, {tensor.data.begin(), tensor.data.end()}});
        if (key != name) continue;
        size_t elements = 1;
        for (const int64_t dim : shape) elements *= static_cast<size_t>(dim);
        entries.back().shape = shape;
        entries.back().data.resize(elements * sizeof(float));
      }
    }
    WriteFileAtomically(path, SerializeSafetensors(entries, {}));
    const ModelSource hub = OpenModelSource(directory / "hub");
    ExpectError([&] { WriteModel(hub, nullptr, options, directory / "out"); }, ErrorCode::kCorruptData,
                "tensor blk.1.attn_q.weight: expected shape [64, 64]");
  }
  EXPECT_EQ(directory.Names(), std::set<std::string>{"hub"});
}

TEST(ModelWriter, RefusesRowsOfBrokenBlocks) {
  const TempDirectory directory;
  GgufWriter writer;
  writer.AddTensor("odd.weight", DType::kF32, {2, 48}, std::vector<std::byte>(2 * 48 * 4));
  const std::vector<std::byte> bytes = writer.Serialize();
  ModelSource source;
  source.gguf = GgufFile::Parse(bytes, "odd");
  source.weights = MakeWeightSource(source.gguf);
  WriteModelOptions options;
  options.dtype = DType::kQ8_0;
  ExpectError([&] { WriteModel(source, nullptr, options, directory / "out"); }, ErrorCode::kUnsupported,
              "tensor odd.weight: expected rows of whole blocks of 32, found 48");
  options.dtype = DType::kF16;
  EXPECT_EQ(WriteModel(source, nullptr, options, directory / "out").bytes, 2U * 48 * 2);
}

// A tensor of 64 MiB goes through in pieces of a few.
TEST(ModelWriter, TakesLittleMemory) {
  constexpr int64_t kRows = 1 << 14;
  constexpr int64_t kCols = 1 << 10;
  const TempDirectory directory;
  GgufWriter writer;
  writer.AddTensor("large.weight", DType::kF32, {kRows, kCols}, [](const ByteSink& sink) {
    const std::vector<float> row(kCols, 0.5F);
    for (int64_t r = 0; r < kRows; ++r) sink(std::as_bytes(std::span<const float>(row)));
  });
  writer.WriteFile(directory / "large.gguf");
  ModelSource source;
  source.gguf = GgufFile::Open(directory / "large.gguf");
  source.weights = MakeWeightSource(source.gguf);
  for (const DType dtype : {DType::kF32, DType::kQ8_0}) {
    WriteModelOptions options;
    options.dtype = dtype;
    const AllocationMeter meter;
    WriteModel(source, nullptr, options, directory / "out.gguf");
    EXPECT_LT(meter.PeakBytes(), size_t{16} << 20) << GetDTypeInfo(dtype).name;
  }
}

}  // namespace
}  // namespace gateskip::testing
