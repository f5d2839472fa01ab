// SPDX-License-Identifier: Apache-2.0
// A table of crafted bad GGUF files: counts and lengths that lie, products and sums that wrap, wrong types, tensors out
// of place. Each must end in the error the table names, through both ways of reading, and may not make the reader
// allocate more than the order of its own (small) size.
#include <gtest/gtest.h>

#include "io/gguf.h"
#include "io/testing/allocation_meter.h"
#include "io/testing/expect_error.h"
#include "io/testing/gguf_bytes.h"
#include "io/testing/temp_directory.h"

namespace gateskip::testing {
namespace {

constexpr ErrorCode kCorrupt = ErrorCode::kCorruptData;
constexpr ErrorCode kUnsupported = ErrorCode::kUnsupported;
constexpr uint64_t k2To31 = uint64_t{1} << 31;
constexpr uint64_t k2To32 = uint64_t{1} << 32;
constexpr uint64_t k2To61 = uint64_t{1} << 61;
constexpr uint64_t k2To62 = uint64_t{1} << 62;
constexpr uint64_t k2To63 = uint64_t{1} << 63;

struct BadFile {
  const char* name;
  void (*damage)(GgufBytes* file);
  ErrorCode code;
  const char* words;
  void (*damage_bytes)(std::string* bytes) = nullptr;  // afterwards, on the built file
};

void PrintTo(const BadFile& row, std::ostream* out) { *out << row.name; }

void Nothing(GgufBytes* file) { static_cast<void>(file); }
// Replaces the last value by an unfinished or wrong one, so that what follows it are the tensor entries.
void SetLast(GgufBytes* file, std::string pair) { file->values.back() = std::move(pair); }
void AddPair(GgufBytes* file, std::string pair) { file->values.push_back(std::move(pair)); }
void SetAlignment(GgufBytes* file, uint32_t value) {
  AddPair(file, GgufPair("general.alignment", GgufType::kUint32, Raw(value)));
}

const BadFile kHeader[] = {
    {"Empty", Nothing, kCorrupt, "magic: expected 4 bytes", [](std::string* b) { b->clear(); }},
    {"OneByte", Nothing, kCorrupt, "truncated", [](std::string* b) { b->resize(1); }},
    {"ThreeBytes", Nothing, kCorrupt, "truncated", [](std::string* b) { b->resize(3); }},
    {"MagicOnly", Nothing, kCorrupt, "version: expected 4 bytes", [](std::string* b) { b->resize(4); }},
    {"NoCounts", Nothing, kCorrupt, "tensor count: expected 8 bytes", [](std::string* b) { b->resize(8); }},
    {"OneCount", Nothing, kCorrupt, "key count: expected 8 bytes", [](std::string* b) { b->resize(16); }},
    {"MagicGgml", [](GgufBytes* f) { f->magic = "GGML"; }, kCorrupt, "not a GGUF file"},
    {"MagicReversed", [](GgufBytes* f) { f->magic = "FUGG"; }, kCorrupt, "not a GGUF file"},
    {"MagicLowerCase", [](GgufBytes* f) { f->magic = "gguf"; }, kCorrupt, "not a GGUF file"},
    {"Version0", [](GgufBytes* f) { f->version = 0; }, kUnsupported, "found 0"},
    {"Version1", [](GgufBytes* f) { f->version = 1; }, kUnsupported, "found 1"},
    {"Version4", [](GgufBytes* f) { f->version = 4; }, kUnsupported, "found 4"},
    {"VersionMax", [](GgufBytes* f) { f->version = UINT32_MAX; }, kUnsupported, "found 4294967295"},
    {"BigEndian", [](GgufBytes* f) { f->version = 0x03000000; }, kUnsupported, "big-endian"},
    {"BigEndianV2", [](GgufBytes* f) { f->version = 0x02000000; }, kUnsupported, "big-endian"},
    {"Tensors2To31", [](GgufBytes* f) { f->num_tensors = k2To31; }, kCorrupt, "counts: expected"},
    {"Tensors2To32", [](GgufBytes* f) { f->num_tensors = k2To32; }, kCorrupt, "counts: expected"},
    {"Tensors2To61", [](GgufBytes* f) { f->num_tensors = k2To61; }, kCorrupt, "counts: expected"},
    {"Tensors2To63", [](GgufBytes* f) { f->num_tensors = k2To63; }, kCorrupt, "counts: expected"},
    {"TensorsMax", [](GgufBytes* f) { f->num_tensors = UINT64_MAX; }, kCorrupt, "found 18446744073709551615"},
    {"TensorsOneTooMany", [](GgufBytes* f) { f->num_tensors = 4; }, kCorrupt, "tensor"},
    {"TensorsOneTooFew",
     [](GgufBytes* f) {
       f->num_tensors = 2;
       f->tensors[0].offset = 4096;
     },
     kCorrupt, "tensor a"},
    {"Values2To31", [](GgufBytes* f) { f->num_values = k2To31; }, kCorrupt, "counts: expected"},
    {"Values2To32", [](GgufBytes* f) { f->num_values = k2To32; }, kCorrupt, "counts: expected"},
    {"Values2To61", [](GgufBytes* f) { f->num_values = k2To61; }, kCorrupt, "counts: expected"},
    {"Values2To63", [](GgufBytes* f) { f->num_values = k2To63; }, kCorrupt, "counts: expected"},
    {"ValuesMax", [](GgufBytes* f) { f->num_values = UINT64_MAX; }, kCorrupt, "counts: expected"},
    {"ValuesOneTooMany", [](GgufBytes* f) { f->num_values = f->values.size() + 1; }, kCorrupt, "tensor name: expected"},
    {"ValuesOneTooFew", [](GgufBytes* f) { f->num_values = f->values.size() - 1; }, kCorrupt, "tensor t.none"},
    {"NoValues", [](GgufBytes* f) { f->num_values = 0; }, kCorrupt, "tensor general.architecture"},
};

const BadFile kValues[] = {
    {"KeyEmpty", [](GgufBytes* f) { AddPair(f, GgufPair("", GgufType::kUint8, "x")); }, kCorrupt, "found 0 bytes"},
    {"KeyTooLong", [](GgufBytes* f) { AddPair(f, GgufPair(std::string(1025, 'k'), GgufType::kUint8, "x")); }, kCorrupt,
     "found 1025 bytes"},
    {"KeyControl", [](GgufBytes* f) { AddPair(f, GgufPair("a\x1b[2J", GgufType::kUint8, "x")); }, kCorrupt,
     "printable ASCII"},
    {"KeyNul", [](GgufBytes* f) { AddPair(f, GgufPair(std::string_view("a\0b", 3), GgufType::kUint8, "x")); }, kCorrupt,
     "printable ASCII"},
    {"KeyDelete", [](GgufBytes* f) { AddPair(f, GgufPair("a\x7f", GgufType::kUint8, "x")); }, kCorrupt,
     "printable ASCII"},
    {"KeyNotUtf8", [](GgufBytes* f) { AddPair(f, GgufPair("a\xff", GgufType::kUint8, "x")); }, kCorrupt,
     "printable ASCII"},
    {"KeyLengthMax", [](GgufBytes* f) { AddPair(f, Raw(UINT64_MAX) + "abc"); }, kCorrupt, "key: expected 18446744"},
    // Position 24 + 2^64 - 24 is 0 again.
    {"KeyLengthWraps", [](GgufBytes* f) { f->values = {Raw(UINT64_MAX - 31) + std::string(20, 'k')}; }, kCorrupt,
     "key: expected 18446744"},
    {"KeyLengthPastEnd",
     [](GgufBytes* f) {
       *f = {};
       AddPair(f, Raw<uint64_t>(7) + "abcdef");
     },
     kCorrupt, "key: expected 7 bytes"},
    {"KeyTwice", [](GgufBytes* f) { AddPair(f, GgufPair("t.u8", GgufType::kUint8, "x")); }, kCorrupt,
     "key t.u8: expected it once"},
    {"KeyTwiceOtherType", [](GgufBytes* f) { AddPair(f, GgufPair("t.u8", GgufType::kString, GgufString(""))); },
     kCorrupt, "found it twice"},
    {"TypeUnknown", [](GgufBytes* f) { AddPair(f, GgufPair("k", 13, "")); }, kCorrupt, "known value type, found 13"},
    {"Type2To31", [](GgufBytes* f) { AddPair(f, GgufPair("k", 0x80000000U, "")); }, kCorrupt, "found 2147483648"},
    {"TypeMinus1", [](GgufBytes* f) { AddPair(f, GgufPair("k", UINT32_MAX, "")); }, kCorrupt, "found 4294967295"},
    {"StringMax", [](GgufBytes* f) { SetLast(f, GgufPair("k", GgufType::kString, Raw(UINT64_MAX))); }, kCorrupt,
     "string value: expected 18446744073709551615 bytes"},
    {"String2To63", [](GgufBytes* f) { SetLast(f, GgufPair("k", GgufType::kString, Raw(k2To63))); }, kCorrupt,
     "string value: expected"},
    {"StringPastEnd",
     [](GgufBytes* f) {
       *f = {};
       AddPair(f, GgufPair("key", GgufType::kString, Raw<uint64_t>(3) + "ab"));
     },
     kCorrupt, "string value: expected 3 bytes"},
    {"ScalarCut",
     [](GgufBytes* f) {
       *f = {};
       AddPair(f, GgufPair("key", GgufType::kFloat64, "1234567"));
     },
     kCorrupt, "value: expected 8 bytes"},
    {"BoolTwo", [](GgufBytes* f) { AddPair(f, GgufPair("k", GgufType::kBool, "\x02")); }, kCorrupt, "0 or 1 as a bool"},
    {"BoolArrayFF", [](GgufBytes* f) { AddPair(f, GgufArrayPair("k", GgufType::kBool, 2, "\x01\xff")); }, kCorrupt,
     "0 or 1 as a bool"},
    {"ArrayTypeUnknown", [](GgufBytes* f) { AddPair(f, GgufArrayPair("k", 13, 1, "x")); }, kCorrupt, "found 13"},
    {"ArrayTypeMinus1", [](GgufBytes* f) { AddPair(f, GgufArrayPair("k", UINT32_MAX, 0, "")); }, kCorrupt,
     "known value type"},
    {"ArrayOfArrays", [](GgufBytes* f) { AddPair(f, GgufArrayPair("k", GgufType::kArray, 1, "")); }, kUnsupported,
     "array of arrays"},
    {"ArrayOfNoArrays", [](GgufBytes* f) { AddPair(f, GgufArrayPair("k", GgufType::kArray, 0, "")); }, kUnsupported,
     "array of arrays"},
    {"ArrayU8Max", [](GgufBytes* f) { SetLast(f, GgufArrayPair("k", GgufType::kUint8, UINT64_MAX, "")); }, kCorrupt,
     "array: expected 18446744073709551615 bytes"},
    {"ArrayU16WrapsTo0", [](GgufBytes* f) { SetLast(f, GgufArrayPair("k", GgufType::kUint16, k2To63, "")); }, kCorrupt,
     "array: expected"},
    {"ArrayF32WrapsTo4", [](GgufBytes* f) { SetLast(f, GgufArrayPair("k", GgufType::kFloat32, k2To62 + 1, "1234")); },
     kCorrupt, "array: expected"},
    {"ArrayU64WrapsTo8",
     [](GgufBytes* f) { SetLast(f, GgufArrayPair("k", GgufType::kUint64, k2To61 + 1, "12345678")); }, kCorrupt,
     "array: expected"},
    {"ArrayPastEnd",
     [](GgufBytes* f) {
       *f = {};
       AddPair(f, GgufArrayPair("key", GgufType::kInt8, 4, "abc"));
     },
     kCorrupt, "array: expected 4 bytes"},
    {"Strings2To60", [](GgufBytes* f) { SetLast(f, GgufArrayPair("k", GgufType::kString, k2To61 >> 1, "")); }, kCorrupt,
     "key k: expected strings to fit"},
    {"StringsMax", [](GgufBytes* f) { SetLast(f, GgufArrayPair("k", GgufType::kString, UINT64_MAX, "")); }, kCorrupt,
     "key k: expected strings to fit"},
    {"StringsOneTooMany",
     [](GgufBytes* f) {
       *f = {};
       AddPair(f, GgufArrayPair("key", GgufType::kString, 2, GgufString("a")));
     },
     kCorrupt, "strings to fit the 9 bytes left, found 2"},
    {"StringsLengthMax", [](GgufBytes* f) { SetLast(f, GgufArrayPair("k", GgufType::kString, 1, Raw(UINT64_MAX))); },
     kCorrupt, "array string: expected"},
    {"Alignment0", [](GgufBytes* f) { SetAlignment(f, 0); }, kCorrupt, "found 0"},
    {"Alignment1", [](GgufBytes* f) { SetAlignment(f, 1); }, kCorrupt, "found 1"},
    {"Alignment4", [](GgufBytes* f) { SetAlignment(f, 4); }, kCorrupt, "power of two from 8"},
    {"Alignment13", [](GgufBytes* f) { SetAlignment(f, 13); }, kCorrupt, "found 13"},
    {"Alignment48", [](GgufBytes* f) { SetAlignment(f, 48); }, kCorrupt, "found 48"},
    {"Alignment2MiB", [](GgufBytes* f) { SetAlignment(f, 1U << 21); }, kCorrupt, "found 2097152"},
    {"Alignment2To31", [](GgufBytes* f) { SetAlignment(f, 1U << 31); }, kCorrupt, "found 2147483648"},
    {"AlignmentU64",
     [](GgufBytes* f) { AddPair(f, GgufPair("general.alignment", GgufType::kUint64, Raw<uint64_t>(32))); }, kCorrupt,
     "general.alignment: expected a u32, found u64"},
    {"AlignmentI32",
     [](GgufBytes* f) { AddPair(f, GgufPair("general.alignment", GgufType::kInt32, Raw<int32_t>(32))); }, kCorrupt,
     "expected a u32, found i32"},
    {"AlignmentString",
     [](GgufBytes* f) { AddPair(f, GgufPair("general.alignment", GgufType::kString, GgufString("32"))); }, kCorrupt,
     "expected a u32, found string"},
    {"AlignmentArray",
     [](GgufBytes* f) { AddPair(f, GgufArrayPair("general.alignment", GgufType::kUint32, 1, Raw<uint32_t>(32))); },
     kCorrupt, "expected a u32, found array"},
    {"AlignmentOther", [](GgufBytes* f) { SetAlignment(f, 64); }, kCorrupt, "tensor b"},
};

const BadFile kTensors[] = {
    {"NameEmpty", [](GgufBytes* f) { f->tensors[0].name = ""; }, kCorrupt, "tensor 0: expected a name"},
    {"NameTooLong", [](GgufBytes* f) { f->tensors[1].name = std::string(1025, 'n'); }, kCorrupt, "found 1025 bytes"},
    {"NameControl", [](GgufBytes* f) { f->tensors[1].name = "b\n"; }, kCorrupt, "tensor 1: expected a name"},
    {"NameLengthMax", [](GgufBytes* f) { f->tensors[1].name_length = UINT64_MAX; }, kCorrupt, "tensor name: expected"},
    {"NameLengthPastEnd", [](GgufBytes* f) { f->tensors[0].name_length = 100000; }, kCorrupt,
     "tensor name: expected 100000 bytes"},
    {"NameTwice", [](GgufBytes* f) { f->tensors[2].name = "a"; }, kCorrupt, "tensor a: expected it once"},
    {"Rank0", [](GgufBytes* f) { f->tensors[0].dims = {}; }, kCorrupt, "1 to 4 dimensions, found 0"},
    {"Rank5",
     [](GgufBytes* f) {
       f->tensors[0].dims = {2, 2, 2, 1, 1};
     },
     kCorrupt, "1 to 4 dimensions, found 5"},
    {"RankMax", [](GgufBytes* f) { f->tensors[0].rank = UINT32_MAX; }, kCorrupt, "1 to 4 dimensions, found 4294967295"},
    {"RankTooFew", [](GgufBytes* f) { f->tensors[0].rank = 1; }, kCorrupt, "tensor"},
    {"Dim0",
     [](GgufBytes* f) {
       f->tensors[0].dims = {4, 0};
     },
     kCorrupt, "found 0 at 1"},
    {"DimFirst0",
     [](GgufBytes* f) {
       f->tensors[0].dims = {0, 2};
     },
     kCorrupt, "found 0 at 0"},
    {"Dim2To63", [](GgufBytes* f) { f->tensors[0].dims = {k2To63}; }, kCorrupt, "whose product fits"},
    {"DimMax", [](GgufBytes* f) { f->tensors[0].dims = {UINT64_MAX}; }, kCorrupt, "whose product fits"},
    {"Product2To63",
     [](GgufBytes* f) {
       f->tensors[0].dims = {k2To31, k2To32};
     },
     kCorrupt, "whose product fits"},
    {"Product2To64WrapsTo0",
     [](GgufBytes* f) {
       f->tensors[0].dims = {k2To32, k2To32};
     },
     kCorrupt, "whose product fits"},
    {"ProductWrapsTo8",
     [](GgufBytes* f) {
       f->tensors[0].dims = {8, k2To61 + 1};
     },
     kCorrupt, "whose product fits"},
    {"ProductOf4WrapsTo0",
     [](GgufBytes* f) {
       f->tensors[0].dims = {1 << 16, 1 << 16, 1 << 16, 1 << 16};
     },
     kCorrupt, "found 65536 at 3"},
    // Elements fit 63 bits, bytes do not fit 64.
    {"F32BytesWrapTo0", [](GgufBytes* f) { f->tensors[0].dims = {k2To62}; }, kCorrupt, "tensor a"},
    {"F32BytesWrapTo32", [](GgufBytes* f) { f->tensors[0].dims = {k2To62 + 8}; }, kCorrupt, "tensor a"},
    {"F32BytesMax", [](GgufBytes* f) { f->tensors[0].dims = {k2To62 - 1}; }, kCorrupt, "tensor a"},
    {"F16Bytes2To63", [](GgufBytes* f) { f->tensors[2].dims = {k2To62}; }, kCorrupt, "tensor c"},
    {"Q8BytesWrap",
     [](GgufBytes* f) {
       f->tensors[1].type = 8;
       f->tensors[1].dims = {k2To63 - 32};
     },
     kCorrupt, "tensor b"},
    {"Q4Product2To31", [](GgufBytes* f) { f->tensors[1].dims = {k2To31}; }, kCorrupt,
     "tensor b: expected 1207959552 bytes"},
    {"Q4Product2To32",
     [](GgufBytes* f) {
       f->tensors[1].dims = {k2To31, 2};
     },
     kCorrupt, "tensor b: expected 2415919104"},
    {"Q6KProductHuge",
     [](GgufBytes* f) {
       f->tensors[1].type = 14;
       f->tensors[1].dims = {k2To63 - 256};
     },
     kCorrupt, "tensor b"},
    {"SumOfTwoHugeTensors",
     [](GgufBytes* f) {
       f->tensors[0].dims = f->tensors[1].dims = {k2To61 - 16};
       f->tensors[1].type = 0;
       f->tensors[1].offset = k2To63 - 64;
     },
     kCorrupt, "tensor a: expected 9223372036854775744 bytes"},
    {"PaddingWraps", [](GgufBytes* f) { f->tensors[2].dims = {k2To63 - 2}; }, kCorrupt, "tensor c"},
    {"Q4HalfABlock", [](GgufBytes* f) { f->tensors[1].dims = {16}; }, kCorrupt, "whole Q4_0 blocks of 32"},
    {"Q4RowsOfHalfABlock",
     [](GgufBytes* f) {
       f->tensors[1].dims = {16, 2};
     },
     kCorrupt, "whole Q4_0 blocks of 32"},
    {"Q4KRowsOf32",
     [](GgufBytes* f) {
       f->tensors[1].type = 12;
       f->tensors[1].dims = {32, 8};
     },
     kCorrupt, "whole Q4_K blocks of 256"},
    {"TypeMinus1", [](GgufBytes* f) { f->tensors[0].type = UINT32_MAX; }, kUnsupported, "found type 4294967295"},
    {"TypeRemoved", [](GgufBytes* f) { f->tensors[0].type = 4; }, kUnsupported, "found type 4;"},
    {"TypeF64", [](GgufBytes* f) { f->tensors[0].type = 28; }, kUnsupported, "found type 28"},
    {"TypeUnknown", [](GgufBytes* f) { f->tensors[0].type = 1000; }, kUnsupported, "found type 1000"},
    {"Type2To31", [](GgufBytes* f) { f->tensors[0].type = 0x80000000U; }, kUnsupported, "found type 2147483648"},
    {"OffsetMisaligned", [](GgufBytes* f) { f->tensors[1].offset = 33; }, kCorrupt, "aligned to 32"},
    {"OffsetMisalignedBy16", [](GgufBytes* f) { f->tensors[1].offset = 48; }, kCorrupt, "aligned to 32"},
    {"OffsetPastEnd", [](GgufBytes* f) { f->tensors[2].offset = 4096; }, kCorrupt, "found offset 4096"},
    {"OffsetWraps", [](GgufBytes* f) { f->tensors[0].offset = UINT64_MAX - 31; }, kCorrupt,
     "found offset 18446744073709551584"},
    {"Offset2To63", [](GgufBytes* f) { f->tensors[0].offset = k2To63; }, kCorrupt, "found offset 9223372036854775808"},
    {"OverlapWhole", [](GgufBytes* f) { f->tensors[1].offset = 0; }, kCorrupt, "overlapping"},
    {"OverlapPart", [](GgufBytes* f) { f->tensors[0].dims = {9}; }, kCorrupt, "overlapping"},
    {"HoleBetween",
     [](GgufBytes* f) {
       f->tensors[2].offset = 96;
       f->data.resize(102);
     },
     kCorrupt, "no hole"},
    {"HoleAtBegin", [](GgufBytes* f) { f->tensors.erase(f->tensors.begin()); }, kCorrupt, "no hole"},
    {"SmallerThanItsPlace", [](GgufBytes* f) { f->tensors.erase(f->tensors.begin() + 1); }, kCorrupt, "no hole"},
    {"DataCutBy1", Nothing, kCorrupt, "tensor c", [](std::string* b) { b->pop_back(); }},
    {"DataMissing", [](GgufBytes* f) { f->data.clear(); }, kCorrupt, "inside the 0 bytes of data"},
    {"OneElementMore", [](GgufBytes* f) { f->tensors[2].dims = {4}; }, kCorrupt, "tensor c: expected 8 bytes"},
};

class GgufBadFile : public ::testing::TestWithParam<BadFile> {};

TEST_P(GgufBadFile, EndsInItsError) {
  const BadFile& row = GetParam();
  for (const uint32_t version : {3, 2}) {
    GgufBytes file = GgufBytes::Valid();
    file.version = version;
    row.damage(&file);
    std::string bytes = file.Build();
    if (row.damage_bytes != nullptr) row.damage_bytes(&bytes);

    const AllocationMeter meter;
    ExpectError([&] { GgufFile::Parse(AsBytes(bytes), "memory"); }, row.code, row.words);
    // Tables cost a few times what they describe, the message the rest.
    EXPECT_LE(meter.PeakBytes(), 20 * bytes.size() + 16384);

    const TempDirectory directory;
    const std::string path = directory.Write("bad.gguf", bytes);
    ExpectError([&] { GgufFile::Open(path); }, row.code, row.words);
    ExpectError([&] { GgufFile::Open(path); }, row.code, "[" + path + "]");
  }
}

std::string NameOf(const ::testing::TestParamInfo<BadFile>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Header, GgufBadFile, ::testing::ValuesIn(kHeader), NameOf);
INSTANTIATE_TEST_SUITE_P(Values, GgufBadFile, ::testing::ValuesIn(kValues), NameOf);
INSTANTIATE_TEST_SUITE_P(Tensors, GgufBadFile, ::testing::ValuesIn(kTensors), NameOf);

// Counts that fit a file of 1 GiB, which is all zeros and so fails at its first entry: no table may be made for them.
TEST(GgufBadFiles, CountsReserveNothingMuch) {
  constexpr uint64_t kFileBytes = uint64_t{1} << 30;
  GgufBytes values;
  values.num_values = kFileBytes / 16;
  GgufBytes tensors;
  tensors.num_tensors = kFileBytes / 64;
  GgufBytes strings;
  strings.values = {GgufArrayPair("k", GgufType::kString, kFileBytes / 16, Raw(UINT64_MAX))};
  for (const GgufBytes* file : {&values, &tensors, &strings}) {
    const TempDirectory directory;
    const std::string path = directory.Write("sparse.gguf", file->Build());
    std::filesystem::resize_file(path, kFileBytes);
    const AllocationMeter meter;
    ExpectError([&] { GgufFile::Open(path); }, kCorrupt, "[" + path + "]");
    EXPECT_LE(meter.PeakBytes(), size_t{16} << 20);
  }
}

// The table proves nothing if the file it damages is bad already.
TEST(GgufBadFiles, TheUndamagedFileLoads) {
  const std::string bytes = GgufBytes::Valid().Build();
  EXPECT_EQ(GgufFile::Parse(AsBytes(bytes), "memory")->tensors().size(), 3U);
}

}  // namespace
}  // namespace gateskip::testing
