// SPDX-License-Identifier: Apache-2.0
#include "text/template_json.h"

#include <nlohmann/json.hpp>

#include "base/check.h"

namespace gateskip::jinja {
namespace {

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
    return Put(MakeDict(std::move(level.entries), budget_));
  }
  bool end_array() override {
    Level level = Close();
    return Put(MakeList(std::move(level.items), budget_));
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

Value FromJson(std::string_view text, Budget* budget) {
  ValueBuilder builder(budget);
  if (!nlohmann::json::sax_parse(text, &builder)) {
    Fail(ErrorCode::kInvalidArgument,
         "[template variables] JSON: expected a JSON object, found something else; correct the variables");
  }
  return builder.Take();
}

}  // namespace gateskip::jinja
