// SPDX-License-Identifier: Apache-2.0
// JSON from outside: what the parser refuses, in what words, and the typed getters.
#include "io/json.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>

#include "io/testing/expect_error.h"

namespace gateskip::testing {
namespace {

constexpr ErrorCode kCorrupt = ErrorCode::kCorruptData;
constexpr ErrorCode kLimit = ErrorCode::kLimitExceeded;

std::string Repeat(std::string_view text, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

TEST(Json, ParsesWhatIsJson) {
  const auto json = ParseJson(R"( {"a":[1,-2,0.5,true,null,"\u00e9\ud83d\ude00"],"b":{}} )", "x");
  EXPECT_EQ(json["a"][1], -2);
  EXPECT_EQ(json["a"][5], "\xC3\xA9\xF0\x9F\x98\x80");
  EXPECT_EQ(ParseJson("7", "x"), 7);
  EXPECT_EQ(ParseJson(R"("\u0000")", "x").get<std::string>(), std::string(1, '\0'));
}

TEST(Json, RefusesWhatIsNot) {
  const std::string_view texts[] = {
      "",
      " ",
      "{",
      "}",
      "[1,]",
      "{\"a\":1,}",
      "{a:1}",
      "{'a':1}",
      "nul",
      "NaN",
      "Infinity",
      "-Infinity",
      "+1",
      "01",
      ".5",
      "1.",
      "1e",
      "0x10",
      "1 2",
      "{} {}",
      "\"",
      "\"\\x\"",
      "\"\n\"",
      "\"\\ud800\"",
      "\"\\udc00\\ud800\"",
      "\"\xff\"",
      "\"\xed\xa0\x80\"",
      "\"\xc0\x80\"",
      "\"\xf5\x80\x80\x80\"",
      "[1] // no",
      "/* */ 1",
      "1e999",
      "-1e999",
      std::string_view("{}\0", 3),
      std::string_view("\0{}", 3),
      std::string_view("{}\0[", 4),
  };
  for (const std::string_view text : texts) {
    SCOPED_TRACE(text);
    ExpectError([&] { ParseJson(text, "file.json"); }, kCorrupt, "[file.json] JSON");
  }
}

TEST(Json, RefusesDuplicateKeysAtEveryLevel) {
  for (const char* text : {R"({"a":1,"a":2})", R"({"a":1,"\u0061":2})", R"([{"x":{"a":1,"b":2,"a":1}}])"}) {
    ExpectError([&] { ParseJson(text, "f"); }, kCorrupt, "key a: expected it once");
  }
  EXPECT_NO_THROW(ParseJson(R"([{"a":1},{"a":{"a":1}}])", "f")) << "the same key in other objects is fine";
}

TEST(Json, CountsLevelsExactly) {
  EXPECT_NO_THROW(ParseJson("[[[]]]", "f", 3));
  EXPECT_NO_THROW(ParseJson("[[[1]]]", "f", 3));
  EXPECT_NO_THROW(ParseJson(R"({"a":{"a":{"a":1}}})", "f", 3));
  ExpectError([] { ParseJson("[[[[]]]]", "f", 3); }, kLimit, "at most 3 levels");
  ExpectError([] { ParseJson(R"({"a":{"a":{"a":{}}}})", "f", 3); }, kLimit, "at most 3 levels");
  EXPECT_NO_THROW(ParseJson(Repeat("[", 64) + Repeat("]", 64), "f"));
  ExpectError([] { ParseJson(Repeat("[", 65) + Repeat("]", 65), "f"); }, kLimit, "at most 64 levels");
}

TEST(Json, AMillionBracketsAreRefused) {
  ExpectError([] { ParseJson(Repeat("[", 1000000), "f"); }, kLimit, "levels");
  ExpectError([] { ParseJson(Repeat("{\"a\":", 1000000), "f"); }, kLimit, "levels");
  ExpectError([] { ParseJson("[" + Repeat("[],", 1000), "f"); }, kCorrupt, "JSON");
}

TEST(Json, CountsItems) {
  EXPECT_NO_THROW(ParseJson("[1,2,3]", "f", 64, 10));
  ExpectError([] { ParseJson("[" + Repeat("1,", 20) + "1]", "f", 64, 10); }, kLimit, "at most 10 keys and values");
}

TEST(Json, MessagesStayShort) {
  const std::string text = Repeat("x", 1000000);
  ExpectError([&] { ParseJson("\"" + text, "f"); }, kCorrupt, "JSON");
  ExpectError([&] { ParseJson("{\"" + text + "\":1,\"" + text + "\":1}", "f"); }, kCorrupt, "twice");
  const auto object = ParseJson("{\"a\":\"" + text + "\"}", "f");
  ExpectError([&] { GetInt(object, "a", "f"); }, kCorrupt, "expected an integer");
}

// Servers put messages into JSON.
TEST(Json, MessagesAreUtf8) {
  const auto expect = [](const std::function<void()>& run, std::string_view words) {
    try {
      run();
      ADD_FAILURE() << "nothing thrown";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), kCorrupt);
      EXPECT_NO_THROW(nlohmann::json(error.what()).dump());
      EXPECT_NE(std::string_view(error.what()).find(words), std::string_view::npos) << error.what();
    }
  };
  expect([] { ParseJson("{\"a\xFF\":1}", "f"); }, "last read");
  expect([] { ParseJson("\"\xE4\xB8", "f"); }, "last read");
  const std::string key = "a" + Repeat("\u4e2d", 100);  // 200 bytes end within a character
  expect([&] { ParseJson("{\"" + key + "\":1,\"" + key + "\":1}", "f"); }, "key a\u4e2d\u4e2d");
  const auto object = ParseJson("{\"k\":\"" + key + "\"}", "f");
  expect([&] { GetInt(object, "k", "f"); }, "found \"a\u4e2d\u4e2d");
}

TEST(Json, Getters) {
  const auto json = ParseJson(R"({"i":-5,"big":9223372036854775807,"f":0.5,"e":2e3,"b":true,"s":"t","n":null})", "f");
  EXPECT_EQ(GetInt(json, "i", "f"), -5);
  EXPECT_EQ(GetInt(json, "big", "f"), INT64_MAX);
  EXPECT_EQ(GetNumber(json, "f", "f"), 0.5);
  EXPECT_EQ(GetNumber(json, "i", "f"), -5.0);
  EXPECT_EQ(GetNumber(json, "e", "f"), 2000.0);
  EXPECT_TRUE(GetBool(json, "b", "f"));
  EXPECT_EQ(GetString(json, "s", "f"), "t");
  EXPECT_EQ(GetInt(json, "absent", "f", 3), 3);
  EXPECT_EQ(GetInt(json, "n", "f", 3), 3);
  EXPECT_EQ(GetNumber(json, "n", "f", 0.25), 0.25);
  EXPECT_TRUE(GetBool(json, "absent", "f", true));
  EXPECT_EQ(GetString(json, "n", "f", "x"), "x");
}

TEST(Json, GettersRefuseOtherTypes) {
  const auto json = ParseJson(R"({"u":9223372036854775808,"f":1.0,"s":"1","o":{},"b":1,"n":null})", "f");
  ExpectError([&] { GetInt(json, "u", "f"); }, kCorrupt, "key u: expected an integer, found 9223372036854775808");
  ExpectError([&] { GetInt(json, "f", "f"); }, kCorrupt, "expected an integer, found 1.0");
  ExpectError([&] { GetInt(json, "s", "f", 3); }, kCorrupt, "expected an integer, found \"1\"");
  ExpectError([&] { GetInt(json, "o", "f", 3); }, kCorrupt, "found object");
  ExpectError([&] { GetNumber(json, "s", "f"); }, kCorrupt, "a finite number");
  ExpectError([&] { GetBool(json, "b", "f"); }, kCorrupt, "true or false, found 1");
  ExpectError([&] { GetString(json, "b", "f"); }, kCorrupt, "a string, found 1");
  ExpectError([&] { GetString(json, "n", "f"); }, kCorrupt, "found nothing");
  ExpectError([&] { GetString(json, "absent", "f"); }, kCorrupt, "[f] key absent: expected a string, found nothing");
  ExpectError([&] { GetInt(ParseJson("[1]", "f"), "a", "f"); }, kCorrupt, "expected an object, found array");
  const nlohmann::json nan = {{"x", std::numeric_limits<double>::quiet_NaN()}};
  ExpectError([&] { GetNumber(nan, "x", "f"); }, kCorrupt, "a finite number");
}

}  // namespace
}  // namespace gateskip::testing
