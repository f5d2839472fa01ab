// SPDX-License-Identifier: Apache-2.0
#include "eval/doc_template.h"

#include <algorithm>
#include <cctype>

#include "base/check.h"
#include "io/json.h"
#include "text/chat_template.h"
#include "text/template_interpreter.h"
#include "text/template_json.h"
#include "text/template_parser.h"
#include "text/utf8.h"

namespace gateskip {
namespace {

using nlohmann::json;

constexpr size_t kMaxColumnsNamed = 20;
constexpr size_t kMaxQuoted = 300;

jinja::Budget NewBudget() {
  const TemplateLimits limits;
  return jinja::Budget(limits.max_steps, limits.max_output_bytes, limits.max_depth);
}

bool IsIdentifier(std::string_view text) {
  const auto letter = [](char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_'; };
  return !text.empty() && letter(text[0]) && std::all_of(text.begin(), text.end(), [&](char c) {
    return letter(c) || std::isdigit(static_cast<unsigned char>(c)) != 0;
  });
}

// The expression of a template that is one `{{ expression }}` and nothing else; "" for others.
std::string SoleExpression(const std::string& source) {
  const std::string text = jinja::StripText(source, nullptr, true, true);
  if (text.size() < 5 || !text.starts_with("{{") || !text.ends_with("}}")) return {};
  const std::string inside = text.substr(2, text.size() - 4);
  const bool more = inside.find("{{") != std::string::npos || inside.find("}}") != std::string::npos;
  return more || inside.front() == '-' || inside.back() == '-' ? std::string() : inside;
}

jinja::Template ParseTemplate(const std::string& source, const std::string& origin, const std::string& subject) {
  try {
    return jinja::Parse(source, jinja::Spacing::kKept);
  } catch (const Error& e) {
    Fail(ErrorCode::kInvalidArgument, "[{}] {}: expected a Jinja template, found one that does not parse: {}", origin,
         subject, e.what());
  }
}

}  // namespace

std::string ColumnNames(const json& record) {
  std::string names;
  size_t count = 0;
  for (const auto& [name, value] : record.items()) {
    if (count++ == kMaxColumnsNamed) return names + ", ...";
    names += (names.empty() ? "" : ", ") + ReadableText(name, 64);
  }
  return names.empty() ? "none" : names;
}

DocVariables::DocVariables(const Doc& doc) : doc_(doc) {
  jinja::Budget budget = NewBudget();
  try {
    const jinja::Value record = jinja::FromJson(doc.record.dump(), &budget);
    for (const auto& [name, value] : record.AsDict().entries) values_.emplace_back(name.AsString(), value);
  } catch (const Error& e) {
    Fail(e.code(), "[{}] record: expected values that a template takes: {}", doc.origin, e.what());
  }
}

DocTemplate::DocTemplate(const std::string& source, Kind kind, const std::string& origin, const std::string& subject)
    : source_(source), kind_(kind), subject_(subject), text_(ParseTemplate(source, origin, subject)) {
  const std::string expression = SoleExpression(source);
  if (!expression.empty()) list_ = ParseTemplate("{{ (" + expression + ") | tojson }}", origin, subject);
  if (kind == Kind::kList && !list_ && !IsIdentifier(source)) {
    Fail(ErrorCode::kInvalidArgument,
         "[{}] {}: expected a list, the name of a column or one expression in {{{{ }}}}, found '{}'; rewrite it",
         origin, subject, ReadableText(source, 64));
  }
}

std::string DocTemplate::Render(const jinja::Template& parsed, const DocVariables& variables) const {
  jinja::Budget budget = NewBudget();
  try {
    return jinja::RenderTemplate(parsed, variables.values(), &budget, jinja::Missing::kError);
  } catch (const Error& e) {
    const ErrorCode code =
        e.code() == ErrorCode::kLimitExceeded ? ErrorCode::kLimitExceeded : ErrorCode::kInvalidArgument;
    Fail(code, "[{}] {}: expected a document that the template takes, found one with the columns {}: {}",
         variables.doc().origin, subject_, ColumnNames(variables.doc().record), e.what());
  }
}

json DocTemplate::Evaluate(const DocVariables& variables) const {
  const json& record = variables.doc().record;
  if (const auto column = record.find(source_); column != record.end()) return *column;
  if (IsIdentifier(source_)) {
    Fail(ErrorCode::kInvalidArgument,
         "[{}] {}: expected a column {}, found the columns {}; name another file, or "
         "change the task",
         variables.doc().origin, subject_, source_, ColumnNames(record));
  }
  std::string text;
  if (kind_ == Kind::kText) {
    text = Render(text_, variables);
    if (!list_ || !text.starts_with('[') || !text.ends_with(']')) return text;
  }
  const json value = ParseJson(Render(*list_, variables), variables.doc().origin);
  return kind_ == Kind::kText && !value.is_array() ? json(text) : value;
}

void DocTemplate::FailValue(const DocVariables& variables, std::string_view expected, const json& found) const {
  const std::string shown = found.dump(-1, ' ', false, json::error_handler_t::replace);
  Fail(ErrorCode::kInvalidArgument, "[{}] {}: expected {}, found {}; change the task or the data",
       variables.doc().origin, subject_, expected, ReadableText(shown, kMaxQuoted));
}

std::string DocTemplate::EvaluateText(const DocVariables& variables) const {
  const json value = Evaluate(variables);
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "True" : "False";
  if (!value.is_number()) FailValue(variables, "a text", value);
  return value.dump();
}

std::vector<std::string> DocTemplate::EvaluateTexts(const DocVariables& variables) const {
  const json value = Evaluate(variables);
  if (!value.is_array()) FailValue(variables, "a list of texts", value);
  std::vector<std::string> texts;
  for (const json& element : value) {
    if (!element.is_string()) FailValue(variables, "a list of texts", value);
    texts.push_back(element.get<std::string>());
  }
  return texts;
}

}  // namespace gateskip
