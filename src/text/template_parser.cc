// SPDX-License-Identifier: Apache-2.0
// Recursive descent over the tokens; precedence after jinja2/parser.py (3.1): ternary, or, and, not, compare,
// + -, ~, * / // %, unary, **, postfix, filters and tests.
#include "text/template_parser.h"

#include <algorithm>
#include <charconv>
#include <unordered_map>

#include "base/check.h"
#include "text/template_lexer.h"

namespace gateskip::jinja {
namespace {

// Brackets and blocks open at once. Each level costs at most six stack frames here and in the interpreter.
constexpr int kMaxNesting = 48;
constexpr size_t kMaxTemplateBytes = size_t{1} << 19;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Template Run() {
    result_.body = ParseBody({});
    return std::move(result_);
  }

 private:
  struct Nested {
    explicit Nested(Parser* parser) : parser_(parser) {
      if (++parser_->depth_ > kMaxNesting) {
        Fail(ErrorCode::kLimitExceeded,
             "[chat template] line {}: expected at most {} nested brackets and blocks, "
             "found more",
             parser_->Peek().line, kMaxNesting);
      }
    }
    ~Nested() { --parser_->depth_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;
    Parser* parser_;
  };

  const Token& Peek(size_t ahead = 0) const { return tokens_[std::min(index_ + ahead, tokens_.size() - 1)]; }
  Token Next() { return tokens_[index_ < tokens_.size() - 1 ? index_++ : index_]; }
  bool IsOperator(std::string_view text, size_t ahead = 0) const {
    return Peek(ahead).kind == TokenKind::kOperator && Peek(ahead).text == text;
  }
  bool IsWord(std::string_view text, size_t ahead = 0) const {
    return Peek(ahead).kind == TokenKind::kName && Peek(ahead).text == text;
  }
  bool TakeOperator(std::string_view text) {
    if (!IsOperator(text)) return false;
    ++index_;
    return true;
  }
  bool TakeWord(std::string_view text) {
    if (!IsWord(text)) return false;
    ++index_;
    return true;
  }
  [[noreturn]] void FailAt(const Token& token, std::string_view expected) const {
    FailSyntax(token.line, token.column, expected, token.text.empty() ? "nothing" : token.text.substr(0, 40));
  }
  void Expect(TokenKind kind, std::string_view what) {
    if (Peek().kind != kind) FailAt(Peek(), what);
    ++index_;
  }
  void ExpectOperator(std::string_view text) {
    if (!TakeOperator(text)) FailAt(Peek(), text);
  }
  std::string ExpectName(std::string_view what) {
    if (Peek().kind != TokenKind::kName) FailAt(Peek(), what);
    return Next().text;
  }
  int32_t NameId(const std::string& name) {
    const auto [it, added] = ids_.try_emplace(name, static_cast<int32_t>(result_.names.size()));
    if (added) result_.names.push_back(name);
    return it->second;
  }

  // ---- statements ----

  // Up to a block whose word is in `ends`, which is left to be read; with no ends, up to the end.
  std::vector<Stmt> ParseBody(const std::vector<std::string_view>& ends) {
    const Nested nested(this);
    std::vector<Stmt> body;
    while (true) {
      const Token& token = Peek();
      switch (token.kind) {
        case TokenKind::kEnd:
          if (!ends.empty()) FailAt(token, fmt::format("{{% {} %}}", ends.back()));
          return body;
        case TokenKind::kData: {
          Stmt stmt = Start(StmtKind::kData);
          stmt.text = Next().text;
          body.push_back(std::move(stmt));
          break;
        }
        case TokenKind::kOutputBegin: {
          Stmt stmt = Start(StmtKind::kOutput);
          ++index_;
          stmt.exprs.push_back(ParseTuple());
          Expect(TokenKind::kOutputEnd, "}}");
          body.push_back(std::move(stmt));
          break;
        }
        case TokenKind::kBlockBegin:
          if (Peek(1).kind == TokenKind::kName && std::find(ends.begin(), ends.end(), Peek(1).text) != ends.end()) {
            return body;
          }
          ParseStatement(&body);
          break;
        default:
          FailAt(token, "text or a tag");
      }
    }
  }

  Stmt Start(StmtKind kind) const {
    Stmt stmt;
    stmt.kind = kind;
    stmt.line = Peek().line;
    return stmt;
  }
  void EndBlock() { Expect(TokenKind::kBlockEnd, "%}"); }
  // {% word %}
  void ExpectBlock(std::string_view word) {
    Expect(TokenKind::kBlockBegin, "{%");
    if (!TakeWord(word)) FailAt(Peek(), word);
    EndBlock();
  }

  void ParseStatement(std::vector<Stmt>* body) {
    Expect(TokenKind::kBlockBegin, "{%");
    const Token word = Peek();
    if (word.kind != TokenKind::kName) FailAt(word, "a statement");
    ++index_;
    if (word.text == "if") return body->push_back(ParseIf());
    if (word.text == "for") return body->push_back(ParseFor());
    if (word.text == "set") return body->push_back(ParseSet());
    if (word.text == "macro") return body->push_back(ParseMacro());
    if (word.text == "break" || word.text == "continue") {
      if (loops_ == 0) FailAt(word, "break and continue inside a loop only");
      body->push_back(Start(word.text == "break" ? StmtKind::kBreak : StmtKind::kContinue));
      return EndBlock();
    }
    if (word.text == "generation") {  // marks the assistant's part for training; its body is what it renders
      EndBlock();
      std::vector<Stmt> inner = ParseBody({"endgeneration"});
      ExpectBlock("endgeneration");
      std::move(inner.begin(), inner.end(), std::back_inserter(*body));
      return;
    }
    static constexpr std::string_view kKnown[] = {"block",  "extends", "include", "import",     "from",  "call",
                                                  "filter", "with",    "do",      "autoescape", "trans", "debug"};
    if (std::find(std::begin(kKnown), std::end(kKnown), word.text) != std::end(kKnown)) {
      Fail(ErrorCode::kUnsupported,
           "[chat template] line {}: expected if, for, set or macro, found {}, which chat "
           "templates are not given",
           word.line, word.text);
    }
    FailAt(word, "a statement (if, for, set, macro)");
  }

  Stmt ParseIf() {
    Stmt stmt = Start(StmtKind::kIf);
    bool is_else = false;
    while (true) {
      Stmt branch = Start(StmtKind::kBranch);
      if (!is_else) branch.exprs.push_back(ParseTuple());
      EndBlock();
      branch.body = is_else ? ParseBody({"endif"}) : ParseBody({"elif", "else", "endif"});
      stmt.body.push_back(std::move(branch));
      Expect(TokenKind::kBlockBegin, "{%");
      const std::string word = Next().text;
      if (word == "endif") break;
      is_else = word == "else";
    }
    EndBlock();
    return stmt;
  }

  Stmt ParseFor() {
    Stmt stmt = Start(StmtKind::kFor);
    stmt.targets = ParseTargets("in");
    if (!TakeWord("in")) FailAt(Peek(), "in");
    stmt.exprs.push_back(ParseTuple(false));
    if (TakeWord("if")) stmt.exprs.push_back(ParseExpr());
    if (IsWord("recursive")) {
      Fail(ErrorCode::kUnsupported, "[chat template] line {}: expected a plain loop, found a recursive one",
           Peek().line);
    }
    EndBlock();
    ++loops_;
    stmt.body = ParseBody({"else", "endfor"});
    --loops_;
    Expect(TokenKind::kBlockBegin, "{%");
    if (Next().text == "else") {
      EndBlock();
      stmt.else_body = ParseBody({"endfor"});
      ExpectBlock("endfor");
    } else {
      EndBlock();
    }
    return stmt;
  }

  std::vector<int32_t> ParseTargets(std::string_view until) {
    std::vector<int32_t> targets;
    const bool parens = TakeOperator("(");
    do {
      if (!targets.empty() && (IsWord(until) || IsOperator("=") || IsOperator(")"))) break;
      const Token& token = Peek();
      if (token.kind != TokenKind::kName) FailAt(token, "a variable name");
      CheckAssignable(token);
      targets.push_back(NameId(token.text));
      ++index_;
    } while (TakeOperator(","));
    if (parens) ExpectOperator(")");
    return targets;
  }
  void CheckAssignable(const Token& token) const {
    static constexpr std::string_view kReserved[] = {"true", "false", "none", "True", "False", "None", "loop"};
    if (std::find(std::begin(kReserved), std::end(kReserved), token.text) != std::end(kReserved)) {
      FailAt(token, "a variable name that is not reserved");
    }
  }

  Stmt ParseSet() {
    Stmt stmt = Start(StmtKind::kSet);
    if (IsOperator(".", 1)) {
      stmt.targets.push_back(NameId(ExpectName("a namespace")));
      ExpectOperator(".");
      stmt.attribute = ExpectName("an attribute");
      ExpectOperator("=");
      stmt.exprs.push_back(ParseTuple());
      EndBlock();
      return stmt;
    }
    stmt.targets = ParseTargets("=");
    if (TakeOperator("=")) {
      stmt.exprs.push_back(ParseTuple());
      EndBlock();
      return stmt;
    }
    if (stmt.targets.size() != 1 || Peek().kind != TokenKind::kBlockEnd) FailAt(Peek(), "=");
    EndBlock();
    stmt.kind = StmtKind::kSetBlock;
    stmt.body = ParseBody({"endset"});
    ExpectBlock("endset");
    return stmt;
  }

  Stmt ParseMacro() {
    Stmt stmt = Start(StmtKind::kMacro);
    CheckAssignable(Peek());
    stmt.text = ExpectName("the name of the macro");
    stmt.targets.push_back(NameId(stmt.text));
    ExpectOperator("(");
    while (!IsOperator(")")) {
      Parameter parameter;
      CheckAssignable(Peek());
      parameter.text = ExpectName("a parameter");
      parameter.name = NameId(parameter.text);
      if (TakeOperator("=")) {
        parameter.has_default = true;
        parameter.value = ParseExpr();
      } else if (!stmt.parameters.empty() && stmt.parameters.back().has_default) {
        FailAt(Peek(), "a default for every parameter after one with a default");
      }
      stmt.parameters.push_back(std::move(parameter));
      if (!TakeOperator(",")) break;
    }
    ExpectOperator(")");
    EndBlock();
    const int outer_loops = loops_;
    loops_ = 0;
    stmt.body = ParseBody({"endmacro"});
    loops_ = outer_loops;
    ExpectBlock("endmacro");
    return stmt;
  }

  // ---- expressions ----

  Expr StartExpr(ExprKind kind) const {
    Expr expr;
    expr.kind = kind;
    expr.line = Peek().line;
    return expr;
  }

  // a, b, c without brackets; a plain expression when there is no comma.
  Expr ParseTuple(bool with_condition = true) {
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

  Expr ParseExpr() {
    const Nested nested(this);
    Expr value = ParseLogic();
    // a if b else c if d else e nests to the right: the loop goes down one ternary at a time.
    if (!TakeWord("if")) return value;
    Expr ternary = StartExpr(ExprKind::kTernary);
    ternary.children.push_back(std::move(value));
    ternary.children.push_back(ParseLogic());
    if (TakeWord("else")) ternary.children.push_back(ParseExpr());
    return ternary;
  }

  // `or` over `and` over `not` over comparisons, each chain flat.
  Expr ParseLogic() {
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
  static Expr Unwrap(Expr chain) {
    if (chain.children.size() != 1) return chain;
    Expr only = std::move(chain.children[0]);
    return only;
  }

  Expr ParseNot() {
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

  Expr ParseCompare() {
    static const std::unordered_map<std::string_view, Op> kOps = {{"==", Op::kEq}, {"!=", Op::kNe}, {"<", Op::kLt},
                                                                  {"<=", Op::kLe}, {">", Op::kGt},  {">=", Op::kGe}};
    Expr chain = StartExpr(ExprKind::kCompare);
    chain.children.push_back(ParseChain(0));
    while (true) {
      const auto it = Peek().kind == TokenKind::kOperator ? kOps.find(Peek().text) : kOps.end();
      if (it != kOps.end()) {
        chain.ops.push_back(it->second);
        ++index_;
      } else if (TakeWord("in")) {
        chain.ops.push_back(Op::kIn);
      } else if (IsWord("not") && IsWord("in", 1)) {
        chain.ops.push_back(Op::kNotIn);
        index_ += 2;
      } else {
        return Unwrap(std::move(chain));
      }
      chain.children.push_back(ParseChain(0));
    }
  }

  // Levels: 0 + -, 1 ~, 2 * / // %, 3 **.
  static bool OpOfLevel(const Token& token, int level, Op* op) {
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
  Expr ParseChain(int level) {
    if (level == 4) return ParseUnary(true);
    Expr chain = StartExpr(ExprKind::kChain);
    chain.children.push_back(ParseChain(level + 1));
    for (Op op{}; OpOfLevel(Peek(), level, &op);) {
      ++index_;
      chain.ops.push_back(op);
      chain.children.push_back(ParseChain(level + 1));
    }
    return Unwrap(std::move(chain));
  }

  Expr ParseUnary(bool with_filters) {
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

  Expr ParsePrimary() {
    const Token token = Peek();
    Expr expr = StartExpr(ExprKind::kLiteral);
    switch (token.kind) {
      case TokenKind::kName:
        ++index_;
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
      case TokenKind::kInteger: {
        int64_t value = 0;
        const auto [end, error] = std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
        if (error != std::errc()) FailAt(token, "an integer below 2^63");
        ++index_;
        expr.literal = Value::Of(value);
        return expr;
      }
      case TokenKind::kFloat: {
        double value = 0;
        const auto [end, error] = std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
        if (error != std::errc()) FailAt(token, "a number that fits a double");
        ++index_;
        expr.literal = Value::Of(value);
        return expr;
      }
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

  Expr ParseSuffixes(Expr base, bool with_filters) {
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

  void ParseSubscript(Suffix* suffix) {
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

  void ParseArguments(Suffix* suffix) {
    ExpectOperator("(");
    while (!IsOperator(")")) {
      if (IsOperator("*") || IsOperator("**")) {
        Fail(ErrorCode::kUnsupported, "[chat template] line {}: expected plain arguments, found * unpacking",
             Peek().line);
      }
      Argument argument;
      if (Peek().kind == TokenKind::kName && IsOperator("=", 1)) {
        argument.name = Next().text;
        ++index_;
      } else if (!suffix->arguments.empty() && !suffix->arguments.back().name.empty()) {
        FailAt(Peek(), "named arguments after the first named one");
      }
      argument.value = ParseExpr();
      suffix->arguments.push_back(std::move(argument));
      if (!TakeOperator(",")) break;
    }
    ExpectOperator(")");
  }

  void ParseTest(Suffix* suffix) {
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

  std::vector<Token> tokens_;
  size_t index_ = 0;
  int depth_ = 0;
  int loops_ = 0;
  std::unordered_map<std::string, int32_t> ids_;
  Template result_;
};

}  // namespace

Template Parse(const std::string& source) {
  if (source.size() > kMaxTemplateBytes) {
    Fail(ErrorCode::kLimitExceeded, "[chat template] size: expected at most {} bytes, found {}", kMaxTemplateBytes,
         source.size());
  }
  return Parser(Tokenize(source)).Run();
}

}  // namespace gateskip::jinja
