// SPDX-License-Identifier: Apache-2.0
// Walks a parsed template and renders it within a budget. Names reach variables, macros and a fixed list of
// functions; attributes reach data and a fixed list of methods. There is no reflection and no IO.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "text/template_ast.h"

namespace gateskip::jinja {

// What a name, attribute or item that is not there stands for.
enum class Missing : uint8_t {
  kUndefined,  // jinja2's Undefined: prints as nothing, is false
  kError,      // jinja2's StrictUndefined: any use but `is defined` and `default` throws and names it
};

std::string RenderTemplate(const Template& tmpl, const std::vector<std::pair<std::string, Value>>& variables,
                           Budget* budget, Missing missing = Missing::kUndefined);

// Evaluated arguments of a filter, test, method or function call.
struct Arguments {
  Items positional;
  std::vector<std::pair<std::string, Value>> named;

  // The argument at `index` or called `name`; nullptr when absent.
  const Value* Find(size_t index, std::string_view name) const;
  const Value& Require(size_t index, std::string_view name, std::string_view callee) const;
  // Throws when there are more arguments than `max`.
  void CheckCount(size_t max, std::string_view callee) const;
};

// template_filters.cc
Value ApplyFilter(const std::string& name, const Value& value, const Arguments& arguments, Budget* budget);
bool ApplyTest(const std::string& name, const Value& value, const Arguments& arguments, Budget* budget);
// template_methods.cc: whether `value.name` is a method, and calling it.
bool HasMethod(const Value& value, std::string_view name);
Value CallMethod(const Value& self, const std::string& name, const Arguments& arguments, Budget* budget);
// template_access.cc
Value GetAttribute(const Value& value, const std::string& name, Budget* budget);
Value GetItem(const Value& value, const Value& key, Budget* budget);
Value GetSlice(const Value& value, const Value& start, const Value& stop, const Value& step, Budget* budget);
Value ApplyOperator(Op op, const Value& a, const Value& b, Budget* budget);
bool Contains(const Value& container, const Value& item, Budget* budget);

// Text helpers that filters and methods share.
std::string StripText(std::string_view text, const Value* characters, bool left, bool right);
std::string MapCase(std::string_view text, bool upper);
std::string ReplaceText(std::string_view text, std::string_view from, std::string_view to, int64_t count,
                        Budget* budget);
int64_t CheckedLength(size_t length);
// Starts of occurrences that do not overlap, at most max_count (< 0: all), from the left, or from the right in falling
// order. `wanted` is not empty. Linear in both lengths, where std::string::find is quadratic at worst.
std::vector<size_t> FindAll(std::string_view text, std::string_view wanted, int64_t max_count, bool from_right,
                            Budget* budget);

}  // namespace gateskip::jinja
