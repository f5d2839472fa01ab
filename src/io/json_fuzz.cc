// SPDX-License-Identifier: Apache-2.0
// JSON from outside: any bytes end in an Error or in a value within the limits, which written and read again is the
// same value, and of which every member goes through every getter. Messages are short. The corpus is written by hand.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "gateskip/error.h"
#include "io/json.h"

namespace {

using nlohmann::json;

constexpr int kMaxDepth = 8;
constexpr size_t kMaxItems = 200;

// Throws what is not an Error, an Error that is our own bug, and one whose text is not UTF-8.
bool Refused(const std::function<void()>& run) {
  try {
    run();
    return false;
  } catch (const gateskip::Error& error) {
    if (error.code() == gateskip::ErrorCode::kInternal) throw;
    if (json(error.what()).dump().size() > 2000) __builtin_trap();
    return true;
  }
}

int Depth(const json& value) {
  int depth = 0;
  for (const json& child : value) depth = std::max(depth, child.is_structured() ? Depth(child) : 0);
  return depth + 1;
}

void GetAll(const json& object) {
  for (const auto& [key, value] : object.items()) {
    const bool is_null = value.is_null();
    const char* name = key.c_str();  // a key with a NUL in it is another, absent key here
    if (key.find('\0') != key.npos) continue;
    const bool no_int = Refused([&] { gateskip::GetInt(object, name, "fuzz"); });
    const bool no_number = Refused([&] { gateskip::GetNumber(object, name, "fuzz"); });
    const bool no_bool = Refused([&] { gateskip::GetBool(object, name, "fuzz"); });
    const bool no_string = Refused([&] { gateskip::GetString(object, name, "fuzz"); });
    const int taken = (no_number ? 0 : 1) + (no_bool ? 0 : 1) + (no_string ? 0 : 1);
    if (taken != (is_null || value.is_structured() ? 0 : 1)) __builtin_trap();
    if (!no_int && no_number) __builtin_trap();
    if (Refused([&] { gateskip::GetInt(object, name, "fuzz", 1); }) != (no_int && !is_null)) __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  json value;
  if (Refused([&] { value = gateskip::ParseJson(text, "fuzz", kMaxDepth, kMaxItems); })) return 0;
  if (value.is_structured() && Depth(value) > kMaxDepth) __builtin_trap();
  if (gateskip::ParseJson(value.dump(), "fuzz", kMaxDepth, kMaxItems) != value) __builtin_trap();
  if (value.is_object()) GetAll(value);
  Refused([&] { gateskip::GetInt(value, "absent", "fuzz"); });
  return 0;
}
