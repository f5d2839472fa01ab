// SPDX-License-Identifier: Apache-2.0
// The methods that templates may call on texts, lists and dicts, after Python 3. Nothing that changes its object
// (append, update, pop), nothing that formats (str.format reaches attributes).
#include <algorithm>
#include <array>

#include "text/template_interpreter.h"
#include "text/utf8.h"
#include "utf8proc.h"

namespace gateskip::jinja {
namespace {

constexpr std::array<std::string_view, 24> kTextMethods = {
    "strip",   "lstrip",  "rstrip",  "split",   "rsplit",  "splitlines",   "startswith",   "endswith",
    "upper",   "lower",   "title",   "replace", "find",    "count",        "capitalize",   "join",
    "isdigit", "isalpha", "isspace", "rfind",   "isupper", "removeprefix", "removesuffix", "islower"};
constexpr std::array<std::string_view, 4> kDictMethods = {"items", "keys", "values", "get"};
constexpr std::array<std::string_view, 2> kListMethods = {"index", "count"};
// Known to Python, refused here with their name rather than as "undefined".
constexpr std::array<std::string_view, 4> kRefusedOfTexts = {"format", "format_map", "encode", "translate"};
constexpr std::array<std::string_view, 6> kRefusedOfDicts = {"clear", "copy", "pop", "popitem", "setdefault", "update"};
constexpr std::array<std::string_view, 9> kRefusedOfLists = {"append", "clear",  "copy",    "extend", "insert",
                                                             "pop",    "remove", "reverse", "sort"};

template <size_t N>
bool In(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

const std::string& TextArgument(const Arguments& arguments, size_t index, std::string_view name,
                                std::string_view callee) {
  const Value& value = arguments.Require(index, name, callee);
  if (!value.Is(Kind::kString)) {
    FailRender(fmt::format("expected a text as argument {} of {}, found {}", name, callee, KindName(value)));
  }
  return value.AsString();
}

// Length in bytes of the white space at the start of `text`, 0 when it starts with none.
size_t SpaceLength(std::string_view text) {
  const Utf8Char c = DecodeUtf8(text, 0);
  const bool space = ClassOf(c.code) == CharClass::kSpace || (c.code >= 0x1C && c.code <= 0x1F);
  return space ? c.length : 0;
}

Value SplitSpaces(std::string_view text, int64_t max_splits, Budget* budget) {
  Items parts;
  size_t pos = 0;
  const auto skip = [&] {
    while (pos < text.size() && SpaceLength(text.substr(pos)) != 0) pos += SpaceLength(text.substr(pos));
  };
  for (skip(); pos < text.size(); skip()) {
    const size_t begin = pos;
    if (max_splits >= 0 && static_cast<int64_t>(parts.size()) >= max_splits) {
      parts.push_back(Value::Of(StripText(text.substr(begin), nullptr, false, true)));
      break;
    }
    while (pos < text.size() && SpaceLength(text.substr(pos)) == 0) pos += DecodeUtf8(text, pos).length;
    parts.push_back(Value::Of(std::string(text.substr(begin, pos - begin))));
  }
  return MakeList(std::move(parts), budget);
}

Value Split(const std::string& text, const Arguments& arguments, bool from_right, Budget* budget) {
  arguments.CheckCount(2, "split");
  const Value* separator = arguments.Find(0, "sep");
  const Value* limit = arguments.Find(1, "maxsplit");
  if (limit != nullptr && !limit->Is(Kind::kInt)) FailRender("expected an integer as maxsplit");
  const int64_t max_splits = limit == nullptr ? -1 : limit->AsInt();
  budget->ChargeBytes(text.size() * 4);
  if (separator == nullptr || separator->Is(Kind::kNone)) {
    if (from_right && max_splits >= 0) FailRender("expected a separator for rsplit with maxsplit");
    return SplitSpaces(text, max_splits, budget);
  }
  const std::string& mark = TextArgument(arguments, 0, "sep", "split");
  if (mark.empty()) FailRender("expected a separator that is not empty");
  std::vector<size_t> cuts = FindAll(text, mark, max_splits, from_right, budget);
  if (from_right) std::reverse(cuts.begin(), cuts.end());
  Items parts;
  size_t begin = 0;
  budget->Charge(static_cast<int64_t>(cuts.size()) * 4);
  for (const size_t cut : cuts) {
    parts.push_back(Value::Of(text.substr(begin, cut - begin)));
    begin = cut + mark.size();
  }
  parts.push_back(Value::Of(text.substr(begin)));
  return MakeList(std::move(parts), budget);
}

Value SplitLines(const std::string& text, Budget* budget) {
  budget->ChargeBytes(text.size() * 4);
  Items lines;
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\n' && text[i] != '\r') continue;
    lines.push_back(Value::Of(text.substr(begin, i - begin)));
    if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') ++i;
    begin = i + 1;
  }
  if (begin < text.size()) lines.push_back(Value::Of(text.substr(begin)));
  return MakeList(std::move(lines), budget);
}

bool HasAffix(const std::string& text, const Value& affix, bool prefix, Budget* budget) {
  if (affix.Is(Kind::kList) && affix.AsList().is_tuple) {
    return std::any_of(affix.AsList().items.begin(), affix.AsList().items.end(), [&](const Value& one) {
      budget->Charge(1);
      return HasAffix(text, one, prefix, budget);
    });
  }
  if (!affix.Is(Kind::kString)) FailRender(fmt::format("expected a text to look for, found {}", KindName(affix)));
  budget->ChargeBytes(affix.AsString().size());
  return prefix ? text.starts_with(affix.AsString()) : text.ends_with(affix.AsString());
}

// Python's str.title: a cased letter after a letter is lowered, any other raised.
std::string Title(std::string_view text) {
  std::string out;
  bool after_letter = false;
  for (const std::string_view c : Characters(text)) {
    out += MapCase(c, !after_letter);
    const uint32_t code = DecodeUtf8(c, 0).code;
    after_letter = ClassOf(code) == CharClass::kLetter;
  }
  return out;
}

template <typename Predicate>
bool AllCharacters(const std::string& text, Predicate predicate) {
  if (text.empty()) return false;
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Char c = DecodeUtf8(text, pos);
    if (!predicate(c.code)) return false;
    pos += c.length;
  }
  return true;
}

Value CallTextMethod(const std::string& text, const std::string& name, const Arguments& arguments, Budget* budget) {
  budget->ChargeBytes(text.size() * 2);
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    arguments.CheckCount(1, name);
    return Value::Of(StripText(text, arguments.Find(0, "chars"), name != "rstrip", name != "lstrip"));
  }
  if (name == "split" || name == "rsplit") return Split(text, arguments, name == "rsplit", budget);
  if (name == "splitlines") return SplitLines(text, budget);
  if (name == "startswith" || name == "endswith") {
    arguments.CheckCount(1, name);
    return Value::Of(HasAffix(text, arguments.Require(0, "prefix", name), name == "startswith", budget));
  }
  if (name == "removeprefix" || name == "removesuffix") {
    const std::string& affix = TextArgument(arguments, 0, "prefix", name);
    if (name == "removeprefix") return Value::Of(text.starts_with(affix) ? text.substr(affix.size()) : text);
    return Value::Of(text.ends_with(affix) ? text.substr(0, text.size() - affix.size()) : text);
  }
  if (name == "replace") {
    const Value* count = arguments.Find(2, "count");
    if (count != nullptr && !count->Is(Kind::kInt)) FailRender("expected an integer as count of replace");
    return Value::Of(ReplaceText(text, TextArgument(arguments, 0, "old", name), TextArgument(arguments, 1, "new", name),
                                 count == nullptr ? -1 : count->AsInt(), budget));
  }
  if (name == "find" || name == "rfind") {
    arguments.CheckCount(1, name);
    const std::string& wanted = TextArgument(arguments, 0, "sub", name);
    std::vector<size_t> found = {name == "find" ? 0 : text.size()};
    if (!wanted.empty()) found = FindAll(text, wanted, 1, name == "rfind", budget);
    if (found.empty()) return Value::Of(int64_t{-1});
    return Value::Of(CheckedLength(CountCharacters(std::string_view(text).substr(0, found[0]))));
  }
  if (name == "count") {
    arguments.CheckCount(1, name);
    const std::string& wanted = TextArgument(arguments, 0, "sub", name);
    if (wanted.empty()) return Value::Of(CheckedLength(CountCharacters(text)) + 1);
    return Value::Of(CheckedLength(FindAll(text, wanted, -1, false, budget).size()));
  }
  if (name == "join") {
    arguments.CheckCount(1, name);
    std::string out;
    const auto items = ToItems(arguments.Require(0, "iterable", name), budget);
    for (size_t i = 0; i < items->items.size(); ++i) {
      if (!items->items[i].Is(Kind::kString)) FailRender("expected texts to join");
      if (i > 0) AppendText(Value::Of(text), budget, &out);
      AppendText(items->items[i], budget, &out);
    }
    return Value::Of(std::move(out));
  }
  arguments.CheckCount(0, name);
  if (name == "upper" || name == "lower") return Value::Of(MapCase(text, name == "upper"));
  if (name == "title") return Value::Of(Title(text));
  if (name == "capitalize") {
    if (text.empty()) return Value::Of(text);
    const size_t first = DecodeUtf8(text, 0).length;
    return Value::Of(MapCase(text.substr(0, first), true) + MapCase(text.substr(first), false));
  }
  if (name == "isdigit") {
    return Value::Of(AllCharacters(text, [](uint32_t c) { return ClassOf(c) == CharClass::kNumber; }));
  }
  if (name == "isalpha") {
    return Value::Of(AllCharacters(text, [](uint32_t c) { return ClassOf(c) == CharClass::kLetter; }));
  }
  if (name == "isspace") {
    return Value::Of(AllCharacters(text, [](uint32_t c) { return ClassOf(c) == CharClass::kSpace; }));
  }
  const bool upper = name == "isupper";
  return Value::Of(MapCase(text, upper) == text && MapCase(text, !upper) != text);
}

}  // namespace

std::string StripText(std::string_view text, const Value* characters, bool left, bool right) {
  std::vector<std::string_view> set;
  const bool own_set = characters != nullptr && !characters->Is(Kind::kNone);
  if (own_set) {
    if (!characters->Is(Kind::kString)) FailRender("expected a text of characters to strip");
    if (characters->AsString().size() > 256) FailRender("expected at most 256 bytes of characters to strip");
    set = Characters(characters->AsString());
    std::sort(set.begin(), set.end());
  }
  const auto stripped = [&](std::string_view c) {
    return own_set ? std::binary_search(set.begin(), set.end(), c) : SpaceLength(c) != 0;
  };
  while (left && !text.empty()) {
    const std::string_view c = text.substr(0, DecodeUtf8(text, 0).length);
    if (!stripped(c)) break;
    text.remove_prefix(c.size());
  }
  while (right && !text.empty()) {
    size_t start = text.size() - 1;  // back to a lead byte, at most three steps
    while (start > 0 && text.size() - start < 4 && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
    if (start + DecodeUtf8(text, start).length != text.size()) start = text.size() - 1;
    if (!stripped(text.substr(start))) break;
    text.remove_suffix(text.size() - start);
  }
  return std::string(text);
}

// One character to one: Python also maps single characters to several ("ß" to "SS"), which no template needs.
std::string MapCase(std::string_view text, bool upper) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Char c = DecodeUtf8(text, pos);
    if (c.code == kInvalidCodePoint) {
      out += text[pos];
    } else {
      const auto code = static_cast<utf8proc_int32_t>(c.code);
      AppendUtf8(static_cast<uint32_t>(upper ? utf8proc_toupper(code) : utf8proc_tolower(code)), &out);
    }
    pos += c.length;
  }
  return out;
}

std::string ReplaceText(std::string_view text, std::string_view from, std::string_view to, int64_t count,
                        Budget* budget) {
  budget->ChargeBytes(text.size());
  std::string out;
  int64_t done = 0;
  const auto put = [&](std::string_view piece) {
    if (out.size() + piece.size() > budget->max_bytes()) budget->ChargeBytes(out.size() + piece.size());
    budget->ChargeBytes(piece.size());
    out += piece;
  };
  if (from.empty()) {  // between all characters and at both ends
    for (size_t pos = 0; pos < text.size();) {
      const size_t length = DecodeUtf8(text, pos).length;
      if (count < 0 || done++ < count) put(to);
      put(text.substr(pos, length));
      pos += length;
    }
    if (count < 0 || done < count) put(to);
    return out;
  }
  size_t pos = 0;
  for (const size_t at : FindAll(text, from, count, false, budget)) {
    put(text.substr(pos, at - pos));
    put(to);
    pos = at + from.size();
  }
  put(text.substr(pos));
  return out;
}

std::vector<size_t> FindAll(std::string_view text, std::string_view wanted, int64_t max_count, bool from_right,
                            Budget* budget) {
  constexpr size_t kShort = 16;  // where the library's search is fast enough whatever the text
  std::vector<size_t> found;
  const auto more = [&] { return max_count < 0 || static_cast<int64_t>(found.size()) < max_count; };
  const auto put = [&](size_t at) {
    budget->Charge(1);
    found.push_back(at);
  };
  const size_t n = text.size();
  const size_t m = wanted.size();
  budget->ChargeBytes(n);
  if (m > n) return found;
  if (m <= kShort) {
    if (from_right) {
      for (size_t end = n; more() && end >= m;) {
        end = text.rfind(wanted, end - m);
        if (end == std::string_view::npos) break;
        put(end);
      }
    } else {
      for (size_t at = 0; more() && (at = text.find(wanted, at)) != std::string_view::npos; at += m) put(at);
    }
    return found;
  }
  // Knuth, Morris and Pratt, 1977.
  budget->ChargeBytes(n);
  const auto letter = [from_right](std::string_view s, size_t i) { return from_right ? s[s.size() - 1 - i] : s[i]; };
  std::vector<size_t> border(m);  // of every prefix, its longest proper prefix that is its suffix too
  for (size_t i = 1, k = 0; i < m; ++i) {
    while (k > 0 && letter(wanted, i) != letter(wanted, k)) k = border[k - 1];
    if (letter(wanted, i) == letter(wanted, k)) ++k;
    border[i] = k;
  }
  for (size_t i = 0, k = 0; i < n && more(); ++i) {
    while (k > 0 && letter(text, i) != letter(wanted, k)) k = border[k - 1];
    if (letter(text, i) == letter(wanted, k)) ++k;
    if (k < m) continue;
    put(from_right ? n - 1 - i : i + 1 - m);
    k = 0;
  }
  return found;
}

bool HasMethod(const Value& value, std::string_view name) {
  switch (value.kind()) {
    case Kind::kString:
      return In(kTextMethods, name) || In(kRefusedOfTexts, name);
    case Kind::kDict:  // data called "copy" is more use than a method that is refused
      return In(kDictMethods, name) || (In(kRefusedOfDicts, name) && value.AsDict().Find(name) == nullptr);
    case Kind::kList:
      return In(kListMethods, name) || (In(kRefusedOfLists, name) && !value.AsList().is_tuple);
    case Kind::kLoop:
      return name == "cycle";
    default:
      return false;
  }
}

Value CallMethod(const Value& self, const std::string& name, const Arguments& arguments, Budget* budget) {
  if (!In(kTextMethods, name) && !In(kDictMethods, name) && !In(kListMethods, name) && name != "cycle") {
    Fail(ErrorCode::kUnsupported,
         "[chat template] method {}: expected one that only reads, found one that templates are not given; gateskip "
         "cannot render this template",
         name);
  }
  if (self.Is(Kind::kString)) return CallTextMethod(self.AsString(), name, arguments, budget);
  if (self.Is(Kind::kLoop)) {
    if (arguments.positional.empty()) FailRender("expected values for loop.cycle");
    return arguments.positional[self.AsLoop().index % arguments.positional.size()];
  }
  if (self.Is(Kind::kList)) {
    const Value& wanted = arguments.Require(0, "value", name);
    int64_t count = 0;
    for (size_t i = 0; i < self.AsList().items.size(); ++i) {
      if (!Equal(self.AsList().items[i], wanted, budget)) continue;
      if (name == "index") return Value::Of(CheckedLength(i));
      ++count;
    }
    if (name == "index") FailRender("expected the value in the list, found none");
    return Value::Of(count);
  }
  const Dict& dict = self.AsDict();
  budget->Charge(static_cast<int64_t>(dict.entries.size()));
  if (name == "get") {
    arguments.CheckCount(2, name);
    const Value& key = arguments.Require(0, "key", name);
    for (const auto& [known, value] : dict.entries) {
      if (Equal(known, key, budget)) return value;
    }
    const Value* fallback = arguments.Find(1, "default");
    return fallback != nullptr ? *fallback : Value::MakeNone();
  }
  arguments.CheckCount(0, name);
  Items items;
  for (const auto& [key, value] : dict.entries) {
    if (name == "keys") {
      items.push_back(key);
    } else if (name == "values") {
      items.push_back(value);
    } else {
      items.push_back(MakeList({key, value}, budget, true));
    }
  }
  return MakeList(std::move(items), budget);
}

}  // namespace gateskip::jinja
