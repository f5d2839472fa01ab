// SPDX-License-Identifier: Apache-2.0
// Writes the seed corpora of the fuzz targets of this folder (tests/data/fuzz).
//
// usage: gs_io_make_corpus FOLDER      (the folder that holds gguf/, safetensors/ and adapter/)
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "io/gguf.h"
#include "io/safetensors.h"
#include "io/testing/gguf_bytes.h"
#include "io/testing/small_adapter.h"

namespace gateskip::testing {
namespace {

namespace fs = std::filesystem;

void Write(const fs::path& path, std::string_view bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::string_view Text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void WriteGguf(const fs::path& folder) {
  GgufBytes all = GgufBytes::Valid();
  Write(folder / "all_v3", all.Build());
  all.version = 2;
  Write(folder / "all_v2", all.Build());
  Write(folder / "nothing", GgufBytes().Build());
  for (size_t i = 0; i < all.values.size(); ++i) {
    GgufBytes one;
    one.values = {all.values[i]};
    Write(folder / fmt::format("value_{:02}", i), one.Build());
  }
  for (const uint32_t alignment : {8U, 64U}) {
    GgufBytes aligned = GgufBytes::Valid();
    aligned.values = {GgufPair("general.alignment", GgufType::kUint32, Raw(alignment))};
    aligned.alignment = alignment;
    aligned.tensors = {{"a", {2}, 0, 0}, {"b", {1}, 0, alignment}};
    aligned.data = std::string(alignment, '\0') + Raw(2.0F);
    Write(folder / fmt::format("alignment_{}", alignment), aligned.Build());
  }
  for (int t = 0; t < kNumDTypes; ++t) {
    const DTypeInfo& info = GetDTypeInfo(static_cast<DType>(t));
    GgufWriter writer;
    writer.AddTensor("t", static_cast<DType>(t), {1, info.block_elements}, std::vector<std::byte>(info.block_bytes));
    Write(folder / fmt::format("tensor_{}", info.name), Text(writer.Serialize()));
  }
}

// Header text, NUL, data: how the safetensors and adapter targets take a file.
std::string Parts(std::string_view file) {
  uint64_t length = 0;
  file.copy(reinterpret_cast<char*>(&length), sizeof(length));
  return std::string(file.substr(8, length)) + std::string(1, '\0') + std::string(file.substr(8 + length));
}

void WriteSafetensors(const fs::path& folder) {
  const std::vector<std::byte> data(24, std::byte{0x3C});
  const auto first = [&](size_t n) { return std::vector<std::byte>(data.begin(), data.begin() + static_cast<int>(n)); };
  const std::vector<std::byte> whole = SerializeSafetensors({{"w", DType::kF32, {2, 3}, data},
                                                             {"h", DType::kF16, {5}, first(10)},
                                                             {"b", DType::kBF16, {1, 1}, first(2)},
                                                             {"none", DType::kF32, {0}, {}},
                                                             {"scalar", DType::kF32, {}, first(4)}},
                                                            {{"format", "pt"}});
  Write(folder / "whole", fmt::format("r{}", Text(whole)));
  Write(folder / "parts", fmt::format("h{}", Parts(Text(whole))));
  const auto write_header = [&](std::string_view name, std::string_view header, size_t bytes) {
    Write(folder / name, fmt::format("h{}{}", header, std::string(1 + bytes, '\0')));
  };
  write_header("empty", "{}", 0);
  write_header("spaces", " {} ", 0);
  write_header("metadata", R"({"__metadata__":{"a":"\u00e9"}})", 0);
  for (const char* dtype : {"F64", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL", "C64", "F8_E4M3",
                            "F8_E5M2", "F8_E8M0", "F6_E2M3", "F4"}) {
    write_header(dtype, fmt::format(R"({{"t":{{"dtype":"{}","shape":[0,7],"data_offsets":[0,0]}}}})", dtype), 0);
  }
  write_header("f4", R"({"t":{"dtype":"F4","shape":[2],"data_offsets":[0,1],"more":[{}]}})", 1);
}

// The v1_* seeds there are of the first format version, which nothing writes any more.
void WriteAdapters(const fs::path& folder) {
  const auto write = [&](const std::string& name, const SmallAdapterOptions& options) {
    const fs::path directory = fs::temp_directory_path() / fmt::format("gateskip-corpus-{}", name);
    WriteAdapter(SmallAdapter(options), directory.string(), options.skip_rank == 0);
    const auto read = [&](const char* file) {
      std::ifstream in(directory / file, std::ios::binary);
      return std::string(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    };
    Write(folder / name, read("adapter_config.json") + std::string(1, '\0') + Parts(read("adapter_model.safetensors")));
    fs::remove_all(directory);
  };
  constexpr std::pair<int, KvRule> kRanks[] = {{-1, KvRule::kCompute}, {0, KvRule::kCopy}, {2, KvRule::kDrop}};
  for (const auto& [kind, name] : kGateKinds) {
    for (const auto& [rank, rule] : kRanks) {
      write(fmt::format("{}_rank_{}", name, rank + 1), {kind, rule, rank, std::max(rank, 0)});
    }
    write(fmt::format("{}_shared_output", name), {.kind = kind, .product = GateProduct::kOutput, .shared = true});
    write(fmt::format("{}_layer_input", name),
          {.kind = kind, .skip_rank = 0, .product = GateProduct::kInput, .scope = GateScope::kLayer});
  }
}

}  // namespace
}  // namespace gateskip::testing

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: gs_io_make_corpus FOLDER\n");
    return 2;
  }
  const std::filesystem::path folder = argv[1];
  gateskip::testing::WriteGguf(folder / "gguf");
  gateskip::testing::WriteSafetensors(folder / "safetensors");
  gateskip::testing::WriteAdapters(folder / "adapter");
  return 0;
}
