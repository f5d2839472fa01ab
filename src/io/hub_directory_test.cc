// SPDX-License-Identifier: Apache-2.0
// Hub-style directories: one file or shards, and an index that lies or leads out of the directory.
#include "io/hub_directory.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "io/safetensors.h"
#include "io/testing/expect_error.h"
#include "io/testing/temp_directory.h"

namespace gateskip::testing {
namespace {

constexpr ErrorCode kCorrupt = ErrorCode::kCorruptData;
constexpr ErrorCode kInvalid = ErrorCode::kInvalidArgument;
constexpr ErrorCode kNotFound = ErrorCode::kNotFound;

// A safetensors file of the F32 tensor `name` = [value].
std::string Shard(const std::string& name, float value) {
  std::vector<std::byte> data(sizeof(value));
  std::memcpy(data.data(), &value, sizeof(value));
  const std::vector<std::byte> bytes = SerializeSafetensors({{name, DType::kF32, {1}, data}}, {});
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// config.json, shards s1 (tensor a = 1) and s2 (tensor b = 2), and this weight_map.
void WriteSharded(const TempDirectory& directory, std::string_view weight_map) {
  directory.Write("config.json", R"({"model_type":"toy"})");
  directory.Write("s1.safetensors", Shard("a", 1));
  directory.Write("s2.safetensors", Shard("b", 2));
  directory.Write("model.safetensors.index.json", fmt::format(R"({{"metadata":{{}},"weight_map":{}}})", weight_map));
}
constexpr std::string_view kGoodMap = R"({"a":"s1.safetensors","b":"s2.safetensors"})";

float Value(const TensorView& tensor) {
  float value = 0;
  std::memcpy(&value, tensor.data.data(), sizeof(value));
  return value;
}

TEST(HubDirectory, OneFile) {
  const TempDirectory directory;
  directory.Write("config.json", R"({"model_type":"toy"})");
  directory.Write("model.safetensors", Shard("a", 1));
  const auto model = HubDirectory::Open(directory.path());
  EXPECT_EQ(model->origin(), directory.path());
  EXPECT_EQ(model->config()["model_type"], "toy");
  ASSERT_NE(model->FindTensor("a"), nullptr);
  EXPECT_EQ(Value(*model->FindTensor("a")), 1.0F);
  EXPECT_EQ(model->FindTensor("b"), nullptr);
}

TEST(HubDirectory, Shards) {
  const TempDirectory directory;
  WriteSharded(directory, kGoodMap);
  const auto model = HubDirectory::Open(directory.path());
  EXPECT_EQ(Value(*model->FindTensor("a")), 1.0F);
  EXPECT_EQ(Value(*model->FindTensor("b")), 2.0F);
}

TEST(HubDirectory, ShardsMayBeLinksIntoACache) {
  const TempDirectory cache;
  const TempDirectory directory;
  WriteSharded(directory, kGoodMap);
  std::filesystem::remove(directory / "s2.safetensors");
  std::filesystem::create_symlink(cache.Write("blob", Shard("b", 3)), directory / "s2.safetensors");
  EXPECT_EQ(Value(*HubDirectory::Open(directory.path())->FindTensor("b")), 3.0F);
}

TEST(HubDirectory, RefusesNamesThatLeaveIt) {
  const TempDirectory outer;
  outer.Write("secret.safetensors", Shard("a", 9));
  const char* const names[] = {"../secret.safetensors", "/etc/passwd", "..", ".", "", "sub/x", "a\\\\b", "s1\\u0000.x"};
  for (const char* name : names) {
    SCOPED_TRACE(name);
    const TempDirectory directory;
    WriteSharded(directory, fmt::format(R"({{"a":"{}"}})", name));
    ExpectError([&] { HubDirectory::Open(directory.path()); }, kInvalid, "shard: expected the name of a file in this");
  }
}

TEST(HubDirectory, RefusesShardsThatAreNotThere) {
  {
    const TempDirectory directory;
    WriteSharded(directory, R"({"a":"s1.safetensors","b":"s3.safetensors"})");
    ExpectError([&] { HubDirectory::Open(directory.path()); }, kNotFound, "expected the file s3.safetensors");
  }
  {
    const TempDirectory directory;
    WriteSharded(directory, kGoodMap);
    std::filesystem::remove(directory / "s2.safetensors");
    std::filesystem::create_symlink(directory / "nowhere", directory / "s2.safetensors");
    ExpectError([&] { HubDirectory::Open(directory.path()); }, kNotFound, "s2.safetensors");
    std::filesystem::remove(directory / "s2.safetensors");
    std::filesystem::create_directory(directory / "s2.safetensors");
    ExpectError([&] { HubDirectory::Open(directory.path()); }, kNotFound, "s2.safetensors");
  }
  const TempDirectory directory;
  WriteSharded(directory, kGoodMap);
  directory.Write("s2.safetensors", Shard("b", 2).substr(0, 60));
  ExpectError([&] { HubDirectory::Open(directory.path()); }, kCorrupt, "s2.safetensors]");
}

TEST(HubDirectory, RefusesAnIndexThatLies) {
  struct Row {
    const char* map;
    ErrorCode code;
    const char* words;
  };
  const Row rows[] = {
      {R"({"a":"s1.safetensors","c":"s2.safetensors"})", kCorrupt, "expected tensor c in s2.safetensors"},
      {R"({"a":"s2.safetensors","b":"s2.safetensors"})", kCorrupt, "expected tensor a in s2.safetensors"},
      {R"({"a":1})", kCorrupt, "weight_map a: expected a file name, found number"},
      {R"({"a":null})", kCorrupt, "found null"},
      {R"(["a"])", kCorrupt, "weight_map: expected an object"},
      {R"("a")", kCorrupt, "weight_map: expected an object"},
      {R"({})", ErrorCode::kLimitExceeded, "shards: expected 1 to 1000, found 0"},
      {R"({"a":"s1.safetensors","a":"s1.safetensors"})", kCorrupt, "expected it once"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.map);
    const TempDirectory directory;
    WriteSharded(directory, row.map);
    ExpectError([&] { HubDirectory::Open(directory.path()); }, row.code, row.words);
  }
  const TempDirectory directory;
  WriteSharded(directory, kGoodMap);
  directory.Write("model.safetensors.index.json", "{}");
  ExpectError([&] { HubDirectory::Open(directory.path()); }, kCorrupt, "weight_map: expected an object");
  directory.Write("model.safetensors.index.json", "[1]");
  ExpectError([&] { HubDirectory::Open(directory.path()); }, kCorrupt, "weight_map: expected an object");
  std::string many = "{";
  for (int i = 0; i < 1001; ++i) many += fmt::format(R"({}"t{}":"{}")", i > 0 ? "," : "", i, i);
  WriteSharded(directory, many + "}");
  ExpectError([&] { HubDirectory::Open(directory.path()); }, ErrorCode::kLimitExceeded, "found 1001");
}

TEST(HubDirectory, RefusesMissingAndDamagedFiles) {
  const TempDirectory directory;
  ExpectError([&] { HubDirectory::Open(directory.path()); }, kNotFound, "config.json");
  directory.Write("config.json", "{");
  ExpectError([&] { HubDirectory::Open(directory.path()); }, kCorrupt, "config.json] JSON");
  directory.Write("config.json", "{}");
  ExpectError([&] { HubDirectory::Open(directory.path()); }, kNotFound, "model.safetensors");
  ExpectError([&] { HubDirectory::Open(directory / "absent"); }, kNotFound, "absent/config.json");
}

TEST(HubDirectory, FingerprintSeesConfigHeaderAndData) {
  const TempDirectory directory;
  WriteSharded(directory, kGoodMap);
  const std::string original = HubDirectory::Open(directory.path())->Fingerprint();
  EXPECT_EQ(original.size(), 64U);
  directory.Write("s2.safetensors", Shard("b", 2.5F));
  const std::string data_changed = HubDirectory::Open(directory.path())->Fingerprint();
  EXPECT_NE(data_changed, original);
  directory.Write("config.json", "{}");
  EXPECT_NE(HubDirectory::Open(directory.path())->Fingerprint(), data_changed);
  WriteSharded(directory, kGoodMap);
  EXPECT_EQ(HubDirectory::Open(directory.path())->Fingerprint(), original);
}

TEST(ReadTextFile, LimitsItsSize) {
  const TempDirectory directory;
  const std::string path = directory.Write("t", "12345");
  EXPECT_EQ(ReadTextFile(path, 5), "12345");
  ExpectError([&] { ReadTextFile(path, 4); }, ErrorCode::kLimitExceeded, "at most 4 bytes, found 5");
  EXPECT_EQ(ReadTextFile(directory.Write("empty", ""), 4), "");
}

}  // namespace
}  // namespace gateskip::testing
