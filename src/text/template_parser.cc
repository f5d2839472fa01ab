// SPDX-License-Identifier: Apache-2.0
// Statements by recursive descent, after jinja2/parser.py (3.1).
#include "text/template_parser.h"

#include <algorithm>

#include "base/check.h"
#include "text/template_expression.h"

namespace gateskip::jinja {
namespace {

constexpr size_t kMaxTemplateBytes = size_t{1} << 19;

class Parser : ExpressionParser {
 public:
  explicit Parser(std::vector<Token> tokens) : ExpressionParser(std::move(tokens)) {}

  Template Run() {
    Template result;
    result.body = ParseBody({});
    result.names = std::move(names());
    return result;
  }

 private:
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
          Skip();
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
    Skip();
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
           "templates are not given; use a simpler template",
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
      Fail(ErrorCode::kUnsupported,
           "[chat template] line {}: expected a plain loop, found a recursive one; use a simpler template",
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
      Skip();
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

  int loops_ = 0;
};

}  // namespace

Template Parse(const std::string& source, Spacing spacing) {
  if (source.size() > kMaxTemplateBytes) {
    Fail(ErrorCode::kLimitExceeded, "[chat template] size: expected at most {} bytes, found {}; use a simpler template",
         kMaxTemplateBytes, source.size());
  }
  return Parser(Tokenize(source, spacing)).Run();
}

}  // namespace gateskip::jinja
