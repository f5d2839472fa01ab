// SPDX-License-Identifier: Apache-2.0
// Statements, scopes, calls and expression evaluation. Scoping after jinja2: a loop body and a macro have a scope
// of their own, an `if` has not; what is set in a loop is gone in the next round, which is why namespaces exist.
#include "text/template_interpreter.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <map>

#include "text/utf8.h"

namespace gateskip::jinja {

const Value* Arguments::Find(size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
}

const Value& Arguments::Require(size_t index, std::string_view name, std::string_view callee) const {
  const Value* value = Find(index, name);
  if (value == nullptr) FailRender(fmt::format("expected argument {} of {}, found none", name, callee));
  return *value;
}

void Arguments::CheckCount(size_t max, std::string_view callee) const {
  if (positional.size() + named.size() > max) {
    FailRender(
        fmt::format("expected at most {} arguments for {}, found {}", max, callee, positional.size() + named.size()));
  }
}

namespace {

constexpr int64_t kMaxRange = 100'000;  // as jinja2's sandbox
constexpr size_t kMaxRefusalBytes = 500;
constexpr size_t kMaxNameBytes = 64;
// A step stands for about 20 ns on a 3 GHz core, so that the default limit of 5 million ends within 100 ms.
constexpr int64_t kExprSteps = 3;
constexpr int64_t kStmtSteps = 3;

enum class Flow { kNormal, kBreak, kContinue };

struct Scope {
  std::vector<std::pair<int32_t, Value>> values;

  Value* Find(int32_t name) {
    for (auto it = values.rbegin(); it != values.rend(); ++it) {
      if (it->first == name) return &it->second;
    }
    return nullptr;
  }
  void Set(int32_t name, Value value) {
    if (Value* existing = Find(name)) {
      *existing = std::move(value);
    } else {
      values.emplace_back(name, std::move(value));
    }
  }
};

int64_t ScanSteps(const Scope& scope) { return static_cast<int64_t>(scope.values.size() / 8); }

class Interpreter {
 public:
  Interpreter(const Template& tmpl, Budget* budget, Missing missing)
      : template_(tmpl), budget_(budget), strict_(missing == Missing::kError) {
    scopes_.emplace_back();
  }
  ~Interpreter() {
    // Namespaces can hold each other; emptied one by one they leave no cycle and no deep chain of destructors.
    for (const auto& names : namespaces_) names->entries.clear();
  }
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  std::string Run(const std::vector<std::pair<std::string, Value>>& variables) {
    std::map<std::string_view, int32_t> ids;
    for (size_t id = 0; id < template_.names.size(); ++id) ids.emplace(template_.names[id], static_cast<int32_t>(id));
    for (const auto& [name, value] : variables) {
      if (name == "strftime_now") {
        now_ = value;
      } else if (const auto it = ids.find(name); it != ids.end()) {
        scopes_[0].Set(it->second, value);
      }
    }
    std::string out;
    Execute(template_.body, &out);
    return out;
  }

 private:
  Flow Execute(const std::vector<Stmt>& body, std::string* out) {
    const Budget::Level level(budget_);
    for (const Stmt& stmt : body) {
      budget_->Charge(kStmtSteps);
      const Flow flow = ExecuteOne(stmt, out);
      if (flow != Flow::kNormal) return flow;
    }
    return Flow::kNormal;
  }

  Flow ExecuteOne(const Stmt& stmt, std::string* out) {
    switch (stmt.kind) {
      case StmtKind::kData:
        Append(stmt.text, out);
        return Flow::kNormal;
      case StmtKind::kOutput:
        AppendText(Used(stmt.exprs[0]), budget_, out);
        return Flow::kNormal;
      case StmtKind::kIf:
        for (const Stmt& branch : stmt.body) {
          budget_->Charge(1);
          if (branch.exprs.empty() || Truth(Used(branch.exprs[0]))) return Execute(branch.body, out);
        }
        return Flow::kNormal;
      case StmtKind::kFor:
        return ExecuteFor(stmt, out);
      case StmtKind::kSet:
        ExecuteSet(stmt);
        return Flow::kNormal;
      case StmtKind::kSetBlock: {
        std::string text;
        const Flow flow = Execute(stmt.body, &text);
        scopes_.back().Set(stmt.targets[0], Value::Of(std::move(text)));
        return flow;
      }
      case StmtKind::kMacro: {
        auto callable = std::make_shared<Callable>();
        callable->macro = &stmt;
        scopes_.back().Set(stmt.targets[0], Value::Of(std::shared_ptr<const Callable>(std::move(callable))));
        return Flow::kNormal;
      }
      case StmtKind::kBreak:
        return Flow::kBreak;
      case StmtKind::kContinue:
        return Flow::kContinue;
      case StmtKind::kBranch:
        break;
    }
    return Flow::kNormal;
  }

  void Append(const std::string& text, std::string* out) {
    if (out->size() + text.size() > budget_->max_bytes()) budget_->ChargeBytes(out->size() + text.size());
    budget_->ChargeBytes(text.size());
    *out += text;
  }

  void Assign(const std::vector<int32_t>& targets, Value value) {
    budget_->Charge(ScanSteps(scopes_.back()) * static_cast<int64_t>(targets.size()));
    if (targets.size() == 1) return scopes_.back().Set(targets[0], std::move(value));
    const auto items = ToItems(value, budget_);
    if (items->items.size() != targets.size()) {
      FailRender(fmt::format("expected {} values to unpack, found {}", targets.size(), items->items.size()));
    }
    for (size_t i = 0; i < targets.size(); ++i) scopes_.back().Set(targets[i], items->items[i]);
  }

  void ExecuteSet(const Stmt& stmt) {
    Value value = Evaluate(stmt.exprs[0]);
    if (stmt.attribute.empty()) return Assign(stmt.targets, std::move(value));
    const Value target = Lookup(stmt.targets[0]);
    if (!target.Is(Kind::kNamespace)) {
      FailRender(fmt::format("line {}: expected a namespace to set {} of, found {}", stmt.line, stmt.attribute,
                             KindName(target)));
    }
    auto& entries = target.AsNamespace().entries;
    budget_->Charge(static_cast<int64_t>(entries.size()));
    for (auto& [name, slot] : entries) {
      if (name == stmt.attribute) {
        slot = std::move(value);
        return;
      }
    }
    entries.emplace_back(stmt.attribute, std::move(value));
  }

  Flow ExecuteFor(const Stmt& stmt, std::string* out) {
    std::shared_ptr<const List> items = ToItems(Used(stmt.exprs[0]), budget_);
    if (stmt.exprs.size() > 1) {
      Items kept;
      for (const Value& item : items->items) {
        scopes_.emplace_back();
        Assign(stmt.targets, item);
        const bool keep = Truth(Used(stmt.exprs[1]));
        scopes_.pop_back();
        if (keep) kept.push_back(item);
      }
      items = MakeList(std::move(kept), budget_).ListPointer();
    }
    if (items->items.empty()) return Execute(stmt.else_body, out);
    for (size_t i = 0; i < items->items.size(); ++i) {
      budget_->Charge(kStmtSteps);
      scopes_.emplace_back();
      Assign(stmt.targets, items->items[i]);
      scopes_.back().values.emplace_back(kLoopName, Value::Of(std::make_shared<const Loop>(Loop{items, i})));
      const Flow flow = Execute(stmt.body, out);
      scopes_.pop_back();
      if (flow == Flow::kBreak) break;
    }
    return Flow::kNormal;
  }

  Value Lookup(int32_t name) {
    const std::string& text = template_.names[static_cast<size_t>(name)];
    const int32_t wanted = text == "loop" ? kLoopName : name;
    for (size_t i = scopes_.size(); i-- > frame_;) {
      budget_->Charge(ScanSteps(scopes_[i]));
      if (const Value* value = scopes_[i].Find(wanted)) return *value;
    }
    budget_->Charge(ScanSteps(scopes_[0]));
    if (const Value* value = scopes_[0].Find(wanted)) return *value;
    // Templates ask whether they are given a clock.
    if (IsFunction(text) && !(text == "strftime_now" && now_.Is(Kind::kUndefined))) {
      auto callable = std::make_shared<Callable>();
      callable->name = text;
      return Value::Of(std::shared_ptr<const Callable>(std::move(callable)));
    }
    return Noted(Value(), text);
  }

  // ---- expressions ----

  // The value of an expression that is worked with: where missing ones are errors, not Undefined.
  Value Used(const Expr& expr) {
    Value value = Evaluate(expr);
    CheckUsed(value);
    return value;
  }
  void CheckUsed(const Value& value) const {
    if (strict_ && value.Is(Kind::kUndefined)) {
      FailRender(fmt::format("expected a value, found none called {}", ReadableText(missing_, kMaxNameBytes)));
    }
  }
  Value Noted(Value value, std::string_view name) {
    if (strict_ && value.Is(Kind::kUndefined)) missing_ = name;
    return value;
  }

  Value Evaluate(const Expr& expr) {
    budget_->Charge(kExprSteps);
    switch (expr.kind) {
      case ExprKind::kLiteral:
        return expr.literal;
      case ExprKind::kName:
        return Lookup(expr.name);
      default:
        break;
    }
    const Budget::Level level(budget_);
    switch (expr.kind) {
      case ExprKind::kPostfix:
        return EvaluatePostfix(expr);
      case ExprKind::kChain: {
        Value value = Used(expr.children[0]);
        for (size_t i = 0; i < expr.ops.size(); ++i) {
          value = ApplyOperator(expr.ops[i], value, Used(expr.children[i + 1]), budget_);
        }
        return value;
      }
      case ExprKind::kCompare: {
        Value left = Used(expr.children[0]);
        for (size_t i = 0; i < expr.ops.size(); ++i) {
          Value right = Used(expr.children[i + 1]);
          if (!Truth(ApplyOperator(expr.ops[i], left, right, budget_))) return Value::Of(false);
          left = std::move(right);
        }
        return Value::Of(true);
      }
      case ExprKind::kLogic: {
        Value value;
        for (const Expr& child : expr.children) {
          value = Used(child);
          if (Truth(value) == (expr.ops[0] == Op::kOr)) break;
        }
        return value;
      }
      case ExprKind::kNot:
        return Value::Of(!Truth(Used(expr.children[0])));
      case ExprKind::kNegate:
        return ApplyOperator(Op::kSub, Value::Of(int64_t{0}), Evaluate(expr.children[0]), budget_);
      case ExprKind::kPlus:
        return ApplyOperator(Op::kAdd, Value::Of(int64_t{0}), Evaluate(expr.children[0]), budget_);
      case ExprKind::kTernary:
        if (Truth(Used(expr.children[1]))) return Evaluate(expr.children[0]);
        return expr.children.size() > 2 ? Evaluate(expr.children[2]) : Value();
      case ExprKind::kDict: {
        std::vector<std::pair<Value, Value>> entries;
        for (size_t i = 0; i + 1 < expr.children.size(); i += 2) {
          Value key = Evaluate(expr.children[i]);
          entries.emplace_back(std::move(key), Evaluate(expr.children[i + 1]));
        }
        return MakeDict(std::move(entries), budget_);
      }
      default: {
        Items items;
        for (const Expr& child : expr.children) items.push_back(Used(child));
        return MakeList(std::move(items), budget_, expr.kind == ExprKind::kTuple);
      }
    }
  }

  Value EvaluatePostfix(const Expr& expr) {
    Value value = Evaluate(expr.children[0]);
    for (const Suffix& suffix : expr.suffixes) {
      budget_->Charge(kExprSteps);
      switch (suffix.kind) {
        case SuffixKind::kAttribute:
          CheckUsed(value);
          value = Noted(GetAttribute(value, suffix.name, budget_), suffix.name);
          break;
        case SuffixKind::kItem: {
          CheckUsed(value);
          const Value key = Used(suffix.parts[0]);
          value = GetItem(value, key, budget_);
          if (strict_ && value.Is(Kind::kUndefined)) missing_ = ToText(key, budget_);
          break;
        }
        case SuffixKind::kSlice: {
          CheckUsed(value);
          const Value start = Evaluate(suffix.parts[0]);
          const Value stop = Evaluate(suffix.parts[1]);
          value = GetSlice(value, start, stop, Evaluate(suffix.parts[2]), budget_);
          break;
        }
        case SuffixKind::kFilter:
          if (suffix.name != "default" && suffix.name != "d") CheckUsed(value);
          value = Filter(suffix, value);
          break;
        case SuffixKind::kCall:
          value = Call(value, EvaluateArguments(suffix), suffix.line);
          break;
        case SuffixKind::kTest:
        case SuffixKind::kNotTest: {
          const bool holds = ApplyTest(suffix.name, value, EvaluateArguments(suffix), budget_);
          value = Value::Of(holds == (suffix.kind == SuffixKind::kTest));
          break;
        }
      }
    }
    return value;
  }

  Value Filter(const Suffix& suffix, const Value& value) {
    return ApplyFilter(suffix.name, value, EvaluateArguments(suffix), budget_);
  }

  Arguments EvaluateArguments(const Suffix& suffix) {
    Arguments arguments;
    for (const Argument& argument : suffix.arguments) {
      if (argument.name.empty()) {
        arguments.positional.push_back(Used(argument.value));
      } else {
        arguments.named.emplace_back(argument.name, Used(argument.value));
      }
    }
    return arguments;
  }

  // ---- calls ----

  Value Call(const Value& callee, const Arguments& arguments, uint32_t line) {
    if (!callee.Is(Kind::kCallable)) {
      FailRender(fmt::format("line {}: expected something to call, found {}", line, KindName(callee)));
    }
    const std::shared_ptr<const Callable>& callable = callee.AsCallable();
    if (callable->macro != nullptr) return CallMacro(*callable->macro, arguments);
    if (callable->self.Is(Kind::kUndefined)) return CallFunction(callable->name, arguments);
    return CallMethod(callable->self, callable->name, arguments, budget_);
  }

  Value CallMacro(const Stmt& macro, const Arguments& arguments) {
    if (arguments.positional.size() > macro.parameters.size()) {
      FailRender(fmt::format("expected at most {} arguments for macro {}, found {}", macro.parameters.size(),
                             macro.text, arguments.positional.size()));
    }
    for (const auto& [name, value] : arguments.named) {
      const bool known = std::any_of(macro.parameters.begin(), macro.parameters.end(),
                                     [&name = name](const Parameter& p) { return p.text == name; });
      if (!known) FailRender(fmt::format("expected a parameter of macro {}, found {}", macro.text, name));
    }
    const size_t outer_frame = frame_;
    frame_ = scopes_.size();
    scopes_.emplace_back();
    for (size_t i = 0; i < macro.parameters.size(); ++i) {
      const Parameter& parameter = macro.parameters[i];
      const Value* given = arguments.Find(i, parameter.text);
      Value value = given != nullptr ? *given : parameter.has_default ? Evaluate(parameter.value) : Value();
      scopes_.back().Set(parameter.name, std::move(value));
    }
    std::string text;
    Execute(macro.body, &text);
    scopes_.resize(frame_);
    frame_ = outer_frame;
    return Value::Of(std::move(text));
  }

  static bool IsFunction(std::string_view name) {
    static constexpr std::array<std::string_view, 5> kFunctions = {"raise_exception", "range", "namespace", "dict",
                                                                   "strftime_now"};
    return std::find(kFunctions.begin(), kFunctions.end(), name) != kFunctions.end();
  }

  Value CallFunction(const std::string& name, const Arguments& arguments) {
    if (name == "raise_exception") {
      Fail(ErrorCode::kInvalidArgument,
           "[chat template] conversation: expected one that the template takes, found \"{}\"; change the messages",
           ReadableText(ToText(arguments.Require(0, "message", name), budget_), kMaxRefusalBytes));
    }
    if (name == "range") return Range(arguments);
    if (name == "strftime_now") return FormatNow(arguments);
    std::vector<std::pair<Value, Value>> entries;
    if (!arguments.positional.empty()) {
      arguments.CheckCount(1 + arguments.named.size(), name);
      const Value& source = arguments.positional[0];
      if (!source.Is(Kind::kDict)) FailRender(fmt::format("expected a dict for {}, found {}", name, KindName(source)));
      budget_->Charge(static_cast<int64_t>(source.AsDict().entries.size()));
      entries = source.AsDict().entries;
    }
    for (const auto& [key, value] : arguments.named) entries.emplace_back(Value::Of(key), value);
    if (name == "dict") return MakeDict(std::move(entries), budget_);
    auto names = std::make_shared<Namespace>();
    for (auto& [key, value] : entries) {
      if (!key.Is(Kind::kString)) FailRender("expected texts as names of a namespace");
      names->entries.emplace_back(key.AsString(), std::move(value));
    }
    namespaces_.push_back(names);
    return Value::Of(std::move(names));
  }

  Value Range(const Arguments& arguments) {
    int64_t bounds[3] = {0, 0, 1};
    const size_t count = arguments.positional.size();
    if (count < 1 || count > 3 || !arguments.named.empty()) FailRender("expected one to three arguments for range");
    for (size_t i = 0; i < count; ++i) {
      const Value& value = arguments.positional[i];
      if (!value.Is(Kind::kInt) && !value.Is(Kind::kBool)) {
        FailRender(fmt::format("expected integers for range, found {}", KindName(value)));
      }
      bounds[count == 1 ? 1 : i] = value.AsInt();
    }
    const auto [start, stop, step] = bounds;
    if (step == 0) FailRender("expected a range step other than 0, found 0");
    Items items;
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
      if (items.size() >= static_cast<size_t>(kMaxRange)) {
        Fail(ErrorCode::kLimitExceeded,
             "[chat template] range: expected at most {} items, found more; use a shorter one", kMaxRange);
      }
      budget_->Charge(1);
      items.push_back(Value::Of(i));
      if (__builtin_add_overflow(i, step, &i)) break;
    }
    return MakeList(std::move(items), budget_);
  }

  // The clock is the caller's: variable strftime_now holds seconds since 1970 (UTC) or the finished text.
  Value FormatNow(const Arguments& arguments) {
    const Value& format = arguments.Require(0, "format", "strftime_now");
    if (!format.Is(Kind::kString)) FailRender("expected a text as the format of strftime_now");
    if (now_.Is(Kind::kString)) return now_;
    if (!now_.Is(Kind::kInt)) FailRender("expected the variable strftime_now in seconds since 1970, found another");
    const time_t seconds = static_cast<time_t>(now_.AsInt());
    std::tm parts{};
    char text[256];
    if (format.AsString().size() > 64 || gmtime_r(&seconds, &parts) == nullptr) {
      FailRender("expected a short format and a valid time for strftime_now");
    }
    const size_t length = std::strftime(text, sizeof(text), format.AsString().c_str(), &parts);
    return Value::Of(std::string(text, length));
  }

  static constexpr int32_t kLoopName = -2;

  const Template& template_;
  Budget* budget_;
  const bool strict_;
  std::string missing_;        // the last name, attribute or item that was not there
  std::vector<Scope> scopes_;  // [0] global; from frame_ on those of the running macro
  size_t frame_ = 0;
  Value now_;
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

}  // namespace

std::string RenderTemplate(const Template& tmpl, const std::vector<std::pair<std::string, Value>>& variables,
                           Budget* budget, Missing missing) {
  return Interpreter(tmpl, budget, missing).Run(variables);
}

}  // namespace gateskip::jinja
