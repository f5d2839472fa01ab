// SPDX-License-Identifier: Apache-2.0
// Fields of a request's JSON object. A field that is absent or null is its fallback; any other type, a number that is
// not finite or out of its range is a RequestError that names it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace gateskip::server {

class Fields {
 public:
  // `object` outlives it. Throws RequestError if it is no object.
  explicit Fields(const nlohmann::json& object);

  // null when the field is absent or null.
  const nlohmann::json* Find(const char* name) const;

  std::optional<int64_t> Int(const char* name, int64_t low, int64_t high) const;
  int64_t Int(const char* name, int64_t low, int64_t high, int64_t fallback) const;
  std::optional<double> Number(const char* name, double low, double high) const;
  double Number(const char* name, double low, double high, double fallback) const;
  bool Bool(const char* name, bool fallback) const;
  std::optional<std::string> String(const char* name) const;

 private:
  const nlohmann::json& object_;
};

// A short description of a value for messages: its text if it is short and no text of a prompt, else its type.
std::string Shown(const nlohmann::json& value);

}  // namespace gateskip::server
