// SPDX-License-Identifier: Apache-2.0
// Values of the template language: Python's str, int, float, bool, None, list, tuple and dict as far as chat
// templates see them, plus jinja2's Undefined, namespace, loop and callables. Immutable once built, except
// namespaces. Everything whose cost depends on data is charged to a Budget before it is done.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/check.h"

namespace gateskip::jinja {

// What one render may still spend. Charge() throws Error(kLimitExceeded).
class Budget {
 public:
  Budget(int64_t steps, size_t max_bytes, int max_depth)
      : steps_(steps), max_bytes_(max_bytes), max_depth_(max_depth) {}

  void Charge(int64_t steps) {
    steps_ -= steps;
    if (steps_ < 0) FailSteps();
  }
  // Before `bytes` of text are made or copied.
  void ChargeBytes(size_t bytes) {
    if (bytes > max_bytes_) FailBytes();
    Charge(1 + static_cast<int64_t>(bytes / kBytesPerStep));
  }
  void CheckDepth(int depth) const {
    if (depth > max_depth_) FailDepth();
  }
  size_t max_bytes() const { return max_bytes_; }

  // One level of recursion, for as long as it lives.
  class Level {
   public:
    explicit Level(Budget* budget) : budget_(budget) { budget_->CheckDepth(++budget_->depth_); }
    ~Level() { --budget_->depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Budget* budget_;
  };

 private:
  static constexpr size_t kBytesPerStep = 16;
  [[noreturn]] static void FailSteps();
  [[noreturn]] void FailBytes() const;
  [[noreturn]] void FailDepth() const;

  int64_t steps_;
  size_t max_bytes_;
  int max_depth_;
  int depth_ = 0;
};

class Value;
using Items = std::vector<Value>;

struct List {
  Items items;
  int depth = 1;  // nesting, capped so that printing and destruction cannot recurse far
  bool is_tuple = false;
};
struct Dict {
  std::vector<std::pair<Value, Value>> entries;  // in insertion order
  int depth = 1;
  const Value* Find(std::string_view key) const;
};
struct Namespace {
  std::vector<std::pair<std::string, Value>> entries;
};
struct Loop {
  std::shared_ptr<const List> items;
  size_t index = 0;
};
struct Stmt;
struct Callable;

enum class Kind : uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kDict,
  kNamespace,
  kLoop,
  kCallable,
};

struct Undefined {};
struct None {};

class Value {
 public:
  Value() = default;  // Undefined
  static Value MakeNone() { return Value(Data(None{})); }
  static Value Of(bool b) { return Value(Data(b)); }
  static Value Of(int64_t i) { return Value(Data(i)); }
  static Value Of(double d) { return Value(Data(d)); }
  static Value Of(std::string s) { return Value(Data(std::make_shared<const std::string>(std::move(s)))); }
  static Value Of(std::shared_ptr<const List> list) { return Value(Data(std::move(list))); }
  static Value Of(std::shared_ptr<const Dict> dict) { return Value(Data(std::move(dict))); }
  static Value Of(std::shared_ptr<Namespace> names) { return Value(Data(std::move(names))); }
  static Value Of(std::shared_ptr<const Loop> loop) { return Value(Data(std::move(loop))); }
  static Value Of(std::shared_ptr<const Callable> callable) { return Value(Data(std::move(callable))); }

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool Is(Kind kind) const { return this->kind() == kind; }
  bool IsNumber() const { return Is(Kind::kBool) || Is(Kind::kInt) || Is(Kind::kFloat); }

  bool AsBool() const { return std::get<bool>(data_); }
  int64_t AsInt() const { return Is(Kind::kBool) ? (AsBool() ? 1 : 0) : std::get<int64_t>(data_); }
  double AsDouble() const { return Is(Kind::kFloat) ? std::get<double>(data_) : static_cast<double>(AsInt()); }
  const std::string& AsString() const { return *std::get<std::shared_ptr<const std::string>>(data_); }
  const List& AsList() const { return *ListPointer(); }
  const std::shared_ptr<const List>& ListPointer() const { return std::get<std::shared_ptr<const List>>(data_); }
  const Dict& AsDict() const { return *std::get<std::shared_ptr<const Dict>>(data_); }
  Namespace& AsNamespace() const { return *std::get<std::shared_ptr<Namespace>>(data_); }
  const Loop& AsLoop() const { return *std::get<std::shared_ptr<const Loop>>(data_); }
  const std::shared_ptr<const Callable>& AsCallable() const { return std::get<std::shared_ptr<const Callable>>(data_); }

 private:
  using Data = std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const std::string>,
                            std::shared_ptr<const List>, std::shared_ptr<const Dict>, std::shared_ptr<Namespace>,
                            std::shared_ptr<const Loop>, std::shared_ptr<const Callable>>;
  explicit Value(Data data) : data_(std::move(data)) {}
  Data data_;
};

struct Callable {
  const Stmt* macro = nullptr;  // a macro of the template, or
  std::string name;             // a global function, or a method
  Value self;                   // of this value
};

// Builders that check depth and charge per element.
Value MakeList(Items items, Budget* budget, bool is_tuple = false);
Value MakeDict(std::vector<std::pair<Value, Value>> entries, Budget* budget);  // later keys replace earlier ones

std::string_view KindName(const Value& value);  // as Python's type(x).__name__
bool Truth(const Value& value);
bool Equal(const Value& a, const Value& b, Budget* budget);
// a < b for numbers, strings and lists; throws Error(kInvalidArgument) for what Python does not order.
bool Less(const Value& a, const Value& b, Budget* budget);

// str(value), as printed by {{ }}.
std::string ToText(const Value& value, Budget* budget);
void AppendText(const Value& value, Budget* budget, std::string* out);
// The arguments of json.dumps.
struct JsonStyle {
  int indent = -1;  // < 0: one line
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::string comma = ", ";
  std::string colon = ": ";
};
std::string ToJson(const Value& value, const JsonStyle& style, Budget* budget);

// What iterating over a value yields: list items, dict keys, characters; nothing for Undefined.
std::shared_ptr<const List> ToItems(const Value& value, Budget* budget);

// The characters of a text, one string_view each; an invalid byte is one character.
std::vector<std::string_view> Characters(std::string_view text);
size_t CountCharacters(std::string_view text);

[[noreturn]] void FailRender(const std::string& what);

}  // namespace gateskip::jinja
