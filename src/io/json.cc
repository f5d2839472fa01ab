// SPDX-License-Identifier: Apache-2.0
#include "io/json.h"

#include <cmath>
#include <set>
#include <vector>

#include "base/check.h"

namespace gateskip {
namespace {

using nlohmann::json;

// Messages quote what they found, but not megabytes of it, on one line and in UTF-8 whatever the file is.
std::string Clip(const std::string& text) {
  constexpr size_t kMaxQuoted = 200;
  const std::string quoted = json(text.substr(0, kMaxQuoted)).dump(-1, ' ', false, json::error_handler_t::replace);
  return quoted.substr(1, quoted.size() - 2) + (text.size() > kMaxQuoted ? "..." : "");
}

// null when absent and a fallback exists; throws when absent without one.
const json* Member(const json& object, const char* key, const std::string& origin, const char* expected,
                   bool has_fallback) {
  if (!object.is_object()) {
    Fail(ErrorCode::kCorruptData, "[{}] JSON: expected an object, found {}; the file is damaged", origin,
         object.type_name());
  }
  const auto found = object.find(key);
  if (found != object.end() && !found->is_null()) return &*found;
  if (has_fallback) return nullptr;
  Fail(ErrorCode::kCorruptData, "[{}] key {}: expected {}, found nothing; add it", origin, key, expected);
}

[[noreturn]] void FailType(const char* key, const std::string& origin, const char* expected, const json& found) {
  Fail(ErrorCode::kCorruptData, "[{}] key {}: expected {}, found {}; correct it", origin, key, expected,
       found.is_structured() ? std::string(found.type_name())
       : found.is_string()   ? '"' + Clip(found.get_ref<const std::string&>()) + '"'
                             : found.dump());
}

// First pass: syntax, levels, items, duplicate keys. (One pass with nlohmann's parser callback would do it too, but
// that one looks through all earlier siblings at the end of every object: 20000 tensors of a header took 5 s, squared.)
class Checker : public nlohmann::json_sax<json> {
 public:
  Checker(const std::string& origin, int max_depth, size_t max_items)
      : origin_(origin), max_depth_(static_cast<size_t>(max_depth)), max_items_(max_items) {}

  bool null() override { return Count(); }
  bool boolean(bool) override { return Count(); }
  bool number_integer(number_integer_t) override { return Count(); }
  bool number_unsigned(number_unsigned_t) override { return Count(); }
  bool number_float(number_float_t, const string_t&) override { return Count(); }
  bool string(string_t&) override { return Count(); }
  bool binary(binary_t&) override { return Count(); }
  bool start_object(size_t) override { return Open(); }
  bool start_array(size_t) override { return Open(); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }
  bool key(string_t& name) override {
    if (!keys_.back().insert(name).second) {
      Fail(ErrorCode::kCorruptData, "[{}] JSON key {}: expected it once, found it twice; remove one", origin_,
           Clip(name));
    }
    return Count();
  }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& e) override {
    Fail(ErrorCode::kCorruptData, "[{}] JSON: expected valid JSON, found: {}; correct it", origin_, Clip(e.what()));
  }

 private:
  bool Count() {
    if (++items_ > max_items_) {
      Fail(ErrorCode::kLimitExceeded, "[{}] JSON: expected at most {} keys and values, found more; split it", origin_,
           max_items_);
    }
    return true;
  }
  bool Open() {
    keys_.emplace_back();
    if (keys_.size() > max_depth_) {
      Fail(ErrorCode::kLimitExceeded, "[{}] JSON: expected at most {} levels, found more; flatten it", origin_,
           max_depth_);
    }
    return Count();
  }
  bool Close() {
    keys_.pop_back();
    return true;
  }

  const std::string& origin_;
  const size_t max_depth_;
  const size_t max_items_;
  size_t items_ = 0;
  std::vector<std::set<std::string>> keys_;  // of the objects that are open; an array's stay empty
};

}  // namespace

json ParseJson(std::string_view text, const std::string& origin, int max_depth, size_t max_items) {
  // The parser takes a NUL for the end of its input, and would let anything follow it.
  if (const size_t nul = text.find('\0'); nul != text.npos) {
    Fail(ErrorCode::kCorruptData, "[{}] JSON: expected text, found a NUL byte at {}; correct it", origin, nul);
  }
  Checker checker(origin, max_depth, max_items);
  json::sax_parse(text, &checker);
  return json::parse(text);
}

int64_t GetInt(const json& object, const char* key, const std::string& origin, std::optional<int64_t> fallback) {
  const json* value = Member(object, key, origin, "an integer", fallback.has_value());
  if (value == nullptr) return *fallback;
  if (value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    FailType(key, origin, "an integer", *value);
  }
  if (!value->is_number_integer()) FailType(key, origin, "an integer", *value);
  return value->get<int64_t>();
}

double GetNumber(const json& object, const char* key, const std::string& origin, std::optional<double> fallback) {
  const json* value = Member(object, key, origin, "a number", fallback.has_value());
  if (value == nullptr) return *fallback;
  if (!value->is_number() || !std::isfinite(value->get<double>())) FailType(key, origin, "a finite number", *value);
  return value->get<double>();
}

bool GetBool(const json& object, const char* key, const std::string& origin, std::optional<bool> fallback) {
  const json* value = Member(object, key, origin, "true or false", fallback.has_value());
  if (value == nullptr) return *fallback;
  if (!value->is_boolean()) FailType(key, origin, "true or false", *value);
  return value->get<bool>();
}

std::string GetString(const json& object, const char* key, const std::string& origin,
                      std::optional<std::string> fallback) {
  const json* value = Member(object, key, origin, "a string", fallback.has_value());
  if (value == nullptr) return *fallback;
  if (!value->is_string()) FailType(key, origin, "a string", *value);
  return value->get<std::string>();
}

}  // namespace gateskip
