// SPDX-License-Identifier: Apache-2.0
// doc_to_text and its kin: the name of a column, or a Jinja template over the columns, rendered as the harness renders
// it (jinja2 with StrictUndefined and keep_trailing_newline; every render within the limits of text/chat_template.h).
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "text/template_ast.h"

namespace gateskip {

// One record of a data set.
struct Doc {
  nlohmann::json record;  // an object: column to value
  std::string origin;     // "file:line", for messages
  std::string subset = {};
  int64_t index = 0;  // in its file, from 0
};

// "a, b, c", for messages about columns that are not there.
std::string ColumnNames(const nlohmann::json& record);

// The columns of a document as template variables; `doc` must outlive it. Throws Error(kLimitExceeded).
class DocVariables {
 public:
  explicit DocVariables(const Doc& doc);
  const Doc& doc() const { return doc_; }
  // Whether `name` is a column.
  bool Has(const std::string& name) const { return doc_.record.contains(name); }
  const std::vector<std::pair<std::string, jinja::Value>>& values() const { return values_; }

 private:
  const Doc& doc_;
  std::vector<std::pair<std::string, jinja::Value>> values_;
};

class DocTemplate {
 public:
  enum class Kind {
    kText,
    kList,  // a column that holds a list, or one expression `{{ ... }}` that gives one
  };
  // Throws Error(kInvalidArgument) for what does not parse. `origin` and `subject` ("doc_to_text") are for messages.
  DocTemplate(const std::string& source, Kind kind, const std::string& origin, const std::string& subject);

  // The column as it is; else the rendered text; else, for kList and for a text in [brackets] that one expression gave,
  // the list. Throws Error(kInvalidArgument), which names document and columns, when a column is missing or the
  // template fails; kLimitExceeded.
  nlohmann::json Evaluate(const DocVariables& variables) const;
  bool IsColumn(const DocVariables& variables) const { return variables.Has(source_); }
  // The same, for those that must be a text. Numbers and booleans become what Python's str() makes of them.
  std::string EvaluateText(const DocVariables& variables) const;
  // The same, for those that must be a list of texts.
  std::vector<std::string> EvaluateTexts(const DocVariables& variables) const;

 private:
  std::string Render(const jinja::Template& parsed, const DocVariables& variables) const;
  [[noreturn]] void FailValue(const DocVariables& variables, std::string_view expected,
                              const nlohmann::json& found) const;

  std::string source_;
  Kind kind_;
  std::string subject_;
  jinja::Template text_;
  std::optional<jinja::Template> list_;  // `{{ (expression) | tojson }}`
};

}  // namespace gateskip
