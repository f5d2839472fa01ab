// SPDX-License-Identifier: Apache-2.0
// Filters (value|name) and tests (value is name), after jinja2/filters.py and tests.py (3.1).
#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <unordered_map>

#include "text/template_interpreter.h"
#include "text/utf8.h"

namespace gateskip::jinja {
namespace {

using FilterFunction = Value (*)(const Value&, const Arguments&, Budget*);
using TestFunction = bool (*)(const Value&, const Arguments&, Budget*);

bool IsIntegral(const Value& v) { return v.Is(Kind::kInt) || v.Is(Kind::kBool); }

int64_t IntArgument(const Arguments& arguments, size_t index, std::string_view name, int64_t fallback) {
  const Value* value = arguments.Find(index, name);
  if (value == nullptr || value->Is(Kind::kNone)) return fallback;
  if (!IsIntegral(*value)) FailRender(fmt::format("expected an integer as {}, found {}", name, KindName(*value)));
  return value->AsInt();
}
bool BoolArgument(const Arguments& arguments, size_t index, std::string_view name, bool fallback) {
  const Value* value = arguments.Find(index, name);
  return value == nullptr ? fallback : Truth(*value);
}

// "a.b.0" of an item, as map(attribute=...) takes it.
Value AttributePath(Value value, const Value& path, Budget* budget) {
  if (IsIntegral(path)) return GetItem(value, path, budget);
  if (!path.Is(Kind::kString)) FailRender("expected the name of an attribute");
  const std::string& text = path.AsString();
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('.', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    int64_t index = 0;
    const auto [stop, error] = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool is_index = error == std::errc() && stop == part.data() + part.size() && !part.empty();
    if (!is_index && part.starts_with('_')) GetAttribute(value, part, budget);  // throws
    value = GetItem(value, is_index ? Value::Of(index) : Value::Of(part), budget);
    begin = end + 1;
  }
  return value;
}

Value Trim(const Value& value, const Arguments& arguments, Budget* budget) {
  return Value::Of(StripText(ToText(value, budget), arguments.Find(0, "chars"), true, true));
}
Value Upper(const Value& value, const Arguments&, Budget* budget) {
  return Value::Of(MapCase(ToText(value, budget), true));
}
Value Lower(const Value& value, const Arguments&, Budget* budget) {
  return Value::Of(MapCase(ToText(value, budget), false));
}
// The filter, unlike str.title, starts words after spaces, dashes and opening brackets only.
Value TitleFilter(const Value& value, const Arguments&, Budget* budget) {
  std::string out;
  bool start = true;
  const std::string text = ToText(value, budget);
  for (size_t pos = 0; pos < text.size();) {
    const std::string_view c = std::string_view(text).substr(pos, DecodeUtf8(text, pos).length);
    pos += c.size();
    budget->Charge(1);
    const bool separator =
        ClassOf(DecodeUtf8(c, 0).code) == CharClass::kSpace || c == "-" || c == "(" || c == "{" || c == "[" || c == "<";
    out += MapCase(c, start);
    start = separator;
  }
  return Value::Of(std::move(out));
}
Value Capitalize(const Value& value, const Arguments&, Budget* budget) {
  return CallMethod(Value::Of(ToText(value, budget)), "capitalize", {}, budget);
}

Value Length(const Value& value, const Arguments&, Budget* budget) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return Value::Of(int64_t{0});
    case Kind::kString:
      budget->ChargeBytes(value.AsString().size());
      return Value::Of(CheckedLength(CountCharacters(value.AsString())));
    case Kind::kList:
      return Value::Of(CheckedLength(value.AsList().items.size()));
    case Kind::kDict:
      return Value::Of(CheckedLength(value.AsDict().entries.size()));
    default:
      FailRender(fmt::format("expected a value with a length, found {}", KindName(value)));
  }
}

Value Join(const Value& value, const Arguments& arguments, Budget* budget) {
  const Value* mark = arguments.Find(0, "d");
  const Value* attribute = arguments.Find(1, "attribute");
  const auto items = ToItems(value, budget);
  std::string out;
  for (size_t i = 0; i < items->items.size(); ++i) {
    if (i > 0 && mark != nullptr) AppendText(*mark, budget, &out);
    AppendText(attribute == nullptr ? items->items[i] : AttributePath(items->items[i], *attribute, budget), budget,
               &out);
  }
  return Value::Of(std::move(out));
}

Value Replace(const Value& value, const Arguments& arguments, Budget* budget) {
  const std::string from = ToText(arguments.Require(0, "old", "replace"), budget);
  const std::string to = ToText(arguments.Require(1, "new", "replace"), budget);
  return Value::Of(ReplaceText(ToText(value, budget), from, to, IntArgument(arguments, 2, "count", -1), budget));
}

Value Default(const Value& value, const Arguments& arguments, Budget*) {
  const bool missing = value.Is(Kind::kUndefined) || (BoolArgument(arguments, 1, "boolean", false) && !Truth(value));
  if (!missing) return value;
  const Value* fallback = arguments.Find(0, "default_value");
  return fallback == nullptr ? Value::Of(std::string()) : *fallback;
}

// The arguments of transformers' own tojson, not of jinja2's.
Value ToJsonFilter(const Value& value, const Arguments& arguments, Budget* budget) {
  JsonStyle style;
  style.ensure_ascii = BoolArgument(arguments, 0, "ensure_ascii", false);
  style.sort_keys = BoolArgument(arguments, 3, "sort_keys", false);
  const Value* indent = arguments.Find(1, "indent");
  if (indent != nullptr && IsIntegral(*indent)) {
    style.indent = static_cast<int>(std::clamp<int64_t>(indent->AsInt(), 0, 16));
    style.comma = std::string(1, ',');
  }
  const Value* separators = arguments.Find(2, "separators");
  if (separators != nullptr && !separators->Is(Kind::kNone)) {
    const bool pair = separators->Is(Kind::kList) && separators->AsList().items.size() == 2 &&
                      separators->AsList().items[0].Is(Kind::kString) &&
                      separators->AsList().items[1].Is(Kind::kString);
    if (!pair) FailRender("expected two texts as separators of tojson, found another value");
    style.comma = separators->AsList().items[0].AsString();
    style.colon = separators->AsList().items[1].AsString();
  }
  return Value::Of(ToJson(value, style, budget));
}

Value First(const Value& value, const Arguments&, Budget* budget) {
  if (value.Is(Kind::kString)) return GetItem(value, Value::Of(int64_t{0}), budget);
  const auto items = ToItems(value, budget);
  return items->items.empty() ? Value() : items->items.front();
}
Value Last(const Value& value, const Arguments&, Budget* budget) {
  if (value.Is(Kind::kString)) return GetItem(value, Value::Of(int64_t{-1}), budget);
  const auto items = ToItems(value, budget);
  return items->items.empty() ? Value() : items->items.back();
}
Value ToListFilter(const Value& value, const Arguments&, Budget* budget) {
  return MakeList(ToItems(value, budget)->items, budget);
}
Value ItemsFilter(const Value& value, const Arguments&, Budget* budget) {
  if (value.Is(Kind::kUndefined)) return MakeList({}, budget);
  if (!value.Is(Kind::kDict)) FailRender(fmt::format("expected a dict for items, found {}", KindName(value)));
  return CallMethod(value, "items", {}, budget);
}
Value Reverse(const Value& value, const Arguments&, Budget* budget) {
  if (value.Is(Kind::kString)) {
    budget->ChargeBytes(value.AsString().size() * 4);
    std::string out;
    const auto characters = Characters(value.AsString());
    for (auto it = characters.rbegin(); it != characters.rend(); ++it) out += *it;
    return Value::Of(std::move(out));
  }
  Items items = ToItems(value, budget)->items;
  std::reverse(items.begin(), items.end());
  return MakeList(std::move(items), budget);
}

// Keys of sort, unique and dictsort: texts compare without case unless asked otherwise.
Value SortKey(const Value& item, const Value* attribute, bool case_sensitive, Budget* budget) {
  Value key = attribute == nullptr ? item : AttributePath(item, *attribute, budget);
  if (!case_sensitive && key.Is(Kind::kString)) {
    budget->ChargeBytes(key.AsString().size());
    key = Value::Of(MapCase(key.AsString(), false));
  }
  return key;
}

// Merge sort over keys: a comparison that throws leaves nothing half-moved, equal keys keep their order.
Items SortByKeys(Items items, std::vector<Value> keys, bool descending, Budget* budget) {
  std::vector<size_t> order(items.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return descending ? Less(keys[b], keys[a], budget) : Less(keys[a], keys[b], budget);
  });
  Items sorted;
  sorted.reserve(items.size());
  for (const size_t i : order) sorted.push_back(std::move(items[i]));
  return sorted;
}

Value Sort(const Value& value, const Arguments& arguments, Budget* budget) {
  const bool case_sensitive = BoolArgument(arguments, 1, "case_sensitive", false);
  const Value* attribute = arguments.Find(2, "attribute");
  Items items = ToItems(value, budget)->items;
  std::vector<Value> keys;
  for (const Value& item : items) keys.push_back(SortKey(item, attribute, case_sensitive, budget));
  return MakeList(SortByKeys(std::move(items), std::move(keys), BoolArgument(arguments, 0, "reverse", false), budget),
                  budget);
}

Value DictSort(const Value& value, const Arguments& arguments, Budget* budget) {
  const bool case_sensitive = BoolArgument(arguments, 0, "case_sensitive", false);
  const Value* by = arguments.Find(1, "by");
  const bool by_value = by != nullptr && by->Is(Kind::kString) && by->AsString() == "value";
  Items items = ItemsFilter(value, {}, budget).AsList().items;
  std::vector<Value> keys;
  for (const Value& item : items) {
    keys.push_back(SortKey(item.AsList().items[by_value ? 1 : 0], nullptr, case_sensitive, budget));
  }
  return MakeList(SortByKeys(std::move(items), std::move(keys), BoolArgument(arguments, 2, "reverse", false), budget),
                  budget);
}

Value Unique(const Value& value, const Arguments& arguments, Budget* budget) {
  const bool case_sensitive = BoolArgument(arguments, 0, "case_sensitive", false);
  const Value* attribute = arguments.Find(1, "attribute");
  Items kept;
  std::vector<Value> keys;
  const auto items = ToItems(value, budget);
  for (const Value& item : items->items) {
    Value key = SortKey(item, attribute, case_sensitive, budget);
    const bool seen =
        std::any_of(keys.begin(), keys.end(), [&](const Value& other) { return Equal(other, key, budget); });
    if (seen) continue;
    keys.push_back(std::move(key));
    kept.push_back(item);
  }
  return MakeList(std::move(kept), budget);
}

// The rest of the arguments after `skip`, for a test or filter called by name.
Arguments Rest(const Arguments& arguments, size_t skip) {
  Arguments rest;
  for (size_t i = skip; i < arguments.positional.size(); ++i) rest.positional.push_back(arguments.positional[i]);
  return rest;
}
std::string NameArgument(const Arguments& arguments, size_t index, std::string_view callee) {
  const Value& name = arguments.Require(index, "name", callee);
  if (!name.Is(Kind::kString)) FailRender(fmt::format("expected a name for {}, found {}", callee, KindName(name)));
  return name.AsString();
}

Value Map(const Value& value, const Arguments& arguments, Budget* budget) {
  const auto items = ToItems(value, budget);
  const Value* attribute = arguments.positional.empty() ? arguments.Find(0, "attribute") : nullptr;
  const Value* fallback = arguments.positional.empty() ? arguments.Find(1, "default") : nullptr;
  Items out;
  for (const Value& item : items->items) {
    budget->Charge(1);
    if (attribute != nullptr) {
      const Value found = AttributePath(item, *attribute, budget);
      out.push_back(found.Is(Kind::kUndefined) && fallback != nullptr ? *fallback : found);
    } else {
      Arguments rest = Rest(arguments, 1);
      rest.named = arguments.named;
      out.push_back(ApplyFilter(NameArgument(arguments, 0, "map"), item, rest, budget));
    }
  }
  return MakeList(std::move(out), budget);
}

Value SelectItems(const Value& value, const Arguments& arguments, bool by_attribute, bool keep, Budget* budget) {
  const auto items = ToItems(value, budget);
  const size_t test_index = by_attribute ? 1 : 0;
  const bool has_test = arguments.positional.size() > test_index;
  if (by_attribute) arguments.Require(0, "attribute", "selectattr");
  Items out;
  for (const Value& item : items->items) {
    budget->Charge(1);
    const Value subject = by_attribute ? AttributePath(item, arguments.positional[0], budget) : item;
    const bool holds = has_test ? ApplyTest(NameArgument(arguments, test_index, "select"), subject,
                                            Rest(arguments, test_index + 1), budget)
                                : Truth(subject);
    if (holds == keep) out.push_back(item);
  }
  return MakeList(std::move(out), budget);
}
Value Select(const Value& v, const Arguments& a, Budget* b) { return SelectItems(v, a, false, true, b); }
Value Reject(const Value& v, const Arguments& a, Budget* b) { return SelectItems(v, a, false, false, b); }
Value SelectAttr(const Value& v, const Arguments& a, Budget* b) { return SelectItems(v, a, true, true, b); }
Value RejectAttr(const Value& v, const Arguments& a, Budget* b) { return SelectItems(v, a, true, false, b); }

bool ParseDouble(std::string text, double* out) {
  text = StripText(text, nullptr, true, true);
  if (text.starts_with('+')) text.erase(0, 1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

Value ToInt(const Value& value, const Arguments& arguments, Budget*) {
  const int64_t fallback = IntArgument(arguments, 0, "default", 0);
  double number = 0;
  if (IsIntegral(value)) return Value::Of(value.AsInt());
  if (value.Is(Kind::kFloat)) {
    number = value.AsDouble();
  } else if (value.Is(Kind::kString)) {
    std::string text = StripText(value.AsString(), nullptr, true, true);
    if (text.starts_with('+')) text.erase(0, 1);
    int64_t whole = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), whole);
    if (error == std::errc() && end == text.data() + text.size() && !text.empty()) return Value::Of(whole);
    if (!ParseDouble(text, &number)) return Value::Of(fallback);
  } else {
    return Value::Of(fallback);
  }
  const bool fits = number >= -9.2e18 && number <= 9.2e18;  // false for NaN too
  return Value::Of(fits ? static_cast<int64_t>(number) : fallback);
}

Value ToFloat(const Value& value, const Arguments& arguments, Budget*) {
  const Value* fallback = arguments.Find(0, "default");
  double number = 0;
  if (value.IsNumber()) return Value::Of(value.AsDouble());
  if (value.Is(Kind::kString) && ParseDouble(value.AsString(), &number)) return Value::Of(number);
  return fallback == nullptr ? Value::Of(0.0) : *fallback;
}

Value ToStringFilter(const Value& value, const Arguments&, Budget* budget) { return Value::Of(ToText(value, budget)); }
Value Safe(const Value& value, const Arguments&, Budget*) { return value; }

Value Indent(const Value& value, const Arguments& arguments, Budget* budget) {
  const Value* width = arguments.Find(0, "width");
  std::string pad(4, ' ');
  if (width != nullptr && width->Is(Kind::kString)) {
    pad = width->AsString();
  } else if (width != nullptr) {
    pad = std::string(static_cast<size_t>(std::clamp<int64_t>(IntArgument(arguments, 0, "width", 4), 0, 1000)), ' ');
  }
  const bool first = BoolArgument(arguments, 1, "first", false);
  const bool blank = BoolArgument(arguments, 2, "blank", false);
  const std::string text = ToText(value, budget);
  std::string out = first ? pad : std::string();
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    budget->ChargeBytes(pad.size() + end - begin + 1);
    if (out.size() > budget->max_bytes()) budget->ChargeBytes(out.size());
    if (begin > 0) {
      out += '\n';
      if (blank || end > begin) out += pad;
    }
    out.append(text, begin, end - begin);
    begin = end + 1;
  }
  return Value::Of(std::move(out));
}

Value Round(const Value& value, const Arguments& arguments, Budget*) {
  if (!value.IsNumber()) FailRender(fmt::format("expected a number to round, found {}", KindName(value)));
  const int64_t digits = std::clamp<int64_t>(IntArgument(arguments, 0, "precision", 0), -300, 300);
  const Value* method = arguments.Find(1, "method");
  const std::string how = method != nullptr && method->Is(Kind::kString) ? method->AsString() : "common";
  const double scale = std::pow(10.0, static_cast<double>(digits));
  const double scaled = value.AsDouble() * scale;
  if (!std::isfinite(scaled) || scale == 0.0) return value;
  if (how == "ceil") return Value::Of(std::ceil(scaled) / scale);
  if (how == "floor") return Value::Of(std::floor(scaled) / scale);
  if (IsIntegral(value) && digits >= 0) return value;
  return Value::Of(std::nearbyint(scaled) / scale);
}

Value Abs(const Value& value, const Arguments&, Budget* budget) {
  if (!value.IsNumber()) FailRender(fmt::format("expected a number for abs, found {}", KindName(value)));
  if (value.Is(Kind::kFloat)) return Value::Of(std::fabs(value.AsDouble()));
  return value.AsInt() < 0 ? ApplyOperator(Op::kSub, Value::Of(int64_t{0}), value, budget) : Value::Of(value.AsInt());
}

Value Sum(const Value& value, const Arguments& arguments, Budget* budget) {
  const Value* attribute = arguments.Find(0, "attribute");
  const Value* start = arguments.Find(1, "start");
  Value total = start == nullptr ? Value::Of(int64_t{0}) : *start;
  const auto items = ToItems(value, budget);
  for (const Value& item : items->items) {
    total =
        ApplyOperator(Op::kAdd, total, attribute == nullptr ? item : AttributePath(item, *attribute, budget), budget);
  }
  return total;
}

template <bool kMax>
Value Extreme(const Value& value, const Arguments& arguments, Budget* budget) {
  const bool case_sensitive = BoolArgument(arguments, 0, "case_sensitive", false);
  const Value* attribute = arguments.Find(1, "attribute");
  const auto items = ToItems(value, budget);
  Value best;
  Value best_key;
  for (size_t i = 0; i < items->items.size(); ++i) {
    const Value key = SortKey(items->items[i], attribute, case_sensitive, budget);
    if (i > 0 && !(kMax ? Less(best_key, key, budget) : Less(key, best_key, budget))) continue;
    best = items->items[i];
    best_key = key;
  }
  return best;
}

struct Filter {
  FilterFunction apply;
  size_t max_arguments;
};
constexpr size_t kAny = SIZE_MAX;

const std::unordered_map<std::string_view, Filter>& Filters() {
  static const std::unordered_map<std::string_view, Filter> filters = {
      {"trim", {Trim, 1}},
      {"upper", {Upper, 0}},
      {"lower", {Lower, 0}},
      {"title", {TitleFilter, 0}},
      {"length", {Length, 0}},
      {"count", {Length, 0}},
      {"join", {Join, 2}},
      {"capitalize", {Capitalize, 0}},
      {"replace", {Replace, 3}},
      {"default", {Default, 2}},
      {"d", {Default, 2}},
      {"tojson", {ToJsonFilter, 4}},
      {"first", {First, 0}},
      {"last", {Last, 0}},
      {"list", {ToListFilter, 0}},
      {"items", {ItemsFilter, 0}},
      {"reverse", {Reverse, 0}},
      {"sort", {Sort, 3}},
      {"dictsort", {DictSort, 3}},
      {"unique", {Unique, 2}},
      {"map", {Map, kAny}},
      {"select", {Select, kAny}},
      {"reject", {Reject, kAny}},
      {"selectattr", {SelectAttr, kAny}},
      {"rejectattr", {RejectAttr, kAny}},
      {"int", {ToInt, 1}},
      {"float", {ToFloat, 1}},
      {"string", {ToStringFilter, 0}},
      {"safe", {Safe, 0}},
      {"indent", {Indent, 3}},
      {"round", {Round, 2}},
      {"abs", {Abs, 0}},
      {"sum", {Sum, 2}},
      {"min", {Extreme<false>, 2}},
      {"max", {Extreme<true>, 2}},
  };
  return filters;
}

const Value& Other(const Arguments& arguments, std::string_view name) { return arguments.Require(0, "other", name); }

bool IsSequence(const Value& v) { return v.Is(Kind::kString) || v.Is(Kind::kList) || v.Is(Kind::kDict); }

const std::unordered_map<std::string_view, TestFunction>& Tests() {
  using V = const Value&;
  using A = const Arguments&;
  static const std::unordered_map<std::string_view, TestFunction> tests = {
      {"defined", [](V v, A, Budget*) { return !v.Is(Kind::kUndefined); }},
      {"undefined", [](V v, A, Budget*) { return v.Is(Kind::kUndefined); }},
      {"none", [](V v, A, Budget*) { return v.Is(Kind::kNone); }},
      {"string", [](V v, A, Budget*) { return v.Is(Kind::kString); }},
      {"mapping", [](V v, A, Budget*) { return v.Is(Kind::kDict); }},
      {"iterable", [](V v, A, Budget*) { return IsSequence(v) || v.Is(Kind::kUndefined); }},
      {"sequence", [](V v, A, Budget*) { return IsSequence(v) || v.Is(Kind::kUndefined); }},
      {"number", [](V v, A, Budget*) { return v.IsNumber(); }},
      {"boolean", [](V v, A, Budget*) { return v.Is(Kind::kBool); }},
      {"true", [](V v, A, Budget*) { return v.Is(Kind::kBool) && v.AsBool(); }},
      {"false", [](V v, A, Budget*) { return v.Is(Kind::kBool) && !v.AsBool(); }},
      {"integer", [](V v, A, Budget*) { return v.Is(Kind::kInt); }},
      {"float", [](V v, A, Budget*) { return v.Is(Kind::kFloat); }},
      {"callable", [](V v, A, Budget*) { return v.Is(Kind::kCallable); }},
      {"odd", [](V v, A, Budget*) { return IsIntegral(v) && v.AsInt() % 2 != 0; }},
      {"even", [](V v, A, Budget*) { return IsIntegral(v) && v.AsInt() % 2 == 0; }},
      {"divisibleby",
       [](V v, A a, Budget* b) { return !Truth(ApplyOperator(Op::kMod, v, Other(a, "divisibleby"), b)); }},
      {"equalto", [](V v, A a, Budget* b) { return Equal(v, Other(a, "equalto"), b); }},
      {"eq", [](V v, A a, Budget* b) { return Equal(v, Other(a, "eq"), b); }},
      {"ne", [](V v, A a, Budget* b) { return !Equal(v, Other(a, "ne"), b); }},
      {"lt", [](V v, A a, Budget* b) { return Less(v, Other(a, "lt"), b); }},
      {"le", [](V v, A a, Budget* b) { return !Less(Other(a, "le"), v, b); }},
      {"gt", [](V v, A a, Budget* b) { return Less(Other(a, "gt"), v, b); }},
      {"ge", [](V v, A a, Budget* b) { return !Less(v, Other(a, "ge"), b); }},
      {"in", [](V v, A a, Budget* b) { return Contains(Other(a, "in"), v, b); }},
      {"sameas",
       [](V v, A a, Budget* b) { return v.kind() == Other(a, "sameas").kind() && Equal(v, Other(a, "sameas"), b); }},
      {"lower", [](V v, A, Budget* b) { return Truth(CallMethod(Value::Of(ToText(v, b)), "islower", {}, b)); }},
      {"upper", [](V v, A, Budget* b) { return Truth(CallMethod(Value::Of(ToText(v, b)), "isupper", {}, b)); }},
  };
  return tests;
}

}  // namespace

Value ApplyFilter(const std::string& name, const Value& value, const Arguments& arguments, Budget* budget) {
  budget->Charge(2);
  const auto it = Filters().find(name);
  if (it == Filters().end()) {
    Fail(ErrorCode::kUnsupported,
         "[chat template] filter: expected a known one, found {}; gateskip cannot render this template",
         ReadableText(name, 60));
  }
  const Budget::Level level(budget);  // map('map', 'map', ...)
  arguments.CheckCount(it->second.max_arguments, name);
  return it->second.apply(value, arguments, budget);
}

bool ApplyTest(const std::string& name, const Value& value, const Arguments& arguments, Budget* budget) {
  budget->Charge(2);
  const auto it = Tests().find(name);
  if (it == Tests().end()) {
    Fail(ErrorCode::kUnsupported,
         "[chat template] test: expected a known one, found {}; gateskip cannot render this template",
         ReadableText(name, 60));
  }
  return it->second(value, arguments, budget);
}

}  // namespace gateskip::jinja
