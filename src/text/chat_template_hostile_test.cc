// SPDX-License-Identifier: Apache-2.0
// Chat templates that mean harm, or are wrong: each ends in an Error, in little time and memory. Time is not measured;
// a loop that escapes its budget runs into the time limit of the test.
#include <gtest/gtest.h>

#include "io/testing/allocation_meter.h"
#include "io/testing/expect_error.h"
#include "text/chat_template.h"

namespace gateskip::testing {
namespace {

constexpr ErrorCode kSyntax = ErrorCode::kCorruptData;
constexpr ErrorCode kLimit = ErrorCode::kLimitExceeded;
constexpr ErrorCode kRefused = ErrorCode::kInvalidArgument;
constexpr ErrorCode kOutside = ErrorCode::kUnsupported;

// The step budget stands for 80 MB of text or 5 million list items of 24 bytes; vectors grow by doubling.
constexpr size_t kMaxHeapBytes = size_t{512} << 20;

std::string Repeat(std::string_view text, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

void RenderOnce(const std::string& source) {
  ChatTemplate(source).Render({{"user", "hi"}, {"assistant", "ho"}}, true, "<s>", "</s>", R"({"d":{"k":[1,[2]]}})");
}

void ExpectHostile(const std::string& source, ErrorCode code, std::string_view words = "[") {
  SCOPED_TRACE(source.substr(0, 200));
  const AllocationMeter meter;
  ExpectError([&] { RenderOnce(source); }, code, words);
  EXPECT_LT(meter.PeakBytes(), kMaxHeapBytes);
}

TEST(HostileTemplate, LoopsEnd) {
  ExpectHostile("{% for i in range(1000000000) %}{% endfor %}", kLimit, "range");
  ExpectHostile("{% for i in range(-9223372036854775807, 9223372036854775807, 3) %}{% endfor %}", kLimit, "range");
  ExpectHostile("{% for i in range(9, 9223372036854775807, 9223372036854775800) %}{{ 1 // 0 }}{% endfor %}", kRefused);
  const std::string loop = "{% for i in range(100000) %}";
  ExpectHostile(Repeat(loop, 3) + Repeat("{% endfor %}", 3), kLimit, "step limit");
  ExpectHostile(Repeat(loop, 3) + "{{ 'x' }}" + Repeat("{% endfor %}", 3), kLimit);
  ExpectHostile(loop + loop + "{% set ns = namespace(a=1) %}" + Repeat("{% endfor %}", 2), kLimit);
  ExpectHostile(loop + loop + "{% if d.k is defined and i in range(99) %}{% endif %}" + Repeat("{% endfor %}", 2),
                kLimit);
  ExpectHostile(loop + "{% for c in 'x' * 100000 %}{% endfor %}{% endfor %}", kLimit);
  ExpectHostile(loop + "{% for j in range(100000) if false %}{% endfor %}{% endfor %}", kLimit);
  ExpectHostile("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", kLimit, "levels");
  ExpectHostile("{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}", kLimit,
                "levels");
  ExpectHostile("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(18) }}", kLimit);
}

TEST(HostileTemplate, TextsStaySmall) {
  ExpectHostile("{{ 'a' * 10**9 }}", kLimit, "bytes");
  ExpectHostile("{{ 'a' * 9223372036854775807 }}", kLimit, "bytes");
  ExpectHostile("{{ 'ab' * 9223372036854775807 }}", kLimit, "bytes");
  ExpectHostile("{{ [0] * 10**9 }}", kLimit);
  ExpectHostile("{{ [0, 1] * 9223372036854775807 }}", kLimit);
  ExpectHostile("{{ ('' * 10**18) ~ ([] * 10**18) ~ 1 // 0 }}", kRefused);
  const std::string loop = "{% for i in range(60) %}";
  const std::string space = "{% set ns = namespace(s='ab', l=[1], d={}) %}";
  ExpectHostile(space + loop + "{% set ns.s = ns.s + ns.s %}{% endfor %}", kLimit, "bytes");
  ExpectHostile(space + loop + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}", kLimit, "bytes");
  ExpectHostile(space + loop + "{% set ns.s = ns.s | replace('a', 'aa') %}{% endfor %}", kLimit);
  ExpectHostile(space + loop + "{% set ns.s = [ns.s, ns.s] | join(ns.s) %}{% endfor %}", kLimit);
  ExpectHostile(space + loop + "{% set ns.s = ns.s | tojson %}{% set ns.s = ns.s | tojson %}{% endfor %}", kLimit);
  ExpectHostile(space + loop + "{% set ns.l = ns.l + ns.l %}{% endfor %}", kLimit);
  ExpectHostile(space + loop + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}", kLimit);
  ExpectHostile(space + "{% for i in range(50) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l == ns.l }}", kLimit);
  ExpectHostile(space + "{% for i in range(50) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | tojson }}", kLimit);
  ExpectHostile(space + "{% set ns.l = ('y',) %}{% for i in range(50) %}{% set ns.l = (ns.l, ns.l) %}{% endfor %}" +
                    "{{ 'x'.startswith(ns.l) }}",
                kLimit);
  ExpectHostile(space + "{% for i in range(99) %}{% set ns.d = {'a': ns.d} %}{% endfor %}", kLimit, "levels");
  ExpectHostile("{% for i in range(100000) %}" + std::string(100'000, 'x') + "{% endfor %}", kLimit, "bytes");
  ExpectHostile("{% set x %}{% for i in range(100000) %}{{ 'x' * 100000 }}{% endfor %}{% endset %}", kLimit, "bytes");
  ExpectHostile("{{ ('a\n' * 4000000) | indent(1000) }}", kLimit);
  ExpectHostile("{{ ('a,' * 8000000).split(',') | length }}", kLimit);
  ExpectHostile("{{ ('a,' * 2000000).split(',') | length }}", kLimit);
  ExpectHostile("{{ ('a' * 8000000) | list | length }}", kLimit);
  ExpectHostile("{{ ('a' * 16000000) | title | title | title | title | length }}", kLimit);
  ExpectHostile("{% for i in range(100000) %}{{ ('a' * 16000000).strip('a' * 250) }}{% endfor %}", kLimit);
}

// What the library searches in the product of both lengths.
TEST(HostileTemplate, SearchesAreLinear) {
  const std::string texts = "{% set a = 'a' * 4000000 %}{% set b = 'a' * 1000000 ~ 'b' ~ 'a' * 1000000 %}";
  for (const char* search : {"b in a", "a.find(b)", "a.rfind(b)", "a.count(b)", "a.split(b) | length",
                             "a.rsplit(b) | length", "a.replace(b, 'c') | length", "a | replace(b, 'c') | length"}) {
    const std::string once = texts + "{{ " + search + " }}";
    const AllocationMeter meter;
    ChatTemplate(once).Render({}, true, "", "");
    EXPECT_LT(meter.PeakBytes(), kMaxHeapBytes) << search;
    ExpectHostile(texts + "{% for i in range(100000) %}{{ " + search + " }}{% endfor %}", kLimit, "step limit");
  }
}

TEST(HostileTemplate, ManyNamesAreNoShortCut) {
  std::string sets;
  std::string attributes = "{% set ns = namespace() %}";
  for (int i = 0; i < 12'000; ++i) {
    sets += "{% set a" + std::to_string(i) + " = 1 %}";
    attributes += "{% set ns.a" + std::to_string(i) + " = 1 %}";
  }
  const std::string loops = "{% for i in range(100000) %}{% for j in range(100) %}";
  ExpectHostile(sets + loops + "{{ a0 }}{{ nothing }}{% set b = 1 %}{% endfor %}{% endfor %}", kLimit, "step limit");
  ExpectHostile(attributes + loops + "{{ ns.a11999 }}{% endfor %}{% endfor %}", kLimit, "step limit");
  std::string dict = "{% set d = {";
  for (int i = 0; i < 20'000; ++i) dict += "'k" + std::to_string(i) + "':1,";
  ExpectHostile(dict + "} %}", kLimit, "step limit");
}

// Chains of values that keep each other alive must not be destroyed by recursion as deep as they are long.
TEST(HostileTemplate, NoDeepChainsOfValues) {
  const std::string begin = "{% set ns = namespace(v=[], w='') %}{% for i in range(100000) %}";
  ExpectHostile(begin + "{% set ns.v = [ns.v] %}{% endfor %}", kLimit, "levels");
  ExpectHostile(begin + "{% set ns.v = {1: ns.v} %}{% endfor %}", kLimit, "levels");
  ExpectHostile(begin + "{% set ns.v = [ns.v.index] %}{% endfor %}", kLimit, "levels");
  ExpectHostile(begin + "{% set ns.v = {1: ns.v.get} %}{% endfor %}", kLimit, "levels");
  ExpectHostile(begin + "{% for x in [ns.v] %}{% set ns.v = loop %}{% endfor %}{% endfor %}", kLimit, "levels");
  ExpectHostile(begin + "{% for x in [ns.v] %}{% set ns.v = loop.cycle %}{% endfor %}{% endfor %}", kLimit, "levels");
  // Namespaces may hold each other, in chains and in circles.
  ExpectHostile(begin + "{% set ns.v = namespace(v=ns.v, me=ns) %}{% endfor %}{{ 1 // 0 }}", kRefused, "divisor");
  ExpectHostile("{% set ns = namespace() %}{% set ns.ns = [ns] %}{{ ns.ns }}{{ ns.ns == ns.ns }}{{ 1 // 0 }}", kRefused,
                "divisor");
}

TEST(HostileTemplate, NestingEnds) {
  for (const size_t depth : {size_t{100}, size_t{30'000}}) {
    ExpectHostile("{{ " + std::string(depth, '(') + "1" + std::string(depth, ')') + " }}", kLimit, "nested");
    ExpectHostile("{{ " + std::string(depth, '[') + std::string(depth, ']') + " }}", kLimit, "nested");
    ExpectHostile("{{ " + Repeat("{1:", depth) + "1" + Repeat("}", depth) + " }}", kLimit, "nested");
    ExpectHostile("{{ " + Repeat("a(", depth) + Repeat(")", depth) + " }}", kLimit, "nested");
    ExpectHostile("{{ " + Repeat("a[", depth) + "1" + Repeat("]", depth) + " }}", kLimit, "nested");
    ExpectHostile("{{ " + Repeat("-", depth) + "1 }}", kLimit, "nested");
    ExpectHostile("{{ " + Repeat("1 if 1 else ", depth) + "1 }}", kLimit, "nested");
    ExpectHostile("{{ x" + Repeat("|d(x", depth) + Repeat(")", depth) + " }}", kLimit, "nested");
  }
  ExpectHostile(Repeat("{% if 1 %}", 20'000) + Repeat("{% endif %}", 20'000), kLimit, "nested");
  ExpectHostile(Repeat("{% for a in b %}", 10'000) + Repeat("{% endfor %}", 10'000), kLimit, "nested");
  ExpectHostile(Repeat("{% macro m() %}", 10'000), kLimit, "nested");
  ExpectHostile(Repeat("{% set x %}", 10'000), kLimit, "nested");
  ExpectHostile(Repeat("{% generation %}", 10'000), kLimit, "nested");
  ExpectHostile(
      "{% set ns = namespace(l=[]) %}{% for i in range(63) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l | map(" +
          Repeat("'map',", 66) + "'list') | list }}",
      kLimit, "levels");
  // Long, but not deep.
  RenderOnce("{{ 1" + Repeat(" + 1", 50'000) + " }}");
  RenderOnce("{{ " + Repeat("not ", 50'000) + "1 }}{{ 'a'" + Repeat("|trim", 20'000) + " }}{{ 1" +
             Repeat(" is eq a", 20'000) + " }}");
  RenderOnce("{% if 0 %}" + Repeat("{% elif 0 %}", 20'000) + "{% endif %}" + Repeat("{# x #}", 20'000));
}

TEST(HostileTemplate, SizeIsBounded) {
  ExpectHostile(std::string((size_t{1} << 19) + 1, 'x'), kLimit, "size");
  const AllocationMeter meter;
  for (const std::string_view unit : {"x", "{{1}}", "{{[]}}", "{%set a=1%}", "{#x#}", "\n"}) {
    RenderOnce(Repeat(unit, (size_t{1} << 19) / unit.size()));
  }
  RenderOnce("{{ [" + Repeat("1,", size_t{1} << 17) + "] | length }}");
  RenderOnce("{{ 'a'" + Repeat("[0]", size_t{1} << 17) + " }}");
  EXPECT_LT(meter.PeakBytes(), kMaxHeapBytes);
}

TEST(HostileTemplate, NothingBeyondTheData) {
  for (const char* reach :
       {"''.__class__", "''.__class__.__mro__[1].__subclasses__()", "messages.__class__", "d['__class__']",
        "d.k.__init__", "range.__globals__", "namespace.__init__", "''['__class__']", "loop.__class__",
        "[1] | map(attribute='__class__') | list", "[d] | map(attribute='k.__class__') | list",
        "[d] | selectattr('__class__') | list", "[d] | sort(attribute='__class__')", "1.__class__"}) {
    SCOPED_TRACE(reach);
    try {
      RenderOnce("{{ " + std::string(reach) + " }}");
      ADD_FAILURE() << "expected a refusal";
    } catch (const Error& error) {
      EXPECT_TRUE(error.code() == kRefused || error.code() == kSyntax) << error.what();
    }
  }
  for (const char* name :
       {"open", "eval", "exec", "self", "cycler", "joiner", "lipsum", "__import__", "os", "request"}) {
    ExpectHostile("{{ " + std::string(name) + "('x') }}", kRefused, "call");
  }
  for (const char* change :
       {"messages.append(1)", "d.update({})", "d.pop('k')", "d.k.clear()", "d.k.sort()", "'{0.__class__}'.format(1)",
        "'{}'.format_map(d)", "'x'.encode()", "d.setdefault('a', 1)"}) {
    ExpectHostile("{{ " + std::string(change) + " }}", kOutside, "only reads");
  }
  for (const char* statement :
       {"include 'x'", "import 'x' as y", "from 'x' import y", "extends 'x'", "block b", "filter upper", "with x = 1",
        "call f()", "autoescape false", "do x", "trans", "debug"}) {
    ExpectHostile("{% " + std::string(statement) + " %}", kOutside, "expected if, for, set or macro");
  }
  ExpectHostile("{{ 1 | attr('x') }}", kOutside, "filter");
  ExpectHostile("{{ 1 is filter('x') }}", kOutside, "test");
  ExpectHostile("{{ f(*x) }}", kOutside, "unpacking");
  ExpectHostile("{{ f(**x) }}", kOutside, "unpacking");
  ExpectHostile("{% for x in y recursive %}{% endfor %}", kOutside, "recursive");
}

TEST(MalformedTemplate, SaysWhere) {
  const auto expect = [](const std::string& source, std::string_view words) { ExpectHostile(source, kSyntax, words); };
  expect("{{", "line 1, column 3: expected }}");
  expect("a\nb {{ x", "line 2, column 7: expected }}");
  expect("{% if x", "expected %}");
  expect("\n\n{# never", "line 3, column 3: expected #}");
  expect("{% raw %}{{ x", "expected {% endraw %}");
  expect("{{ 'abc", "expected the end of the string");
  expect("{{ 'abc\\", "expected the end of the string");
  expect("{{ '\\x4", "hexadecimal");
  expect("{{ '\\ud800' }}", "a Unicode character");
  expect("{{ '\\U00110000' }}", "a Unicode character");
  expect("{{ x ", "expected }}");
  expect("{{ }}", "line 1, column 4: expected an expression, found }}");
  expect("{{ 1 + }}", "expected an expression");
  expect("{{ 1 2 }}", "line 1, column 6: expected }}, found 2");
  expect("{{ (1 }}", "expected");
  expect("{{ [1) }}", "a matching bracket");
  expect("{{ ) }}", "a matching bracket");
  expect("{{ {1} }}", "expected :");
  expect("{{ {1:} }}", "expected an expression");
  expect("{{ a[] }}", "a subscript");
  expect("{{ a. }}", "an attribute");
  expect("{{ a| }}", "a filter");
  expect("{{ a is }}", "a test");
  expect("{{ a ! b }}", "an unknown character");
  expect("{{ a ? b }}", "an unknown character");
  expect("{{ \xFF\x01 }}", "an unknown character");
  expect("{{ 99999999999999999999 }}", "an integer below 2^63");
  expect("{{ 1e999 }}", "a number that fits");
  expect("{{ f(a=1, 2) }}", "named arguments");
  expect("{% %}", "a statement");
  expect("{% 1 %}", "a statement");
  expect("{% nonsense %}", "found nonsense");
  expect("{% endif %}", "found endif");
  expect("{% if 1 %}", "expected {% endif %}");
  expect("{% if %}{% endif %}", "an expression");
  expect("{% if 1 %}{% else %}{% elif 2 %}{% endif %}", "found elif");
  expect("{% if 1 %}{% endfor %}", "found endfor");
  expect("{% for %}", "a variable name");
  expect("{% for a %}", "expected in");
  expect("{% for a in %}", "an expression");
  expect("{% for a in b %}", "expected {% endfor %}");
  expect("{% for loop in b %}{% endfor %}", "not reserved");
  expect("{% for a in b %}{% endfor x %}", "expected %}");
  expect("{% set %}", "a variable name");
  expect("{% set true = 1 %}", "not reserved");
  expect("{% set a.b %}", "expected =");
  expect("{% set a, b %}{% endset %}", "expected =");
  expect("{% set x %}", "expected {% endset %}");
  expect("{% macro %}", "the name of the macro");
  expect("{% macro m %}", "expected (");
  expect("{% macro m(a=1, b) %}{% endmacro %}", "a default for every");
  expect("{% break %}", "inside a loop");
  expect("{% for a in b %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}", "inside a loop");
  expect("{{ " + std::string(100'000, 'x'), "expected }}");
  expect("{{ 1 " + std::string(100'000, 'x') + " }}", "found xxx");
}

TEST(HostileTemplate, CallersLimitsHold) {
  const ChatTemplate shown("{% for m in messages %}{{ m.content }}{% endfor %}");
  const std::vector<ChatMessage> messages(100, {"user", std::string(1000, 'x')});
  TemplateLimits limits;
  EXPECT_EQ(shown.Render(messages, true, "", "", "{}", limits).size(), 100'000U);
  limits.max_output_bytes = 99'999;
  ExpectError([&] { shown.Render(messages, true, "", "", "{}", limits); }, kLimit, "99999 bytes");
  limits = {};
  limits.max_steps = 500;
  ExpectError([&] { shown.Render(messages, true, "", "", "{}", limits); }, kLimit, "step limit");
  limits = {};
  limits.max_depth = 1;
  ExpectError([&] { shown.Render(messages, true, "", "", "{}", limits); }, kLimit, "levels");
  // A long conversation is no attack.
  const std::vector<ChatMessage> talk(2000, {"user", std::string(2000, 'x')});
  EXPECT_EQ(shown.Render(talk, true, "", "").size(), 4'000'000U);
}

}  // namespace
}  // namespace gateskip::testing
