// SPDX-License-Identifier: Apache-2.0
// Value semantics: truth, equality, order, str() and json.dumps(), after Python 3.
#include "text/template_value.h"

#include <algorithm>
#include <cmath>

#include "text/utf8.h"

namespace gateskip::jinja {

void Budget::FailSteps() {
  Fail(ErrorCode::kLimitExceeded,
       "[chat template] rendering: expected to end within the step limit, found it still running; the template is "
       "hostile or the conversation is far too long");
}
void Budget::FailBytes() const {
  Fail(ErrorCode::kLimitExceeded,
       "[chat template] rendering: expected texts of at most {} bytes, found a longer one; the "
       "template is hostile or the conversation is far too long",
       max_bytes_);
}
void Budget::FailDepth() const {
  Fail(ErrorCode::kLimitExceeded,
       "[chat template] nesting: expected at most {} levels, found more; use a simpler template", max_depth_);
}

void FailRender(const std::string& what) {
  constexpr size_t kMaxMessageBytes = 500;
  Fail(ErrorCode::kInvalidArgument, "[chat template] rendering: {}; the template does not fit this conversation",
       ReadableText(what, kMaxMessageBytes));
}

namespace {

// Loops and bound methods count too: both keep a list alive, and a chain of them (ns.x = [ns.x.index], over and over)
// would be destroyed by recursion as deep as it is long.
int DepthOf(const Value& value) {
  switch (value.kind()) {
    case Kind::kList:
      return value.AsList().depth;
    case Kind::kDict:
      return value.AsDict().depth;
    case Kind::kLoop:
      return value.AsLoop().items->depth;
    case Kind::kCallable:
      return DepthOf(value.AsCallable()->self);  // never a callable itself
    default:
      return 0;
  }
}

void Put(std::string_view text, Budget* budget, std::string* out) {
  if (out->size() + text.size() > budget->max_bytes()) budget->ChargeBytes(out->size() + text.size());
  budget->ChargeBytes(text.size());
  out->append(text);
}

std::string FloatText(double d) {
  if (std::isnan(d)) return "nan";
  if (std::isinf(d)) return d > 0 ? "inf" : "-inf";
  std::string text = fmt::format("{}", d);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string QuotePython(std::string_view text) {
  const char quote = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (c == quote || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < 0x20 || byte == 0x7F) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  out += quote;
  return out;
}

void AppendJsonEscape(uint32_t unit, std::string* out) { *out += fmt::format("\\u{:04x}", unit); }

std::string QuoteJson(std::string_view text, bool ensure_ascii) {
  std::string out = "\"";
  for (size_t pos = 0; pos < text.size(); ++pos) {
    const char c = text[pos];
    const auto byte = static_cast<uint8_t>(c);
    if (ensure_ascii && byte >= 0x80) {
      const Utf8Char character = DecodeUtf8(text, pos);
      const uint32_t code = character.code == kInvalidCodePoint ? 0xFFFDU : character.code;
      if (code >= 0x10000) {
        AppendJsonEscape(0xD800 + ((code - 0x10000) >> 10), &out);
        AppendJsonEscape(0xDC00 + ((code - 0x10000) & 0x3FF), &out);
      } else {
        AppendJsonEscape(code, &out);
      }
      pos += character.length - 1;
      continue;
    }
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (byte < 0x20) {
          AppendJsonEscape(byte, &out);
        } else {
          out += c;
        }
    }
  }
  return out + "\"";
}

void AppendRepr(const Value& value, Budget* budget, std::string* out) {
  const Budget::Level level(budget);
  switch (value.kind()) {
    case Kind::kString:
      budget->ChargeBytes(value.AsString().size());
      return Put(QuotePython(value.AsString()), budget, out);
    case Kind::kList: {
      const List& list = value.AsList();
      Put(list.is_tuple ? "(" : "[", budget, out);
      for (size_t i = 0; i < list.items.size(); ++i) {
        if (i > 0) Put(", ", budget, out);
        AppendRepr(list.items[i], budget, out);
      }
      if (list.is_tuple && list.items.size() == 1) Put(",", budget, out);
      return Put(list.is_tuple ? ")" : "]", budget, out);
    }
    case Kind::kDict: {
      Put("{", budget, out);
      bool first = true;
      for (const auto& [key, item] : value.AsDict().entries) {
        if (!first) Put(", ", budget, out);
        first = false;
        AppendRepr(key, budget, out);
        Put(": ", budget, out);
        AppendRepr(item, budget, out);
      }
      return Put("}", budget, out);
    }
    case Kind::kUndefined:
      return Put("Undefined", budget, out);
    default:
      return AppendText(value, budget, out);
  }
}

struct JsonWriter {
  const JsonStyle& style;
  Budget* budget;
  std::string out;

  void Break(int level) {
    if (style.indent < 0) return;
    Put("\n", budget, &out);
    const size_t width = static_cast<size_t>(style.indent) * static_cast<size_t>(level);
    budget->ChargeBytes(width);
    Put(std::string(width, ' '), budget, &out);
  }

  void WriteKey(const Value& key) {
    if (key.Is(Kind::kString)) {
      budget->ChargeBytes(key.AsString().size());
      return Put(QuoteJson(key.AsString(), style.ensure_ascii), budget, &out);
    }
    const JsonStyle plain_style;
    JsonWriter plain{plain_style, budget, {}};
    plain.Write(key, 0);
    Put("\"" + plain.out + "\"", budget, &out);
  }

  void Write(const Value& value, int level) {
    const Budget::Level guard(budget);
    switch (value.kind()) {
      case Kind::kNone:
        return Put("null", budget, &out);
      case Kind::kBool:
        return Put(value.AsBool() ? "true" : "false", budget, &out);
      case Kind::kInt:
        return Put(fmt::format("{}", value.AsInt()), budget, &out);
      case Kind::kFloat: {
        const double d = value.AsDouble();
        if (std::isfinite(d)) return Put(FloatText(d), budget, &out);
        return Put(std::isnan(d) ? "NaN" : d > 0 ? "Infinity" : "-Infinity", budget, &out);
      }
      case Kind::kString:
        budget->ChargeBytes(value.AsString().size());
        return Put(QuoteJson(value.AsString(), style.ensure_ascii), budget, &out);
      case Kind::kList:
        return WriteList(value.AsList(), level);
      case Kind::kDict:
        return WriteDict(value.AsDict(), level);
      default:
        FailRender(fmt::format("expected a value that JSON can hold, found {}", KindName(value)));
    }
  }

  void WriteList(const List& list, int level) {
    Put("[", budget, &out);
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) Put(style.comma, budget, &out);
      Break(level + 1);
      Write(list.items[i], level + 1);
    }
    if (!list.items.empty()) Break(level);
    Put("]", budget, &out);
  }

  void WriteDict(const Dict& dict, int level) {
    std::vector<const std::pair<Value, Value>*> order;
    budget->Charge(static_cast<int64_t>(dict.entries.size()));
    for (const auto& entry : dict.entries) order.push_back(&entry);
    if (style.sort_keys) {
      std::stable_sort(order.begin(), order.end(),
                       [this](const auto* a, const auto* b) { return Less(a->first, b->first, budget); });
    }
    Put("{", budget, &out);
    for (size_t i = 0; i < order.size(); ++i) {
      if (i > 0) Put(style.comma, budget, &out);
      Break(level + 1);
      WriteKey(order[i]->first);
      Put(style.colon, budget, &out);
      Write(order[i]->second, level + 1);
    }
    if (!order.empty()) Break(level);
    Put("}", budget, &out);
  }
};

}  // namespace

const Value* Dict::Find(std::string_view key) const {
  for (const auto& [name, value] : entries) {
    if (name.Is(Kind::kString) && name.AsString() == key) return &value;
  }
  return nullptr;
}

Value MakeList(Items items, Budget* budget, bool is_tuple) {
  budget->Charge(1 + static_cast<int64_t>(items.size()));
  auto list = std::make_shared<List>();
  for (const Value& item : items) list->depth = std::max(list->depth, DepthOf(item) + 1);
  budget->CheckDepth(list->depth);
  list->items = std::move(items);
  list->is_tuple = is_tuple;
  return Value::Of(std::shared_ptr<const List>(std::move(list)));
}

Value MakeDict(std::vector<std::pair<Value, Value>> entries, Budget* budget) {
  auto dict = std::make_shared<Dict>();
  for (auto& [key, value] : entries) {
    budget->Charge(1 + static_cast<int64_t>(dict->entries.size() / 4));
    if (!key.Is(Kind::kString) && !key.IsNumber() && !key.Is(Kind::kNone)) {
      FailRender(fmt::format("expected a text or number as dict key, found {}", KindName(key)));
    }
    dict->depth = std::max(dict->depth, DepthOf(value) + 1);
    const auto same = std::find_if(dict->entries.begin(), dict->entries.end(), [&, &wanted = key](const auto& entry) {
      return Equal(entry.first, wanted, budget);
    });
    if (same != dict->entries.end()) {
      same->second = std::move(value);
    } else {
      dict->entries.emplace_back(std::move(key), std::move(value));
    }
  }
  budget->CheckDepth(dict->depth);
  return Value::Of(std::shared_ptr<const Dict>(std::move(dict)));
}

std::string_view KindName(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return "an undefined value";
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kList:
      return value.AsList().is_tuple ? "tuple" : "list";
    case Kind::kDict:
      return "dict";
    case Kind::kNamespace:
      return "namespace";
    case Kind::kLoop:
      return "loop";
    case Kind::kCallable:
      return "function";
  }
  return "value";
}

bool Truth(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return value.AsInt() != 0;
    case Kind::kFloat:
      return value.AsDouble() != 0.0;
    case Kind::kString:
      return !value.AsString().empty();
    case Kind::kList:
      return !value.AsList().items.empty();
    case Kind::kDict:
      return !value.AsDict().entries.empty();
    default:
      return true;
  }
}

bool Equal(const Value& a, const Value& b, Budget* budget) {
  budget->Charge(1);
  if (a.IsNumber() && b.IsNumber()) {
    if (a.Is(Kind::kFloat) || b.Is(Kind::kFloat)) return a.AsDouble() == b.AsDouble();
    return a.AsInt() == b.AsInt();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kString:
      if (a.AsString().size() != b.AsString().size()) return false;
      budget->ChargeBytes(a.AsString().size());
      return a.AsString() == b.AsString();
    case Kind::kList: {
      const List& x = a.AsList();
      const List& y = b.AsList();
      if (x.is_tuple != y.is_tuple || x.items.size() != y.items.size()) return false;
      for (size_t i = 0; i < x.items.size(); ++i) {
        if (!Equal(x.items[i], y.items[i], budget)) return false;
      }
      return true;
    }
    case Kind::kDict: {
      const Dict& x = a.AsDict();
      const Dict& y = b.AsDict();
      if (x.entries.size() != y.entries.size()) return false;
      for (const auto& [key, value] : x.entries) {
        const auto match = std::find_if(y.entries.begin(), y.entries.end(), [&, &wanted = key](const auto& entry) {
          return Equal(entry.first, wanted, budget);
        });
        if (match == y.entries.end() || !Equal(match->second, value, budget)) return false;
      }
      return true;
    }
    case Kind::kNamespace:
      return &a.AsNamespace() == &b.AsNamespace();
    case Kind::kLoop:
      return &a.AsLoop() == &b.AsLoop();
    case Kind::kCallable:
      return a.AsCallable() == b.AsCallable();
    default:
      return true;  // Undefined and None equal themselves
  }
}

bool Less(const Value& a, const Value& b, Budget* budget) {
  budget->Charge(1);
  if (a.IsNumber() && b.IsNumber()) {
    if (a.Is(Kind::kFloat) || b.Is(Kind::kFloat)) return a.AsDouble() < b.AsDouble();
    return a.AsInt() < b.AsInt();
  }
  if (a.Is(Kind::kString) && b.Is(Kind::kString)) {
    budget->ChargeBytes(std::min(a.AsString().size(), b.AsString().size()));
    return a.AsString() < b.AsString();  // bytes of UTF-8 order as code points do
  }
  if (a.Is(Kind::kList) && b.Is(Kind::kList) && a.AsList().is_tuple == b.AsList().is_tuple) {
    const Items& x = a.AsList().items;
    const Items& y = b.AsList().items;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!Equal(x[i], y[i], budget)) return Less(x[i], y[i], budget);
    }
    return x.size() < y.size();
  }
  FailRender(fmt::format("expected two values that can be ordered, found {} and {}", KindName(a), KindName(b)));
}

void AppendText(const Value& value, Budget* budget, std::string* out) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return;
    case Kind::kNone:
      return Put("None", budget, out);
    case Kind::kBool:
      return Put(value.AsBool() ? "True" : "False", budget, out);
    case Kind::kInt:
      return Put(fmt::format("{}", value.AsInt()), budget, out);
    case Kind::kFloat:
      return Put(FloatText(value.AsDouble()), budget, out);
    case Kind::kString:
      return Put(value.AsString(), budget, out);
    case Kind::kList:
    case Kind::kDict:
      return AppendRepr(value, budget, out);
    case Kind::kNamespace:
      return Put("<namespace>", budget, out);
    case Kind::kLoop:
      return Put("<loop>", budget, out);
    case Kind::kCallable:
      return Put("<function>", budget, out);
  }
}

std::string ToText(const Value& value, Budget* budget) {
  std::string out;
  AppendText(value, budget, &out);
  return out;
}

std::string ToJson(const Value& value, const JsonStyle& style, Budget* budget) {
  JsonWriter writer{style, budget, {}};
  writer.Write(value, 0);
  return std::move(writer.out);
}

size_t CountCharacters(std::string_view text) {
  size_t count = 0;
  for (size_t pos = 0; pos < text.size(); ++count) pos += DecodeUtf8(text, pos).length;
  return count;
}

std::vector<std::string_view> Characters(std::string_view text) {
  std::vector<std::string_view> characters;
  for (size_t pos = 0; pos < text.size();) {
    const size_t length = DecodeUtf8(text, pos).length;
    characters.push_back(text.substr(pos, length));
    pos += length;
  }
  return characters;
}

std::shared_ptr<const List> ToItems(const Value& value, Budget* budget) {
  switch (value.kind()) {
    case Kind::kList:
      return value.ListPointer();
    case Kind::kUndefined:
      return std::make_shared<const List>();
    case Kind::kDict: {
      Items keys;
      budget->Charge(static_cast<int64_t>(value.AsDict().entries.size()));
      for (const auto& entry : value.AsDict().entries) keys.push_back(entry.first);
      return MakeList(std::move(keys), budget).ListPointer();
    }
    case Kind::kString: {
      budget->Charge(4 * static_cast<int64_t>(value.AsString().size()));  // about 100 bytes of memory for each
      Items items;
      for (const std::string_view c : Characters(value.AsString())) items.push_back(Value::Of(std::string(c)));
      return MakeList(std::move(items), budget).ListPointer();
    }
    default:
      FailRender(fmt::format("expected something to iterate over, found {}", KindName(value)));
  }
}

}  // namespace gateskip::jinja
