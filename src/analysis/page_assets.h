// SPDX-License-Identifier: Apache-2.0
// The style sheet and the script of every page (html_page.h).
#pragma once

#include <string_view>

namespace gateskip {

extern const std::string_view kPageStyle;
extern const std::string_view kPageScript;

}  // namespace gateskip
