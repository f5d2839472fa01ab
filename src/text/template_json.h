// SPDX-License-Identifier: Apache-2.0
// JSON as values of the template language, straight, in its order, with depth and size capped.
#pragma once

#include <string_view>

#include "text/template_value.h"

namespace gateskip::jinja {

// Throws Error: kInvalidArgument (not JSON, an integer beyond 64 bits), kLimitExceeded (levels, the budget).
Value FromJson(std::string_view text, Budget* budget);

}  // namespace gateskip::jinja
