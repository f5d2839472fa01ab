// SPDX-License-Identifier: Apache-2.0
#include "server/api_fields.h"

#include <fmt/format.h>

#include <cmath>

#include "server/api_error.h"

namespace gateskip::server {

using nlohmann::json;

std::string Shown(const json& value) {
  if (value.is_boolean() || value.is_number()) return value.dump();
  if (value.is_string()) return "a string";
  if (value.is_array()) return value.empty() ? "an empty list" : "a list";
  return value.is_object() ? "an object" : "null";
}

Fields::Fields(const json& object) : object_(object) {
  if (!object.is_object()) {
    throw RequestError(
        {.status = 400,
         .type = "invalid_request_error",
         .code = "invalid_value",
         .message = fmt::format("[request] body: expected a JSON object, found {}; send {{...}}", Shown(object))});
  }
}

const json* Fields::Find(const char* name) const {
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<int64_t> Fields::Int(const char* name, int64_t low, int64_t high) const {
  const json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  const auto fail = [&] {
    FailField(name, fmt::format("expected an integer in [{}, {}], found {}; correct it", low, high, Shown(*value)));
  };
  if (!value->is_number_integer()) fail();
  if (value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) fail();
  const auto number = value->get<int64_t>();
  if (number < low || number > high) fail();
  return number;
}

int64_t Fields::Int(const char* name, int64_t low, int64_t high, int64_t fallback) const {
  return Int(name, low, high).value_or(fallback);
}

std::optional<double> Fields::Number(const char* name, double low, double high) const {
  const json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  if (!(number >= low && number <= high)) {
    FailField(name, fmt::format("expected a number in [{}, {}], found {}; correct it", low, high, Shown(*value)));
  }
  return number;
}

double Fields::Number(const char* name, double low, double high, double fallback) const {
  return Number(name, low, high).value_or(fallback);
}

bool Fields::Bool(const char* name, bool fallback) const {
  const json* value = Find(name);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) FailField(name, fmt::format("expected true or false, found {}; correct it", Shown(*value)));
  return value->get<bool>();
}

std::optional<std::string> Fields::String(const char* name) const {
  const json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) FailField(name, fmt::format("expected a string, found {}; correct it", Shown(*value)));
  return value->get<std::string>();
}

}  // namespace gateskip::server
