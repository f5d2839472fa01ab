// SPDX-License-Identifier: Apache-2.0
// Chat templates against jinja2 (tests/golden/make_templates.py): shapes of public models, and every construct alone.
// What is refused, and hostile templates, are in chat_template_hostile_test.cc.
#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "io/testing/expect_error.h"

namespace gateskip::testing {
namespace {

using Json = nlohmann::ordered_json;  // dicts of templates keep their order

const Json& Goldens() {
  static const Json goldens = [] {
    std::ifstream file(std::string(GATESKIP_TEST_DATA) + "/chat_templates.json");
    return Json::parse(file);
  }();
  return goldens;
}

std::string RenderRow(const Json& row) {
  Json variables = row["variables"];
  std::vector<ChatMessage> messages;
  bool plain = true;
  for (const Json& message : row["messages"]) plain = plain && message.size() == 2 && message["content"].is_string();
  if (plain) {
    for (const Json& message : row["messages"]) messages.push_back({message["role"], message["content"]});
  } else {
    variables["messages"] = row["messages"];
  }
  return ChatTemplate(row["template"].get<std::string>())
      .Render(messages, row["add_generation_prompt"], "<s>", "</s>", variables.dump());
}

TEST(ChatTemplate, TextsEqualThoseOfJinja2) {
  int rendered = 0;
  int refused = 0;
  for (const Json& row : Goldens()) {
    SCOPED_TRACE(row["name"].get<std::string>() + ": " + row["template"].get<std::string>().substr(0, 200));
    if (row.contains("expected")) {
      ++rendered;
      try {
        EXPECT_EQ(RenderRow(row), row["expected"].get<std::string>());
      } catch (const Error& error) {
        ADD_FAILURE() << error.what();
      }
    } else {
      ++refused;
      ExpectError([&] { RenderRow(row); }, ErrorCode::kInvalidArgument, "[chat template]");
    }
  }
  EXPECT_GE(rendered, 140);
  EXPECT_GE(refused, 18);
}

TEST(ChatTemplate, RefusalCarriesTheTemplatesOwnWords) {
  const ChatTemplate refusing("{{ raise_exception('say \xC3\xA9 ' ~ messages[0].content) }}");
  ExpectError([&] { refusing.Render({{"user", "hi"}}, true, "", ""); }, ErrorCode::kInvalidArgument, "say \u00e9 hi");
  // Cut between characters, and never invalid UTF-8: servers put messages into JSON.
  const std::string bad = std::string(499, 'x') + "\u00e9\xFF";
  ExpectError([&] { refusing.Render({{"user", bad}}, true, "", ""); }, ErrorCode::kInvalidArgument, "xxx\"");
  ExpectError([&] { refusing.Render({{"user", "\xFF"}}, true, "", ""); }, ErrorCode::kInvalidArgument, "\uFFFD");
}

TEST(ChatTemplate, RendersTheSameTwiceAndAfterAMove) {
  ChatTemplate first(
      "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}");
  const std::vector<ChatMessage> messages = {{"user", "a"}, {"assistant", "b"}};
  EXPECT_EQ(first.Render(messages, true, "", ""), "2");
  EXPECT_EQ(first.Render(messages, true, "", ""), "2");
  ChatTemplate second = std::move(first);
  EXPECT_EQ(second.Render(messages, true, "", ""), "2");
  ExpectError([&] { first.Render(messages, true, "", ""); }, ErrorCode::kInvalidArgument, "moved");
}

// Texts, dicts and undefined values make the list that a filter walks; it has to outlive the walk.
TEST(ChatTemplate, FiltersOverWhatIsNoList) {
  const auto render = [](const char* source) { return ChatTemplate(source).Render({}, true, "", ""); };
  EXPECT_EQ(render("{{ 'aBab' | unique | join }}"), "aB");
  EXPECT_EQ(render("{{ {'b': 1, 'a': 2} | unique | list }}"), "['b', 'a']");
  EXPECT_EQ(render("{{ {1: 2, 3: 4} | sum }} {{ nothing | sum }} {{ nothing | unique | list }}"), "4 0 []");
  ExpectError([&] { render("{{ 'ab' | sum }}"); }, ErrorCode::kInvalidArgument, "arithmetic");
}

TEST(ChatTemplate, VariablesReplaceWhatIsGiven) {
  const ChatTemplate shown("{{ bos_token }}{{ messages[0].content }}{{ extra }}");
  EXPECT_EQ(shown.Render({{"user", "a"}}, true, "B", ""), "Ba");
  EXPECT_EQ(shown.Render({{"user", "a"}}, true, "B", "", R"({"extra":[1,{"k":null}],"bos_token":"C"})"),
            "Ca[1, {'k': None}]");
  EXPECT_EQ(shown.Render({}, true, "", "", R"({"messages":[{"content":2.5}]})"), "2.5");
}

TEST(ChatTemplate, ClockIsTheCallers) {
  const ChatTemplate dated("{% if strftime_now is defined %}{{ strftime_now('%Y-%m-%d') }}{% else %}none{% endif %}");
  EXPECT_EQ(dated.Render({}, true, "", ""), "none");
  EXPECT_EQ(dated.Render({}, true, "", "", R"({"strftime_now":86400})"), "1970-01-02");
  EXPECT_EQ(dated.Render({}, true, "", "", R"({"strftime_now":"today"})"), "today");
  ExpectError([&] { dated.Render({}, true, "", "", R"({"strftime_now":[]})"); }, ErrorCode::kInvalidArgument,
              "strftime");
  ExpectError([&] { dated.Render({}, true, "", "", R"({"strftime_now":9223372036854775807})"); },
              ErrorCode::kInvalidArgument, "strftime");
}

TEST(ChatTemplate, BadVariablesAreRefused) {
  const ChatTemplate plain("x");
  const auto expect = [&](const std::string& json, ErrorCode code, std::string_view words) {
    ExpectError([&] { plain.Render({}, true, "", "", json); }, code, words);
  };
  expect("", ErrorCode::kInvalidArgument, "JSON");
  expect("[]", ErrorCode::kInvalidArgument, "expected an object");
  expect("{\"a\":}", ErrorCode::kInvalidArgument, "at byte 6");
  expect("{\"a\":\"\xFF\"}", ErrorCode::kInvalidArgument, "at byte");
  expect("{\"a\":18446744073709551615}", ErrorCode::kInvalidArgument, "64 bits");
  expect(std::string(100'000, '['), ErrorCode::kLimitExceeded, "levels");
  expect("{\"a\":" + std::string(40, '[') + std::string(40, ']') + "}", ErrorCode::kLimitExceeded, "levels");
}

}  // namespace
}  // namespace gateskip::testing
