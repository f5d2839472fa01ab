// SPDX-License-Identifier: Apache-2.0
// ChatTemplate: the variables a chat template sees (messages, bos_token, ..., as transformers passes them) around
// the interpreter. JSON variables are read straight into values, in their order, with depth and size capped.
#include "text/chat_template.h"

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "text/template_interpreter.h"
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

constexpr size_t kMaxJsonDepth = 32;

// SAX events of nlohmann's parser, which does not recurse, to values.
class ValueBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit ValueBuilder(Budget* budget) : budget_(budget) {}

  bool null() override { return Put(Value::MakeNone()); }
  bool boolean(bool b) override { return Put(Value::Of(b)); }
  bool number_integer(number_integer_t i) override { return Put(Value::Of(int64_t{i})); }
  bool number_unsigned(number_unsigned_t i) override {
    if (i > static_cast<number_unsigned_t>(INT64_MAX)) return Refuse("an integer of 64 bits", "a larger one");
    return Put(Value::Of(static_cast<int64_t>(i)));
  }
  bool number_float(number_float_t d, const string_t&) override { return Put(Value::Of(d)); }
  bool string(string_t& text) override {
    budget_->ChargeBytes(text.size());
    return Put(Value::Of(std::move(text)));
  }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return Open(false); }
  bool start_array(size_t) override { return Open(true); }
  bool key(string_t& text) override {
    open_.back().key = std::move(text);
    return true;
  }
  bool end_object() override {
    Level level = Close();
    return Put(jinja::MakeDict(std::move(level.entries), budget_));
  }
  bool end_array() override {
    Level level = Close();
    return Put(jinja::MakeList(std::move(level.items), budget_));
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    Fail(ErrorCode::kInvalidArgument,
         "[template variables] JSON: expected a JSON object, found an error at byte {}; correct the variables",
         position);
  }

  Value Take() { return std::move(result_); }

 private:
  struct Level {
    bool is_array = false;
    std::string key;
    Items items;
    std::vector<std::pair<Value, Value>> entries;
  };

  [[noreturn]] static bool Refuse(std::string_view expected, std::string_view found) {
    Fail(ErrorCode::kInvalidArgument, "[template variables] JSON: expected {}, found {}; correct the variables",
         expected, found);
  }
  bool Open(bool is_array) {
    if (open_.size() >= kMaxJsonDepth) {
      Fail(ErrorCode::kLimitExceeded,
           "[template variables] JSON: expected at most {} levels, found more; use simpler variables", kMaxJsonDepth);
    }
    open_.push_back({is_array, {}, {}, {}});
    return true;
  }
  Level Close() {
    Level level = std::move(open_.back());
    open_.pop_back();
    return level;
  }
  bool Put(Value value) {
    budget_->Charge(1);
    if (open_.empty()) {
      result_ = std::move(value);
    } else if (open_.back().is_array) {
      open_.back().items.push_back(std::move(value));
    } else {
      open_.back().entries.emplace_back(Value::Of(std::move(open_.back().key)), std::move(value));
    }
    return true;
  }

  Budget* budget_;
  std::vector<Level> open_;
  Value result_;
};

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
  ValueBuilder builder(&budget);
  if (!nlohmann::json::sax_parse(variables_json, &builder)) {
    Fail(ErrorCode::kInvalidArgument,
         "[template variables] JSON: expected a JSON object, found something else; correct the variables");
  }
  const Value extra = builder.Take();
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
