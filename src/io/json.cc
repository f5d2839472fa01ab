// SPDX-License-Identifier: Apache-2.0
#include "io/json.h"

#include <cmath>
#include <set>
#include <vector>

#include "base/check.h"

namespace gateskip {
namespace {

using nlohmann::json;

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
                             : found.dump(-1, ' ', true, json::error_handler_t::replace));
}

}  // namespace

json ParseJson(std::string_view text, const std::string& origin, int max_depth) {
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto callback = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > max_depth) {
      Fail(ErrorCode::kLimitExceeded, "[{}] JSON: expected at most {} levels, found more; flatten it", origin,
           max_depth);
    }
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      Fail(ErrorCode::kCorruptData, "[{}] JSON key {}: expected it once, found it twice; remove one", origin,
           parsed.get<std::string>());
    }
    return true;
  };
  try {
    return json::parse(text, callback);
  } catch (const json::exception& e) {
    Fail(ErrorCode::kCorruptData, "[{}] JSON: expected valid JSON, found: {}; correct the file", origin, e.what());
  }
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
