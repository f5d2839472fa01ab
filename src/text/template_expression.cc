// SPDX-License-Identifier: Apache-2.0
// Expressions by recursive descent; precedence after jinja2/parser.py (3.1): ternary, or, and, not, compare, + -, ~,
// * / // %, **, unary, postfix, filters and tests. Chains are read by loops, so that only brackets recurse.
#include "text/template_expression.h"

#include <charconv>
#include <unordered_map>

#include "base/check.h"

namespace gateskip::jinja {
namespace {

// Brackets and blocks open at once. Each level costs at most six stack frames here and in the interpreter.
constexpr int kMaxNesting = 48;

Expr Unwrap(Expr chain) {
  if (chain.children.size() != 1) return chain;
  Expr only = std::move(chain.children[0]);
  return only;
}

// Levels: 0 + -, 1 ~, 2 * / // %, 3 **.
bool OpOfLevel(const Token& token, int level, Op* op) {
  struct Row {
    std::string_view text;
    int level;
    Op op;
  };
  static constexpr Row kRows[] = {{"+", 0, Op::kAdd}, {"-", 0, Op::kSub}, {"~", 1, Op::kConcat},
                                  {"*", 2, Op::kMul}, {"/", 2, Op::kDiv}, {"//", 2, Op::kFloorDiv},
                                  {"%", 2, Op::kMod}, {"**", 3, Op::kPow}};
  if (token.kind != TokenKind::kOperator) return false;
  for (const Row& row : kRows) {
    if (row.level == level && row.text == token.text) {
      *op = row.op;
      return true;
    }
  }
  return false;
}

}  // namespace

ExpressionParser::Nested::Nested(ExpressionParser* parser) : parser_(parser) {
  if (++parser_->depth_ <= kMaxNesting) return;
  Fail(ErrorCode::kLimitExceeded,
       "[chat template] line {}: expected at most {} nested brackets and blocks, found more; use a simpler template",
       parser_->Peek().line, kMaxNesting);
}

bool ExpressionParser::TakeOperator(std::string_view text) {
  if (!IsOperator(text)) return false;
  Skip();
  return true;
}
bool ExpressionParser::TakeWord(std::string_view text) {
  if (!IsWord(text)) return false;
  Skip();
  return true;
}
void ExpressionParser::Expect(TokenKind kind, std::string_view what) {
  if (Peek().kind != kind) FailAt(Peek(), what);
  Skip();
}
void ExpressionParser::ExpectOperator(std::string_view text) {
  if (!TakeOperator(text)) FailAt(Peek(), text);
}
std::string ExpressionParser::ExpectName(std::string_view what) {
  if (Peek().kind != TokenKind::kName) FailAt(Peek(), what);
  return Next().text;
}
void ExpressionParser::FailAt(const Token& token, std::string_view expected) {
  FailSyntax(token.line, token.column, expected, token.text.empty() ? "nothing" : token.text);
}

int32_t ExpressionParser::NameId(const std::string& name) {
  const auto [it, added] = ids_.try_emplace(name, static_cast<int32_t>(names_.size()));
  if (added) names_.push_back(name);
  return it->second;
}

Expr ExpressionParser::StartExpr(ExprKind kind) const {
  Expr expr;
  expr.kind = kind;
  expr.line = Peek().line;
  return expr;
}

Expr ExpressionParser::ParseTuple(bool with_condition) {
  Expr first = with_condition ? ParseExpr() : ParseLogic();
  if (!IsOperator(",")) return first;
  Expr tuple = StartExpr(ExprKind::kTuple);
  tuple.children.push_back(std::move(first));
  while (TakeOperator(",")) {
    if (Peek().kind == TokenKind::kBlockEnd || Peek().kind == TokenKind::kOutputEnd || IsOperator(")")) break;
    tuple.children.push_back(with_condition ? ParseExpr() : ParseLogic());
  }
  return tuple;
}

Expr ExpressionParser::ParseExpr() {
  const Nested nested(this);
  Expr value = ParseLogic();
  // a if b else c if d else e nests to the right, one level for each.
  if (!TakeWord("if")) return value;
  Expr ternary = StartExpr(ExprKind::kTernary);
  ternary.children.push_back(std::move(value));
  ternary.children.push_back(ParseLogic());
  if (TakeWord("else")) ternary.children.push_back(ParseExpr());
  return ternary;
}

// `or` over `and` over `not` over comparisons, each chain flat.
Expr ExpressionParser::ParseLogic() {
  Expr any = StartExpr(ExprKind::kLogic);
  do {
    Expr all = StartExpr(ExprKind::kLogic);
    do {
      all.children.push_back(ParseNot());
    } while (TakeWord("and"));
    all.ops.push_back(Op::kAnd);
    any.children.push_back(Unwrap(std::move(all)));
  } while (TakeWord("or"));
  any.ops.push_back(Op::kOr);
  return Unwrap(std::move(any));
}

Expr ExpressionParser::ParseNot() {
  bool negate = false;
  bool any = false;
  for (; TakeWord("not"); any = true) negate = !negate;
  Expr expr = ParseCompare();
  if (!any) return expr;
  // not not x is a truth value too, so an even count keeps two of them
  for (int i = negate ? 1 : 2; i > 0; --i) {
    Expr outer = StartExpr(ExprKind::kNot);
    outer.children.push_back(std::move(expr));
    expr = std::move(outer);
  }
  return expr;
}

Expr ExpressionParser::ParseCompare() {
  static const std::unordered_map<std::string_view, Op> kOps = {{"==", Op::kEq}, {"!=", Op::kNe}, {"<", Op::kLt},
                                                                {"<=", Op::kLe}, {">", Op::kGt},  {">=", Op::kGe}};
  Expr chain = StartExpr(ExprKind::kCompare);
  chain.children.push_back(ParseChain(0));
  while (true) {
    const auto it = Peek().kind == TokenKind::kOperator ? kOps.find(Peek().text) : kOps.end();
    if (it != kOps.end()) {
      chain.ops.push_back(it->second);
      Skip();
    } else if (TakeWord("in")) {
      chain.ops.push_back(Op::kIn);
    } else if (IsWord("not") && IsWord("in", 1)) {
      chain.ops.push_back(Op::kNotIn);
      Skip(2);
    } else {
      return Unwrap(std::move(chain));
    }
    chain.children.push_back(ParseChain(0));
  }
}

Expr ExpressionParser::ParseChain(int level) {
  if (level == 4) return ParseUnary(true);
  Expr chain = StartExpr(ExprKind::kChain);
  chain.children.push_back(ParseChain(level + 1));
  for (Op op{}; OpOfLevel(Peek(), level, &op);) {
    Skip();
    chain.ops.push_back(op);
    chain.children.push_back(ParseChain(level + 1));
  }
  return Unwrap(std::move(chain));
}

Expr ExpressionParser::ParseUnary(bool with_filters) {
  Expr expr;
  if (IsOperator("-") || IsOperator("+")) {
    const Nested nested(this);
    expr = StartExpr(Next().text == "-" ? ExprKind::kNegate : ExprKind::kPlus);
    expr.children.push_back(ParseUnary(false));
  } else {
    expr = ParsePrimary();
  }
  return ParseSuffixes(std::move(expr), with_filters);
}

Expr ExpressionParser::ParseLiteralNumber() {
  const Token token = Next();
  Expr expr = StartExpr(ExprKind::kLiteral);
  const char* begin = token.text.data();
  const char* end = begin + token.text.size();
  if (token.kind == TokenKind::kInteger) {
    int64_t value = 0;
    if (std::from_chars(begin, end, value).ec != std::errc()) FailAt(token, "an integer below 2^63");
    expr.literal = Value::Of(value);
  } else {
    double value = 0;
    if (std::from_chars(begin, end, value).ec != std::errc()) FailAt(token, "a number that fits a double");
    expr.literal = Value::Of(value);
  }
  return expr;
}

Expr ExpressionParser::ParsePrimary() {
  const Token token = Peek();
  Expr expr = StartExpr(ExprKind::kLiteral);
  switch (token.kind) {
    case TokenKind::kName:
      Skip();
      if (token.text == "true" || token.text == "True") {
        expr.literal = Value::Of(true);
      } else if (token.text == "false" || token.text == "False") {
        expr.literal = Value::Of(false);
      } else if (token.text == "none" || token.text == "None") {
        expr.literal = Value::MakeNone();
      } else {
        expr.kind = ExprKind::kName;
        expr.name = NameId(token.text);
      }
      return expr;
    case TokenKind::kString: {
      std::string text;
      while (Peek().kind == TokenKind::kString) text += Next().text;
      expr.literal = Value::Of(std::move(text));
      return expr;
    }
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return ParseLiteralNumber();
    default:
      break;
  }
  if (TakeOperator("(")) {
    if (TakeOperator(")")) {
      expr.kind = ExprKind::kTuple;
      return expr;
    }
    expr = ParseTuple();
    ExpectOperator(")");
    return expr;
  }
  if (TakeOperator("[")) {
    expr.kind = ExprKind::kList;
    while (!IsOperator("]")) {
      expr.children.push_back(ParseExpr());
      if (!TakeOperator(",")) break;
    }
    ExpectOperator("]");
    return expr;
  }
  if (TakeOperator("{")) {
    expr.kind = ExprKind::kDict;
    while (!IsOperator("}")) {
      expr.children.push_back(ParseExpr());
      ExpectOperator(":");
      expr.children.push_back(ParseExpr());
      if (!TakeOperator(",")) break;
    }
    ExpectOperator("}");
    return expr;
  }
  FailAt(token, "an expression");
}

Expr ExpressionParser::ParseSuffixes(Expr base, bool with_filters) {
  std::vector<Suffix> suffixes;
  while (true) {
    Suffix suffix;
    suffix.line = Peek().line;
    if (TakeOperator(".")) {
      if (Peek().kind == TokenKind::kInteger) {
        suffix.kind = SuffixKind::kItem;
        suffix.parts.push_back(ParsePrimary());
      } else {
        suffix.name = ExpectName("an attribute");
      }
    } else if (TakeOperator("[")) {
      ParseSubscript(&suffix);
    } else if (IsOperator("(")) {
      suffix.kind = SuffixKind::kCall;
      ParseArguments(&suffix);
    } else if (with_filters && TakeOperator("|")) {
      suffix.kind = SuffixKind::kFilter;
      suffix.name = ExpectName("a filter");
      if (IsOperator("(")) ParseArguments(&suffix);
    } else if (with_filters && TakeWord("is")) {
      ParseTest(&suffix);
    } else {
      break;
    }
    suffixes.push_back(std::move(suffix));
  }
  if (suffixes.empty()) return base;
  Expr expr = StartExpr(ExprKind::kPostfix);
  expr.line = base.line;
  expr.children.push_back(std::move(base));
  expr.suffixes = std::move(suffixes);
  return expr;
}

void ExpressionParser::ParseSubscript(Suffix* suffix) {
  suffix->kind = SuffixKind::kItem;
  Expr nothing = StartExpr(ExprKind::kLiteral);
  nothing.literal = Value::MakeNone();
  bool slice = false;
  if (IsOperator("]")) FailAt(Peek(), "a subscript");
  for (int part = 0; part < 3; ++part) {
    suffix->parts.push_back(IsOperator(":") || IsOperator("]") ? nothing : ParseTuple());
    if (!TakeOperator(":")) break;
    slice = true;
    suffix->kind = SuffixKind::kSlice;
  }
  if (slice) suffix->parts.resize(3, nothing);
  ExpectOperator("]");
}

void ExpressionParser::ParseArguments(Suffix* suffix) {
  ExpectOperator("(");
  while (!IsOperator(")")) {
    if (IsOperator("*") || IsOperator("**")) {
      Fail(ErrorCode::kUnsupported,
           "[chat template] line {}: expected plain arguments, found * unpacking; use a simpler template", Peek().line);
    }
    Argument argument;
    if (Peek().kind == TokenKind::kName && IsOperator("=", 1)) {
      argument.name = Next().text;
      Skip();
    } else if (!suffix->arguments.empty() && !suffix->arguments.back().name.empty()) {
      FailAt(Peek(), "named arguments after the first named one");
    }
    argument.value = ParseExpr();
    suffix->arguments.push_back(std::move(argument));
    if (!TakeOperator(",")) break;
  }
  ExpectOperator(")");
}

void ExpressionParser::ParseTest(Suffix* suffix) {
  suffix->kind = TakeWord("not") ? SuffixKind::kNotTest : SuffixKind::kTest;
  suffix->name = ExpectName("a test");
  if (IsOperator("(")) return ParseArguments(suffix);
  const Token& token = Peek();
  const bool starts_value =
      token.kind == TokenKind::kString || token.kind == TokenKind::kInteger || token.kind == TokenKind::kFloat ||
      IsOperator("[") || IsOperator("{") ||
      (token.kind == TokenKind::kName && token.text != "else" && token.text != "or" && token.text != "and" &&
       token.text != "is" && token.text != "if" && token.text != "in" && token.text != "not");
  if (!starts_value) return;
  const Nested nested(this);
  suffix->arguments.push_back({"", ParseSuffixes(ParsePrimary(), false)});
}

}  // namespace gateskip::jinja
