// SPDX-License-Identifier: Apache-2.0
// JSON from outside: parsed with a depth cap, no duplicate keys, and getters whose errors name origin and key.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace gateskip {

// Most keys and values a text may hold: one parsed value costs up to some 100 bytes, one in the text as little as 2.
inline constexpr size_t kMaxJsonItems = 20'000'000;

// Throws Error: kCorruptData (syntax, duplicate keys, invalid UTF-8, NUL bytes), kLimitExceeded (levels, items).
nlohmann::json ParseJson(std::string_view text, const std::string& origin, int max_depth = 64,
                         size_t max_items = kMaxJsonItems);

// Member `key` of an object. With a fallback an absent (or null) member is the fallback; otherwise absence and any
// other type throw Error(kCorruptData). Numbers must be finite; integers must be integral.
int64_t GetInt(const nlohmann::json& object, const char* key, const std::string& origin,
               std::optional<int64_t> fallback = std::nullopt);
double GetNumber(const nlohmann::json& object, const char* key, const std::string& origin,
                 std::optional<double> fallback = std::nullopt);
bool GetBool(const nlohmann::json& object, const char* key, const std::string& origin,
             std::optional<bool> fallback = std::nullopt);
std::string GetString(const nlohmann::json& object, const char* key, const std::string& origin,
                      std::optional<std::string> fallback = std::nullopt);

}  // namespace gateskip
