// SPDX-License-Identifier: Apache-2.0
// ChatTemplate: the variables a chat template sees (messages, bos_token, ..., as transformers passes them) around
// the interpreter.
#include "text/chat_template.h"

#include "base/check.h"
#include "text/template_interpreter.h"
#include "text/template_json.h"
#include "text/template_parser.h"

namespace gateskip {

struct ChatTemplate::Node {
  jinja::Template parsed;
};

namespace {

using jinja::Budget;
using jinja::Items;
using jinja::Kind;
using jinja::Value;

}  // namespace

ChatTemplate::ChatTemplate(const std::string& source)
    : root_(std::make_shared<const Node>(Node{jinja::Parse(source)})) {}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

std::string ChatTemplate::Render(const std::vector<ChatMessage>& messages, bool add_generation_prompt,
                                 const std::string& bos_token, const std::string& eos_token,
                                 const std::string& variables_json, const TemplateLimits& limits) const {
  if (root_ == nullptr)
    Fail(ErrorCode::kInvalidArgument, "[chat template] rendering: expected a template, found none; it was moved from");
  Budget budget(limits.max_steps, limits.max_output_bytes, limits.max_depth);
  const Value extra = jinja::FromJson(variables_json, &budget);
  if (!extra.Is(Kind::kDict)) {
    Fail(ErrorCode::kInvalidArgument, "[template variables] JSON: expected an object, found {}; correct the variables",
         jinja::KindName(extra));
  }
  Items rows;
  for (const ChatMessage& message : messages) {
    rows.push_back(jinja::MakeDict({{Value::Of(std::string("role")), Value::Of(message.role)},
                                    {Value::Of(std::string("content")), Value::Of(message.content)}},
                                   &budget));
  }
  std::vector<std::pair<std::string, Value>> variables = {
      {"messages", jinja::MakeList(std::move(rows), &budget)},
      {"add_generation_prompt", Value::Of(add_generation_prompt)},
      {"bos_token", Value::Of(bos_token)},
      {"eos_token", Value::Of(eos_token)},
  };
  for (const auto& [name, value] : extra.AsDict().entries) {
    variables.emplace_back(name.AsString(), value);  // the later of two wins: messages with tool calls, say
  }
  return jinja::RenderTemplate(root_->parsed, variables, &budget);
}

}  // namespace gateskip
