// SPDX-License-Identifier: Apache-2.0
// The parsed form of a chat template. Chains (a + b - c, a.b[0]|f) are flat, so that the depth of the tree is the
// depth of the brackets and blocks in the source, which the parser caps.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/template_value.h"

namespace gateskip::jinja {

enum class Op : uint8_t {
  kAdd,
  kSub,
  kMul,
  kDiv,
  kFloorDiv,
  kMod,
  kPow,
  kConcat,
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
  kIn,
  kNotIn,
  kAnd,
  kOr,
};

enum class ExprKind : uint8_t {
  kLiteral,
  kName,
  kList,
  kTuple,
  kDict,     // children: key, value, key, value, ...
  kChain,    // children[0] ops[0] children[1] ops[1] ..., from the left
  kCompare,  // the same, as Python chains comparisons
  kLogic,    // the same, all `and` or all `or`
  kNot,
  kNegate,
  kPlus,
  kTernary,  // value, condition, other (absent: Undefined)
  kPostfix,  // children[0] with suffixes
};

struct Suffix;

struct Expr {
  ExprKind kind = ExprKind::kLiteral;
  uint32_t line = 0;
  int32_t name = -1;  // index into Template::names
  Value literal;
  std::vector<Expr> children;
  std::vector<Op> ops;
  std::vector<Suffix> suffixes;
};

enum class SuffixKind : uint8_t { kAttribute, kItem, kSlice, kCall, kFilter, kTest, kNotTest };

struct Argument {
  std::string name;  // empty: positional
  Expr value;
};

struct Suffix {
  SuffixKind kind = SuffixKind::kAttribute;
  uint32_t line = 0;
  std::string name;         // of the attribute, filter or test
  std::vector<Expr> parts;  // kItem: the subscript; kSlice: start, stop, step (literal None when absent)
  std::vector<Argument> arguments;
};

enum class StmtKind : uint8_t {
  kData,      // text
  kOutput,    // exprs[0]
  kIf,        // body: kBranch statements
  kBranch,    // exprs[0] or none for else; body
  kFor,       // targets in exprs[0], if exprs[1]; body, else_body
  kSet,       // targets = exprs[0]; attribute non-empty: targets[0].attribute = exprs[0]
  kSetBlock,  // targets[0] = the rendered body
  kMacro,     // targets[0] = the macro; parameters; body
  kBreak,
  kContinue,
};

struct Parameter {
  int32_t name = -1;
  std::string text;
  bool has_default = false;
  Expr value;
};

struct Stmt {
  StmtKind kind = StmtKind::kData;
  uint32_t line = 0;
  std::string text;
  std::string attribute;
  std::vector<int32_t> targets;
  std::vector<Expr> exprs;
  std::vector<Parameter> parameters;
  std::vector<Stmt> body;
  std::vector<Stmt> else_body;
};

struct Template {
  std::vector<std::string> names;  // every identifier used as a variable
  std::vector<Stmt> body;
};

}  // namespace gateskip::jinja
