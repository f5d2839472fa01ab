// SPDX-License-Identifier: Apache-2.0
// Operators, attributes, subscripts and slices, after Python 3 and jinja2's sandboxed environment.
#include <algorithm>
#include <cmath>

#include "text/template_interpreter.h"
#include "text/utf8.h"

namespace gateskip::jinja {
namespace {

[[noreturn]] void FailOperator(std::string_view what, const Value& a, const Value& b) {
  FailRender(fmt::format("expected values that {} takes, found {} and {}", what, KindName(a), KindName(b)));
}
[[noreturn]] void FailOverflow() { FailRender("expected integers that fit 64 bits, found an overflow"); }

bool IsIntegral(const Value& v) { return v.Is(Kind::kInt) || v.Is(Kind::kBool); }

int64_t IntPower(int64_t base, int64_t exponent) {
  int64_t result = 1;
  if (base == 0 || base == 1) return exponent == 0 ? 1 : base;
  if (base == -1) return exponent % 2 == 0 ? 1 : -1;
  for (int64_t i = 0; i < exponent; ++i) {  // ends by overflow after 63 rounds at most
    if (__builtin_mul_overflow(result, base, &result)) FailOverflow();
  }
  return result;
}

Value IntArithmetic(Op op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  switch (op) {
    case Op::kAdd:
      overflow = __builtin_add_overflow(a, b, &result);
      break;
    case Op::kSub:
      overflow = __builtin_sub_overflow(a, b, &result);
      break;
    case Op::kMul:
      overflow = __builtin_mul_overflow(a, b, &result);
      break;
    case Op::kDiv:
      if (b == 0) FailRender("expected a divisor other than 0, found 0");
      return Value::Of(static_cast<double>(a) / static_cast<double>(b));
    case Op::kFloorDiv:
    case Op::kMod: {
      if (b == 0) FailRender("expected a divisor other than 0, found 0");
      if (b == -1) {  // the one quotient that overflows is -2^63 // -1
        if (op == Op::kMod) return Value::Of(int64_t{0});
        overflow = __builtin_sub_overflow(int64_t{0}, a, &result);
        break;
      }
      const int64_t remainder = a % b;
      const bool adjust = remainder != 0 && (remainder < 0) != (b < 0);
      result = op == Op::kMod ? (adjust ? remainder + b : remainder) : (adjust ? a / b - 1 : a / b);
      break;
    }
    default:
      if (b < 0) return Value::Of(std::pow(static_cast<double>(a), static_cast<double>(b)));
      return Value::Of(IntPower(a, b));
  }
  if (overflow) FailOverflow();
  return Value::Of(result);
}

Value FloatArithmetic(Op op, double a, double b) {
  if ((op == Op::kDiv || op == Op::kFloorDiv || op == Op::kMod) && b == 0.0) {
    FailRender("expected a divisor other than 0, found 0");
  }
  switch (op) {
    case Op::kAdd:
      return Value::Of(a + b);
    case Op::kSub:
      return Value::Of(a - b);
    case Op::kMul:
      return Value::Of(a * b);
    case Op::kDiv:
      return Value::Of(a / b);
    case Op::kFloorDiv:
      return Value::Of(std::floor(a / b));
    case Op::kMod: {
      const double remainder = std::fmod(a, b);
      return Value::Of(remainder != 0.0 && (remainder < 0.0) != (b < 0.0) ? remainder + b : remainder);
    }
    default:
      return Value::Of(std::pow(a, b));
  }
}

Value Repeat(const Value& what, int64_t count, Budget* budget) {
  const auto times = static_cast<size_t>(std::max<int64_t>(count, 0));
  if (what.Is(Kind::kString)) {
    const std::string& text = what.AsString();
    if (!text.empty() && times > budget->max_bytes() / text.size()) budget->ChargeBytes(budget->max_bytes() + 1);
    budget->ChargeBytes(text.size() * times);
    std::string out;
    out.reserve(text.size() * times);
    for (size_t i = 0; i < (text.empty() ? 0 : times); ++i) out += text;
    return Value::Of(std::move(out));
  }
  const Items& items = what.AsList().items;
  Items out;
  for (size_t i = 0; i < (items.empty() ? 0 : times); ++i) {
    budget->Charge(static_cast<int64_t>(items.size()));
    out.insert(out.end(), items.begin(), items.end());
  }
  return MakeList(std::move(out), budget, what.AsList().is_tuple);
}

Value Concat(const Value& a, const Value& b, Budget* budget) {
  std::string text;
  AppendText(a, budget, &text);
  AppendText(b, budget, &text);
  return Value::Of(std::move(text));
}

Value LoopAttribute(const Value& value, const std::string& name) {
  const Loop& loop = value.AsLoop();
  const Items& items = loop.items->items;
  const auto size = static_cast<int64_t>(items.size());
  const auto index = static_cast<int64_t>(loop.index);
  if (name == "index") return Value::Of(index + 1);
  if (name == "index0") return Value::Of(index);
  if (name == "first") return Value::Of(index == 0);
  if (name == "last") return Value::Of(index + 1 == size);
  if (name == "length") return Value::Of(size);
  if (name == "revindex") return Value::Of(size - index);
  if (name == "revindex0") return Value::Of(size - index - 1);
  if (name == "depth") return Value::Of(int64_t{1});
  if (name == "depth0") return Value::Of(int64_t{0});
  if (name == "previtem") return index > 0 ? items[loop.index - 1] : Value();
  if (name == "nextitem") return index + 1 < size ? items[loop.index + 1] : Value();
  return Value();
}

Value ItemAt(const Items& items, int64_t index) {
  const auto size = static_cast<int64_t>(items.size());
  if (index < 0) index += size;
  return index >= 0 && index < size ? items[static_cast<size_t>(index)] : Value();
}

}  // namespace

int64_t CheckedLength(size_t length) { return static_cast<int64_t>(length); }

Value GetAttribute(const Value& value, const std::string& name, Budget* budget) {
  budget->Charge(1);
  if (name.starts_with('_')) {
    FailRender(fmt::format("expected an attribute of the data, found {}, which is out of a template's reach", name));
  }
  if (value.Is(Kind::kUndefined)) {
    FailRender(fmt::format("expected a value with attribute {}, found an undefined one", name));
  }
  if (value.Is(Kind::kNamespace)) {
    budget->Charge(static_cast<int64_t>(value.AsNamespace().entries.size() / 4));
    for (const auto& [key, item] : value.AsNamespace().entries) {
      if (key == name) return item;
    }
    return Value();
  }
  if (value.Is(Kind::kLoop) && name != "cycle") return LoopAttribute(value, name);
  if (HasMethod(value, name)) {
    auto callable = std::make_shared<Callable>();
    callable->name = name;
    callable->self = value;
    return Value::Of(std::shared_ptr<const Callable>(std::move(callable)));
  }
  if (value.Is(Kind::kDict)) {
    budget->Charge(static_cast<int64_t>(value.AsDict().entries.size() / 4));
    const Value* found = value.AsDict().Find(name);
    return found != nullptr ? *found : Value();
  }
  return Value();
}

Value GetItem(const Value& value, const Value& key, Budget* budget) {
  budget->Charge(1);
  switch (value.kind()) {
    case Kind::kUndefined:
      FailRender("expected a value with items, found an undefined one");
    case Kind::kDict: {
      budget->Charge(static_cast<int64_t>(value.AsDict().entries.size() / 4));
      for (const auto& [name, item] : value.AsDict().entries) {
        if (Equal(name, key, budget)) return item;
      }
      break;
    }
    case Kind::kList:
      if (IsIntegral(key)) return ItemAt(value.AsList().items, key.AsInt());
      break;
    case Kind::kString:
      if (IsIntegral(key)) {
        budget->ChargeBytes(value.AsString().size() * 4);
        const auto characters = Characters(value.AsString());
        int64_t index = key.AsInt();
        if (index < 0) index += static_cast<int64_t>(characters.size());
        if (index < 0 || index >= static_cast<int64_t>(characters.size())) return Value();
        return Value::Of(std::string(characters[static_cast<size_t>(index)]));
      }
      break;
    default:
      break;
  }
  return key.Is(Kind::kString) ? GetAttribute(value, key.AsString(), budget) : Value();
}

Value GetSlice(const Value& value, const Value& start, const Value& stop, const Value& step, Budget* budget) {
  for (const Value* bound : {&start, &stop, &step}) {
    if (!bound->Is(Kind::kNone) && !IsIntegral(*bound)) {
      FailRender(fmt::format("expected integers as slice bounds, found {}", KindName(*bound)));
    }
  }
  const bool is_text = value.Is(Kind::kString);
  if (!is_text && !value.Is(Kind::kList)) {
    FailRender(fmt::format("expected a list or text to slice, found {}", KindName(value)));
  }
  if (is_text) budget->ChargeBytes(value.AsString().size() * 4);
  const auto characters = is_text ? Characters(value.AsString()) : std::vector<std::string_view>{};
  const auto size = static_cast<int64_t>(is_text ? characters.size() : value.AsList().items.size());
  const int64_t by = step.Is(Kind::kNone) ? 1 : step.AsInt();
  if (by == 0) FailRender("expected a slice step other than 0, found 0");
  const auto bound = [size, by](const Value& v, int64_t fallback) {
    if (v.Is(Kind::kNone)) return fallback;
    int64_t i = v.AsInt();
    if (i < 0) i = i < -size ? -1 : i + size;
    return by > 0 ? std::clamp<int64_t>(i, 0, size) : std::clamp<int64_t>(i, -1, size - 1);
  };
  const int64_t first = bound(start, by > 0 ? 0 : size - 1);
  const int64_t end = bound(stop, by > 0 ? size : -1);
  std::string text;
  Items items;
  for (int64_t i = first; by > 0 ? i < end : i > end;) {
    budget->Charge(1);
    if (is_text) {
      text += characters[static_cast<size_t>(i)];
    } else {
      items.push_back(value.AsList().items[static_cast<size_t>(i)]);
    }
    if (__builtin_add_overflow(i, by, &i)) break;
  }
  return is_text ? Value::Of(std::move(text)) : MakeList(std::move(items), budget, value.AsList().is_tuple);
}

bool Contains(const Value& container, const Value& item, Budget* budget) {
  switch (container.kind()) {
    case Kind::kUndefined:
      return false;
    case Kind::kString: {
      if (!item.Is(Kind::kString)) FailOperator("`in` a text", item, container);
      return item.AsString().empty() || !FindAll(container.AsString(), item.AsString(), 1, false, budget).empty();
    }
    case Kind::kList:
      return std::any_of(container.AsList().items.begin(), container.AsList().items.end(),
                         [&](const Value& element) { return Equal(element, item, budget); });
    case Kind::kDict:
      return std::any_of(container.AsDict().entries.begin(), container.AsDict().entries.end(),
                         [&](const auto& entry) { return Equal(entry.first, item, budget); });
    default:
      FailOperator("`in`", item, container);
  }
}

Value ApplyOperator(Op op, const Value& a, const Value& b, Budget* budget) {
  budget->Charge(1);
  switch (op) {
    case Op::kEq:
      return Value::Of(Equal(a, b, budget));
    case Op::kNe:
      return Value::Of(!Equal(a, b, budget));
    case Op::kLt:
      return Value::Of(Less(a, b, budget));
    case Op::kLe:
      return Value::Of(!Less(b, a, budget));
    case Op::kGt:
      return Value::Of(Less(b, a, budget));
    case Op::kGe:
      return Value::Of(!Less(a, b, budget));
    case Op::kIn:
      return Value::Of(Contains(b, a, budget));
    case Op::kNotIn:
      return Value::Of(!Contains(b, a, budget));
    case Op::kConcat:
      return Concat(a, b, budget);
    default:
      break;
  }
  if (a.IsNumber() && b.IsNumber()) {
    if (IsIntegral(a) && IsIntegral(b)) return IntArithmetic(op, a.AsInt(), b.AsInt());
    return FloatArithmetic(op, a.AsDouble(), b.AsDouble());
  }
  if (op == Op::kAdd && a.Is(Kind::kString) && b.Is(Kind::kString)) return Concat(a, b, budget);
  if (op == Op::kAdd && a.Is(Kind::kList) && b.Is(Kind::kList) && a.AsList().is_tuple == b.AsList().is_tuple) {
    budget->Charge(static_cast<int64_t>(a.AsList().items.size() + b.AsList().items.size()));
    Items items = a.AsList().items;
    items.insert(items.end(), b.AsList().items.begin(), b.AsList().items.end());
    return MakeList(std::move(items), budget, a.AsList().is_tuple);
  }
  if (op == Op::kMul) {
    const auto repeatable = [](const Value& v) { return v.Is(Kind::kString) || v.Is(Kind::kList); };
    if (repeatable(a) && IsIntegral(b)) return Repeat(a, b.AsInt(), budget);
    if (repeatable(b) && IsIntegral(a)) return Repeat(b, a.AsInt(), budget);
  }
  FailOperator("arithmetic", a, b);
}

}  // namespace gateskip::jinja
