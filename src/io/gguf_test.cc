// SPDX-License-Identifier: Apache-2.0
// The GGUF reader on good files: every value and tensor type, both versions, what the writer writes; then good files
// cut at every byte and with every bit of the header turned over.
#include "io/gguf.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "io/testing/deep_read.h"
#include "io/testing/expect_error.h"
#include "io/testing/gguf_bytes.h"
#include "io/testing/temp_directory.h"
#include "tensor/dequantize.h"

namespace gateskip::testing {
namespace {

constexpr ErrorCode kCorrupt = ErrorCode::kCorruptData;

std::shared_ptr<const GgufFile> Parse(const std::string& bytes) { return GgufFile::Parse(AsBytes(bytes), "memory"); }

std::vector<float> Floats(const TensorView& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
  Dequantize(tensor.dtype, tensor.data, values);
  return values;
}

TEST(Gguf, ReadsEveryValueType) {
  for (const uint32_t version : {2, 3}) {
    GgufBytes raw = GgufBytes::Valid();
    raw.version = version;
    const std::string bytes = raw.Build();
    const auto file = Parse(bytes);
    EXPECT_EQ(file->origin(), "memory");
    EXPECT_EQ(file->Keys().size(), raw.values.size());
    EXPECT_EQ(file->Keys().front(), "general.architecture");
    EXPECT_EQ(file->GetString("general.architecture"), "toy");
    EXPECT_EQ(file->GetUint("t.u8"), 200U);
    EXPECT_EQ(file->GetInt("t.i8"), -3);
    EXPECT_EQ(file->GetInt("t.u16"), 60000);
    EXPECT_EQ(file->GetInt("t.i16"), -300);
    EXPECT_EQ(file->GetUint("t.u32"), 4000000000U);
    EXPECT_EQ(file->GetInt("t.i32"), -70000);
    EXPECT_EQ(file->GetFloat("t.f32"), 1.5);
    EXPECT_EQ(file->GetFloat("t.f64"), -2.25);
    EXPECT_TRUE(file->GetBool("t.bool"));
    EXPECT_EQ(file->GetUint("t.u64"), UINT64_MAX);
    EXPECT_EQ(file->GetInt("t.i64"), INT64_MIN);
    EXPECT_EQ(file->GetStrings("t.strings"), (std::vector<std::string_view>{"one", "", "three"}));
    EXPECT_EQ(file->GetFloats("t.floats"), (std::vector<float>{0.5F, -1.0F}));
    EXPECT_EQ(file->GetInts("t.ints"), (std::vector<int64_t>{7, -7}));
    EXPECT_TRUE(file->GetInts("t.none").empty());
    EXPECT_EQ(file->TypeOf("t.bools"), GgufType::kArray);
    EXPECT_EQ(file->TypeOf("absent"), std::nullopt);
    EXPECT_TRUE(file->Has("t.none"));
    EXPECT_FALSE(file->Has("t.non"));
  }
}

TEST(Gguf, ReadsTensorsInRowMajorOrder) {
  const std::string bytes = GgufBytes::Valid().Build();
  const auto file = Parse(bytes);
  const TensorView* a = file->FindTensor("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->shape, (std::vector<int64_t>{2, 4}));
  EXPECT_EQ(Floats(*a), (std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7}));
  const std::vector<float> b = Floats(*file->FindTensor("b"));
  EXPECT_EQ(b.front(), 0.0F);  // code 8
  EXPECT_EQ(b.back(), -7.0F);  // code 1
  EXPECT_EQ(Floats(*file->FindTensor("c")), (std::vector<float>{1.0F, -2.0F, 0x1p-24F}));
  EXPECT_EQ(file->FindTensor("d"), nullptr);
}

TEST(Gguf, FallbacksStandInForAbsentKeysOnly) {
  const std::string bytes = GgufBytes::Valid().Build();
  const auto file = Parse(bytes);
  EXPECT_EQ(file->GetUint("absent", 5), 5U);
  EXPECT_EQ(file->GetInt("absent", -5), -5);
  EXPECT_EQ(file->GetFloat("absent", 0.5), 0.5);
  EXPECT_TRUE(file->GetBool("absent", true));
  EXPECT_EQ(file->GetString("absent", "x"), "x");
  ExpectError([&] { file->GetUint("absent"); }, kCorrupt, "key absent: expected an unsigned integer, found nothing");
  ExpectError([&] { file->GetUint("t.f32", 5); }, kCorrupt, "found f32");
  ExpectError([&] { file->GetBool("t.u8", true); }, kCorrupt, "expected a bool, found u8");
  ExpectError([&] { file->GetString("t.strings", "x"); }, kCorrupt, "expected a string, found array");
}

// G7: an array's element type is checked before anything is cast.
TEST(Gguf, GettersRefuseOtherTypes) {
  GgufBytes raw = GgufBytes::Valid();
  raw.values.push_back(GgufPair("nan", GgufType::kFloat32, Raw(std::nanf(""))));
  raw.values.push_back(GgufPair("inf", GgufType::kFloat64, Raw(-HUGE_VAL)));
  raw.values.push_back(GgufArrayPair("u64s", GgufType::kUint64, 1, Raw(UINT64_MAX)));
  for (uint32_t type = 0; type <= 12; ++type) {
    if (type == 8 || type == 9) continue;
    raw.values.push_back(GgufArrayPair(fmt::format("scores.{}", type), type, 1,
                                       std::string(8, '\0').substr(0, type <= 1 || type == 7 ? 1
                                                                      : type <= 3            ? 2
                                                                      : type <= 6            ? 4
                                                                                             : 8)));
  }
  const std::string bytes = raw.Build();
  const auto file = Parse(bytes);
  for (uint32_t type = 0; type <= 12; ++type) {
    const std::string key = fmt::format("scores.{}", type);
    if (!file->Has(key)) continue;
    if (type != 6) ExpectError([&] { file->GetFloats(key); }, kCorrupt, "an array of f32");
    ExpectError([&] { file->GetStrings(key); }, kCorrupt, "an array of strings");
    if (type == 6 || type == 7 || type == 12) {
      ExpectError([&] { file->GetInts(key); }, kCorrupt, "an array of integers");
    } else {
      EXPECT_EQ(file->GetInts(key), std::vector<int64_t>{0}) << key;
    }
  }
  ExpectError([&] { file->GetInts("t.strings"); }, kCorrupt, "an array of integers");
  ExpectError([&] { file->GetFloats("t.strings"); }, kCorrupt, "an array of f32");
  ExpectError([&] { file->GetInts("t.u8"); }, kCorrupt, "found u8");
  ExpectError([&] { file->GetInts("absent"); }, kCorrupt, "found nothing");
  ExpectError([&] { file->GetInts("u64s"); }, kCorrupt, "an array of integers");
  ExpectError([&] { file->GetUint("t.i8"); }, kCorrupt, "an unsigned integer, found i8");
  ExpectError([&] { file->GetInt("t.u64"); }, kCorrupt, "an integer, found u64");
  ExpectError([&] { file->GetFloat("t.u8"); }, kCorrupt, "a finite float, found u8");
  ExpectError([&] { file->GetFloat("nan"); }, kCorrupt, "a finite float");
  ExpectError([&] { file->GetFloat("inf"); }, kCorrupt, "a finite float");
}

TEST(Gguf, DescribesValues) {
  const std::string bytes = GgufBytes::Valid().Build();
  const auto file = Parse(bytes);
  EXPECT_EQ(file->DescribeValue("t.i8", 10), "-3");
  EXPECT_EQ(file->DescribeValue("t.u64", 30), "18446744073709551615");
  EXPECT_EQ(file->DescribeValue("t.f32", 10), "1.5");
  EXPECT_EQ(file->DescribeValue("t.bool", 10), "true");
  EXPECT_EQ(file->DescribeValue("t.strings", 20), "string[3]");
  EXPECT_EQ(file->DescribeValue("general.architecture", 2), "to...");
  EXPECT_EQ(file->DescribeValue("absent", 2), "");
}

// What the writer copies from a file is what it was, bit for bit, whatever its type.
TEST(Gguf, TheWriterCopiesValues) {
  for (const uint32_t version : {2, 3}) {
    GgufBytes raw = GgufBytes::Valid();
    raw.version = version;
    const std::string bytes = raw.Build();
    const auto source = Parse(bytes);
    GgufWriter writer;
    for (const std::string_view key : source->Keys()) writer.CopyValue(*source, key);
    const std::vector<std::byte> copy = writer.Serialize();
    const auto file = GgufFile::Parse(copy, "copy");
    ASSERT_EQ(file->Keys(), source->Keys());
    for (const std::string_view key : source->Keys()) {
      EXPECT_TRUE(std::ranges::equal(file->RawValue(key), source->RawValue(key))) << key;
      EXPECT_EQ(file->TypeOf(key), source->TypeOf(key));
      EXPECT_EQ(file->DescribeValue(key, 100), source->DescribeValue(key, 100));
    }
    EXPECT_THROW(writer.CopyValue(*source, "absent"), Error);
  }
}

// Tensors that are made while they are written: the same bytes in memory and on the disk, one call each.
TEST(Gguf, TheWriterStreamsTensors) {
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  int calls = 0;
  const auto build = [&](GgufWriter* writer, bool stream) {
    writer->SetUint32("answer", 42);
    const auto bytes = std::as_bytes(std::span<const float>(values));
    if (stream) {
      writer->AddTensor("a", DType::kF32, {2, 3}, [bytes, &calls](const ByteSink& sink) {
        ++calls;
        sink(bytes.first(4));
        sink({});
        sink(bytes.subspan(4));
      });
    } else {
      writer->AddTensor("a", DType::kF32, {2, 3}, bytes);
    }
    writer->AddTensor("b", DType::kF32, {1}, bytes.first(4));
  };
  GgufWriter streamed;
  GgufWriter copied;
  build(&streamed, true);
  build(&copied, false);
  EXPECT_EQ(streamed.Serialize(), copied.Serialize());
  const TempDirectory directory;
  streamed.WriteFile(directory / "f.gguf");
  EXPECT_EQ(ReadBack(directory / "f.gguf"),
            std::string(reinterpret_cast<const char*>(copied.Serialize().data()), copied.Serialize().size()));
  EXPECT_EQ(calls, 2);
  GgufWriter wrong;
  wrong.AddTensor("a", DType::kF32, {2}, [](const ByteSink& sink) { sink(std::vector<std::byte>(7)); });
  EXPECT_THROW(wrong.WriteFile(directory / "g.gguf"), Error);
  EXPECT_EQ(directory.Names(), std::set<std::string>{"f.gguf"});
}

TEST(Gguf, EveryTruncationIsRefused) {
  for (const uint32_t version : {2, 3}) {
    GgufBytes raw = GgufBytes::Valid();
    raw.version = version;
    const std::string whole = raw.Build();
    for (size_t size = 0; size < whole.size(); ++size) {
      SCOPED_TRACE(size);
      // A copy of its own, so that a read past the end is one past an allocation.
      const std::vector<char> bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      ExpectError([&] { GgufFile::Parse(AsBytes({bytes.data(), bytes.size()}), "cut"); }, kCorrupt, "[cut]");
    }
  }
}

TEST(Gguf, FlippedHeadersLoadOrFail) {
  const GgufBytes raw = GgufBytes::Valid();
  const std::string whole = raw.Build();
  const size_t header = raw.HeaderBytes();
  size_t refused = 0;
  size_t accepted = 0;
  for (size_t at = 0; at < header; ++at) {
    for (const int flip : {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFF}) {
      std::vector<char> bytes(whole.begin(), whole.end());
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      try {
        DeepRead(*GgufFile::Parse(AsBytes({bytes.data(), bytes.size()}), "flipped"));
        ++accepted;
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  // Flips inside names and values leave good files; flips of lengths, types and counts do not.
  EXPECT_GT(refused, header * 9 / 3);
  EXPECT_GT(accepted, header * 9 / 10);
}

TEST(Gguf, AManyKeyedFileIsReadInAboutLinearTime) {
  // Of 200000 keys: a duplicate scan that is linear per key would run for minutes, into the test's time limit.
  GgufBytes raw;
  for (uint32_t i = 0; i < 200000; ++i) raw.values.push_back(GgufPair(fmt::format("k{}", i), GgufType::kUint8, "x"));
  std::string bytes = raw.Build();
  EXPECT_EQ(Parse(bytes)->Keys().size(), 200000U);
  raw.values.push_back(raw.values.front());
  bytes = raw.Build();
  ExpectError([&] { Parse(bytes); }, kCorrupt, "key k0: expected it once");
}

TEST(Gguf, AFileWithoutTensorsIsAFile) {
  const std::string bytes = GgufBytes().Build();
  EXPECT_EQ(bytes.size(), 24U);
  EXPECT_TRUE(Parse(bytes)->tensors().empty());
}

TEST(Gguf, OtherAlignments) {
  for (const uint32_t alignment : {8U, 16U, 64U, 4096U, 1U << 20}) {
    GgufBytes raw = GgufBytes::Valid();
    raw.values.push_back(GgufPair("general.alignment", GgufType::kUint32, Raw(alignment)));
    raw.alignment = alignment;
    raw.tensors = {{"a", {2}, 0, 0}, {"b", {1}, 0, alignment}};
    raw.data = std::string(alignment, '\0') + Raw(2.0F);
    const std::string bytes = raw.Build();
    EXPECT_EQ(Floats(*Parse(bytes)->FindTensor("b")), std::vector<float>{2.0F});
  }
}

void Fill(GgufWriter* out) {
  GgufWriter& writer = *out;
  writer.SetUint32("u", 7);
  writer.SetFloat32("f", -0.5F);
  writer.SetBool("b", false);
  writer.SetString("s", "text \xC3\xA9");
  writer.SetStrings("ss", {"a", "", "c"});
  writer.SetFloats("fs", {1.0F, 2.0F});
  writer.SetInt32s("is", {-1, INT32_MAX});
  for (int t = 0; t < kNumDTypes; ++t) {
    const auto dtype = static_cast<DType>(t);
    const DTypeInfo& info = GetDTypeInfo(dtype);
    std::vector<std::byte> data(6 * size_t{info.block_bytes});
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 7 + static_cast<size_t>(t));
    writer.AddTensor(info.name, dtype, {3, 2 * int64_t{info.block_elements}}, data);
  }
}

TEST(Gguf, WriterRoundTrip) {
  GgufWriter writer;
  Fill(&writer);
  const TempDirectory directory;
  writer.WriteFile(directory / "m.gguf");
  const auto file = GgufFile::Open(directory / "m.gguf");
  EXPECT_EQ(file->GetUint("u"), 7U);
  EXPECT_EQ(file->GetFloat("f"), -0.5);
  EXPECT_FALSE(file->GetBool("b"));
  EXPECT_EQ(file->GetString("s"), "text \xC3\xA9");
  EXPECT_EQ(file->GetStrings("ss"), (std::vector<std::string_view>{"a", "", "c"}));
  EXPECT_EQ(file->GetFloats("fs"), (std::vector<float>{1.0F, 2.0F}));
  EXPECT_EQ(file->GetInts("is"), (std::vector<int64_t>{-1, INT32_MAX}));
  ASSERT_EQ(file->tensors().size(), static_cast<size_t>(kNumDTypes));
  for (size_t t = 0; t < kNumDTypes; ++t) {
    const TensorView& tensor = file->tensors()[t];
    const DTypeInfo& info = GetDTypeInfo(static_cast<DType>(t));
    EXPECT_EQ(tensor.name, info.name);
    EXPECT_EQ(tensor.dtype, static_cast<DType>(t));
    EXPECT_EQ(tensor.shape, (std::vector<int64_t>{3, 2 * int64_t{info.block_elements}}));
    ASSERT_EQ(tensor.data.size(), 6 * size_t{info.block_bytes});
    for (size_t i = 0; i < tensor.data.size(); ++i) ASSERT_EQ(tensor.data[i], static_cast<std::byte>(i * 7 + t));
    file->ReleasePages(tensor);
    ASSERT_EQ(tensor.data[1], static_cast<std::byte>(7 + t)) << "released pages come back";
  }
}

TEST(Gguf, WriterOutputCutAnywhereIsRefused) {
  GgufWriter writer;
  Fill(&writer);
  const std::vector<std::byte> whole = writer.Serialize();
  for (size_t size = 0; size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    const std::vector<std::byte> bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    ExpectError([&] { GgufFile::Parse(bytes, "cut"); }, kCorrupt, "[cut]");
  }
}

TEST(Gguf, WriterRefusesWhatTheReaderWould) {
  GgufWriter writer;
  const std::vector<std::byte> data(36);
  EXPECT_THROW(writer.AddTensor("t", DType::kQ4_0, {2, 16}, std::span(data).first(18)), Error);  // half a block a row
  EXPECT_THROW(writer.AddTensor("t", DType::kF32, {8}, data), Error);
  EXPECT_THROW(writer.AddTensor("t", DType::kF32, {}, std::span(data).first(4)), Error);
}

TEST(Gguf, FingerprintSeesHeaderAndTensorEnds) {
  const std::string whole = GgufBytes::Valid().Build();
  const std::string original = Parse(whole)->Fingerprint();
  EXPECT_EQ(original.size(), 64U);
  EXPECT_EQ(Parse(std::string(whole))->Fingerprint(), original) << "the same in another place";
  for (const size_t at : {whole.find("toy"), whole.size() - 1, whole.size() - 70}) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    EXPECT_NE(Parse(changed)->Fingerprint(), original) << at;
  }
}

}  // namespace
}  // namespace gateskip::testing
