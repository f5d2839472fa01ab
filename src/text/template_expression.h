// SPDX-License-Identifier: Apache-2.0
// The half of the parser that reads expressions, over a cursor into the tokens; statements (template_parser.cc)
// build on it. Not for use elsewhere.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template_ast.h"
#include "text/template_lexer.h"

namespace gateskip::jinja {

class ExpressionParser {
 protected:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  // One level of brackets or blocks, for as long as it lives; throws Error(kLimitExceeded) beyond the cap.
  class Nested {
   public:
    explicit Nested(ExpressionParser* parser);
    ~Nested() { --parser_->depth_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;

   private:
    ExpressionParser* parser_;
  };

  // ---- the cursor ----
  const Token& Peek(size_t ahead = 0) const { return tokens_[std::min(index_ + ahead, tokens_.size() - 1)]; }
  Token Next() { return tokens_[index_ < tokens_.size() - 1 ? index_++ : index_]; }
  bool IsOperator(std::string_view text, size_t ahead = 0) const {
    return Peek(ahead).kind == TokenKind::kOperator && Peek(ahead).text == text;
  }
  bool IsWord(std::string_view text, size_t ahead = 0) const {
    return Peek(ahead).kind == TokenKind::kName && Peek(ahead).text == text;
  }
  void Skip(size_t count = 1) { index_ += count; }
  bool TakeOperator(std::string_view text);
  bool TakeWord(std::string_view text);
  void Expect(TokenKind kind, std::string_view what);
  void ExpectOperator(std::string_view text);
  std::string ExpectName(std::string_view what);
  [[noreturn]] static void FailAt(const Token& token, std::string_view expected);

  // ---- expressions ----
  // a, b, c without brackets; a plain expression when there is no comma.
  Expr ParseTuple(bool with_condition = true);
  Expr ParseExpr();

  // The index of a variable in names().
  int32_t NameId(const std::string& name);
  std::vector<std::string>& names() { return names_; }

 private:
  Expr StartExpr(ExprKind kind) const;
  Expr ParseLogic();
  Expr ParseNot();
  Expr ParseCompare();
  Expr ParseChain(int level);
  Expr ParseUnary(bool with_filters);
  Expr ParsePrimary();
  Expr ParseLiteralNumber();
  Expr ParseSuffixes(Expr base, bool with_filters);
  void ParseSubscript(Suffix* suffix);
  void ParseArguments(Suffix* suffix);
  void ParseTest(Suffix* suffix);

  std::vector<Token> tokens_;
  size_t index_ = 0;
  int depth_ = 0;
  std::map<std::string, int32_t, std::less<>> ids_;  // ordered: a template cannot choose names that collide
  std::vector<std::string> names_;
};

}  // namespace gateskip::jinja
