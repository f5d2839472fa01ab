// SPDX-License-Identifier: Apache-2.0
// The safetensors reader: a table of crafted bad files (one at least per error of the reference's enumeration), the odd
// ones it must accept as the reference does, every truncation, flips over the header; and the writer's round trip.
#include "io/safetensors.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "io/testing/allocation_meter.h"
#include "io/testing/deep_read.h"
#include "io/testing/expect_error.h"
#include "io/testing/gguf_bytes.h"
#include "io/testing/temp_directory.h"
#include "tensor/dequantize.h"

namespace gateskip::testing {
namespace {

constexpr ErrorCode kCorrupt = ErrorCode::kCorruptData;
constexpr ErrorCode kLimit = ErrorCode::kLimitExceeded;

// A file of this header text and so many bytes of data.
std::string File(std::string_view header, size_t data_bytes) {
  return Raw<uint64_t>(header.size()) + std::string(header) + std::string(data_bytes, '\x01');
}

std::string Tensor(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return fmt::format(R"({{"dtype":"{}","shape":{},"data_offsets":{}}})", dtype, shape, offsets);
}
// A file of the one tensor t.
std::string One(std::string_view dtype, std::string_view shape, std::string_view offsets, size_t data_bytes) {
  return File(R"({"t":)" + Tensor(dtype, shape, offsets) + "}", data_bytes);
}
// A file of the F32 tensors [begin, end) of the offsets given.
std::string Floats(const std::vector<std::pair<int, int>>& ranges, size_t data_bytes) {
  std::string header = "{";
  for (const auto& [begin, end] : ranges) {
    header += fmt::format(R"({}"t{}":{})", header.size() > 1 ? "," : "", header.size(),
                          Tensor("F32", fmt::format("[{}]", (end - begin) / 4), fmt::format("[{},{}]", begin, end)));
  }
  return File(header + "}", data_bytes);
}
std::string Nested(size_t levels) { return std::string(levels, '[') + std::string(levels, ']'); }

struct BadFile {
  const char* name;
  std::string bytes;
  ErrorCode code;
  const char* words;
};
void PrintTo(const BadFile& row, std::ostream* out) { *out << row.name; }

std::vector<BadFile> BadFiles() {
  const std::string good = Tensor("F32", "[1]", "[0,4]");
  return {
      {"Empty", "", kCorrupt, "header size"},
      {"SevenBytes", std::string(7, '\0'), kCorrupt, "header size: expected 8 bytes, found 7"},
      {"HeaderLength0", File("", 0), kCorrupt, "JSON"},
      {"HeaderOnePastEnd", Raw<uint64_t>(3) + "{}", kCorrupt, "header: expected it inside the file"},
      {"HeaderTooLarge", Raw<uint64_t>(100'000'001) + "{}", kLimit, "at most 100000000 bytes"},
      {"HeaderLimitPastEnd", Raw<uint64_t>(100'000'000) + "{}", kCorrupt, "inside the file"},
      {"HeaderLengthMax", Raw(UINT64_MAX) + "{}", kLimit, "found 18446744073709551615"},
      {"HeaderLengthWraps", Raw(UINT64_MAX - 7) + "{}", kLimit, "header"},
      {"NotUtf8", File("{\"\xff\":1}", 0), kCorrupt, "JSON"},
      {"OverlongUtf8", File("{\"\xc0\xaf\":1}", 0), kCorrupt, "JSON"},
      {"LoneSurrogate", File(R"({"\ud800":1})", 0), kCorrupt, "JSON"},
      {"ByteOrderMark", File("\xEF\xBB\xBF{}", 0), kCorrupt, "byte order mark"},
      {"NotJson", File("{", 0), kCorrupt, "JSON"},
      {"TrailingText", File("{} x", 0), kCorrupt, "JSON"},
      {"TrailingComma", File(R"({"a":1,})", 0), kCorrupt, "JSON"},
      {"NulPadding", File(std::string("{}\0\0", 4), 0), kCorrupt, "NUL byte"},
      {"NulThenMore", File(std::string("{}\0{\"t\":1}", 10), 0), kCorrupt, "NUL byte"},
      {"NumberTooLarge", File(R"({"__metadata__":{},"t":1e999})", 0), kCorrupt, "JSON"},
      {"HeaderArray", File("[]", 0), kCorrupt, "a JSON object"},
      {"HeaderString", File("\"{}\"", 0), kCorrupt, "a JSON object"},
      {"DeepArrays", File(R"({"t":)" + Nested(8) + "}", 0), kLimit, "at most 8 levels"},
      {"MillionBrackets", File(std::string(1'000'000, '['), 0), kLimit, "at most 8 levels"},
      {"DuplicateTensor", File("{\"t\":" + good + ",\"t\":" + good + "}", 4), kCorrupt, "found it twice"},
      {"DuplicateEscaped", File("{\"t\":" + good + ",\"\\u0074\":" + good + "}", 4), kCorrupt, "found it twice"},
      {"DuplicateField", File(R"({"t":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}})", 4), kCorrupt,
       "found it twice"},
      {"DuplicateMetadata", File(R"({"__metadata__":{"a":"1","a":"2"}})", 0), kCorrupt, "found it twice"},
      {"MetadataArray", File(R"({"__metadata__":[]})", 0), kCorrupt, "__metadata__: expected an object"},
      {"MetadataNumber", File(R"({"__metadata__":{"a":1}})", 0), kCorrupt, "__metadata__ a: expected a string"},
      {"MetadataNested", File(R"({"__metadata__":{"a":{}}})", 0), kCorrupt, "found object"},
      {"MetadataNullValue", File(R"({"__metadata__":{"a":null}})", 0), kCorrupt, "found null"},
      {"TensorNumber", File(R"({"t":1})", 0), kCorrupt, "an object of dtype, shape and data_offsets"},
      {"TensorNull", File(R"({"t":null})", 0), kCorrupt, "an object of dtype"},
      {"TensorEmptyObject", File(R"({"t":{}})", 0), kCorrupt, "an object of dtype"},
      {"NoDtype", File(R"({"t":{"shape":[1],"data_offsets":[0,4]}})", 4), kCorrupt, "an object of dtype"},
      {"NoShape", File(R"({"t":{"dtype":"F32","data_offsets":[0,4]}})", 4), kCorrupt, "an object of dtype"},
      {"NoOffsets", File(R"({"t":{"dtype":"F32","shape":[1]}})", 4), kCorrupt, "an object of dtype"},
      {"NameTooLong", File("{\"" + std::string(1025, 'n') + "\":" + good + "}", 4), kCorrupt, "at most 1024 bytes"},
      {"DtypeUnknown", One("Q4_0", "[1]", "[0,4]", 4), kCorrupt, "known dtype, found Q4_0"},
      {"DtypeLowerCase", One("f32", "[1]", "[0,4]", 4), kCorrupt, "known dtype, found f32"},
      {"DtypeNumber", File(R"({"t":{"dtype":5,"shape":[1],"data_offsets":[0,4]}})", 4), kCorrupt, "key dtype"},
      {"ShapeNumber", One("F32", "1", "[0,4]", 4), kCorrupt, "a shape of at most 8 dimensions"},
      {"ShapeRank9", One("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]", 4), kCorrupt, "a shape of at most 8 dimensions"},
      {"ShapeNegative", One("F32", "[-1]", "[0,4]", 4), kCorrupt, "non-negative integer"},
      {"ShapeMinus0", One("F32", "[-0]", "[0,0]", 0), kCorrupt, "non-negative integer"},
      {"ShapeFloat", One("F32", "[1.0]", "[0,4]", 4), kCorrupt, "non-negative integer"},
      {"ShapeString", One("F32", "[\"1\"]", "[0,4]", 4), kCorrupt, "non-negative integer"},
      {"Shape2To64", One("F32", "[18446744073709551616]", "[0,4]", 4), kCorrupt, "non-negative integer"},
      {"ShapeMax", One("U8", "[18446744073709551615]", "[0,4]", 4), kCorrupt, "fits 63 bits"},
      {"ProductWraps", One("F32", "[4294967296,4294967296]", "[0,0]", 0), kCorrupt, "fits 63 bits"},
      {"ProductWrapsTo1", One("F32", "[9223372036854775807,9223372036854775807]", "[0,4]", 4), kCorrupt,
       "fits 63 bits"},
      {"ProductWrapsBefore0", One("F32", "[4294967296,4294967296,0]", "[0,0]", 0), kCorrupt, "fits 63 bits"},
      {"BytesWrap", One("F32", "[4611686018427387904]", "[0,0]", 0), kCorrupt, "fits 64 bits"},
      {"HalfAByte", One("F4", "[1]", "[0,1]", 1), kCorrupt, "whole bytes"},
      {"OffsetsNumber", One("F32", "[1]", "0", 4), kCorrupt, "two data_offsets"},
      {"OffsetsOne", One("F32", "[1]", "[0]", 4), kCorrupt, "two data_offsets"},
      {"OffsetsThree", One("F32", "[1]", "[0,4,4]", 4), kCorrupt, "two data_offsets"},
      {"OffsetsNegative", One("F32", "[1]", "[-4,0]", 4), kCorrupt, "non-negative integer"},
      {"OffsetsReversed", One("F32", "[1]", "[4,0]", 4), kCorrupt, "offsets of its size"},
      {"OffsetsPastEnd", One("F32", "[2]", "[0,8]", 4), kCorrupt, "inside the data"},
      {"OffsetsMax", One("F32", "[1]", "[18446744073709551612,18446744073709551615]", 4), kCorrupt, "inside the data"},
      {"OffsetsNotShape", One("F32", "[2]", "[0,4]", 4), kCorrupt, "offsets of its size"},
      {"OffsetsMoreThanShape", One("F16", "[1]", "[0,4]", 4), kCorrupt, "offsets of its size"},
      {"Overlap", Floats({{0, 8}, {4, 12}}, 12), kCorrupt, "neither holes nor overlaps"},
      {"OverlapSame", Floats({{0, 8}, {0, 8}}, 8), kCorrupt, "neither holes nor overlaps"},
      {"OverlapInside", Floats({{0, 12}, {4, 8}}, 12), kCorrupt, "neither holes nor overlaps"},
      {"Hole", Floats({{0, 4}, {8, 12}}, 12), kCorrupt, "neither holes nor overlaps"},
      {"HoleAtBegin", Floats({{4, 8}}, 8), kCorrupt, "one at 4 after 0"},
      {"Tail", Floats({{0, 4}}, 5), kCorrupt, "no bytes after the last tensor"},
      {"DataWithoutTensors", File("{}", 1), kCorrupt, "no bytes after the last tensor"},
      {"DataCut", Floats({{0, 4}, {4, 8}}, 7), kCorrupt, "inside the data"},
  };
}

class SafetensorsBadFile : public ::testing::TestWithParam<BadFile> {};

TEST_P(SafetensorsBadFile, EndsInItsError) {
  const BadFile& row = GetParam();
  const AllocationMeter meter;
  ExpectError([&] { SafetensorsFile::Parse(AsBytes(row.bytes), "memory"); }, row.code, row.words);
  EXPECT_LE(meter.PeakBytes(), 20 * row.bytes.size() + 65536);
  const TempDirectory directory;
  const std::string path = directory.Write("bad.safetensors", row.bytes);
  ExpectError([&] { SafetensorsFile::Open(path); }, row.code, row.words);
  ExpectError([&] { SafetensorsFile::Open(path); }, row.code, "[" + path);
}

INSTANTIATE_TEST_SUITE_P(Table, SafetensorsBadFile, ::testing::ValuesIn(BadFiles()),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(Safetensors, AcceptsWhatTheReferenceAccepts) {
  const std::string good = Tensor("F32", "[1]", "[0,4]");
  const std::string files[] = {
      File("{}", 0),
      File(" \n\t{} \r\n", 0),                            // white space before and after
      File(R"({"__metadata__":{}})", 0),                  //
      File(R"({"__metadata__":null})", 0),                //
      File(R"({"__metadata__":{"":""}})", 0),             //
      File("{\"\":" + good + "}", 4),                     // a tensor without a name
      One("F32", "[]", "[0,4]", 4),                       // rank 0
      One("F32", "[0]", "[0,0]", 0),                      // no elements
      One("F32", "[4611686018427387904,0]", "[0,0]", 0),  // none, after a product whose bytes would not fit
      One("F4", "[2]", "[0,1]", 1),                       // two to a byte
      One("F6_E2M3", "[4]", "[0,3]", 3),                  //
      Floats({{0, 4}, {4, 4}, {4, 8}}, 8),                // an empty one between
      Floats({{8, 12}, {0, 4}, {4, 8}}, 12),              // in any order
      File(R"({"t":{"x":[{}],"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4),  // further keys
  };
  for (const std::string& bytes : files) {
    SCOPED_TRACE(bytes.substr(8));
    EXPECT_NO_THROW(DeepRead(*SafetensorsFile::Parse(AsBytes(bytes), "memory")));
  }
  for (const char* dtype : {"F64", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL", "C64", "F8_E4M3",
                            "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ", "F8_E8M0", "F6_E3M2"}) {
    SCOPED_TRACE(dtype);
    const std::string bytes = One(dtype, "[0]", "[0,0]", 0);
    const auto file = SafetensorsFile::Parse(AsBytes(bytes), "memory");
    EXPECT_TRUE(file->Has("t"));
    EXPECT_TRUE(file->tensors().empty());
    ExpectError([&] { file->FindTensor("t"); }, ErrorCode::kUnsupported, "expected F32, F16 or BF16");
  }
}

std::vector<SafetensorsEntry> Entries() {
  std::vector<SafetensorsEntry> entries = {
      {"w", DType::kF32, {2, 3}, {}}, {"h", DType::kF16, {5}, {}},     {"b", DType::kBF16, {2, 1}, {}},
      {"none", DType::kF32, {0}, {}}, {"scalar", DType::kF32, {}, {}},
  };
  uint8_t next = 0;
  for (SafetensorsEntry& entry : entries) {
    int64_t count = 1;
    for (const int64_t dim : entry.shape) count *= dim;
    entry.data.resize(static_cast<size_t>(count) * (entry.dtype == DType::kF32 ? 4 : 2));
    for (std::byte& b : entry.data) b = static_cast<std::byte>(++next);
  }
  return entries;
}

TEST(Safetensors, RoundTrip) {
  const std::map<std::string, std::string> metadata = {{"format", "pt"}, {"\xC3\xA9", "\"\\"}};
  const std::vector<std::byte> bytes = SerializeSafetensors(Entries(), metadata);
  const auto file = SafetensorsFile::Parse(bytes, "memory");
  EXPECT_EQ(file->metadata(), metadata);
  EXPECT_EQ(file->header().size() % 8, 0U) << "data starts aligned";
  ASSERT_EQ(file->tensors().size(), Entries().size());
  for (const SafetensorsEntry& entry : Entries()) {
    const TensorView* tensor = file->FindTensor(entry.name);
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->dtype, entry.dtype);
    EXPECT_EQ(tensor->shape, entry.shape);
    EXPECT_TRUE(std::ranges::equal(tensor->data, entry.data)) << entry.name;
  }
  EXPECT_EQ(file->FindTensor("absent"), nullptr);
  EXPECT_FALSE(file->Has("absent"));
}

TEST(Safetensors, WriterRefusesDataThatIsNotItsShape) {
  std::vector<SafetensorsEntry> entries = Entries();
  entries[0].data.pop_back();
  EXPECT_THROW(SerializeSafetensors(entries, {}), Error);
  entries = Entries();
  entries[1].name = entries[0].name;
  EXPECT_THROW(SerializeSafetensors(entries, {}), Error);
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const std::vector<std::byte> whole = SerializeSafetensors(Entries(), {{"a", "b"}});
  for (size_t size = 0; size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    const std::vector<std::byte> bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    ExpectError([&] { SafetensorsFile::Parse(bytes, "cut"); }, kCorrupt, "[cut]");
  }
}

TEST(Safetensors, FlippedHeadersLoadOrFail) {
  const std::vector<std::byte> whole = SerializeSafetensors(Entries(), {{"a", "b"}});
  const size_t header = 8 + SafetensorsFile::Parse(whole, "whole")->header().size();
  size_t refused = 0;
  for (size_t at = 0; at < header; ++at) {
    for (const int flip : {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFF}) {
      std::vector<std::byte> bytes = whole;
      bytes[at] ^= static_cast<std::byte>(flip);
      try {
        DeepRead(*SafetensorsFile::Parse(bytes, "flipped"));
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, header * 9 / 2);
}

TEST(Safetensors, ManyTensorsAreReadInAboutLinearTime) {
  std::string header = "{";
  for (int i = 0; i < 100000; ++i) {
    header +=
        fmt::format(R"({}"t{}":{{"dtype":"U8","shape":[1],"data_offsets":[{},{}]}})", i > 0 ? "," : "", i, i, i + 1);
  }
  const std::string bytes = File(header + "}", 100000);
  EXPECT_TRUE(SafetensorsFile::Parse(AsBytes(bytes), "memory")->Has("t99999"));
}

}  // namespace
}  // namespace gateskip::testing
