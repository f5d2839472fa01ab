// SPDX-License-Identifier: Apache-2.0
// Parses a chat template. Recursion is capped; what is outside the subset is refused by name.
#pragma once

#include <string>

#include "text/template_ast.h"
#include "text/template_lexer.h"

namespace gateskip::jinja {

// Throws Error: kCorruptData (syntax, with line and column), kUnsupported (import, include, extends, ...),
// kLimitExceeded (nesting, size).
Template Parse(const std::string& source, Spacing spacing = Spacing::kTrimmed);

}  // namespace gateskip::jinja
