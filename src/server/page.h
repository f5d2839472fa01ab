// SPDX-License-Identifier: Apache-2.0
// The page at "/": a chat with a budget slider, the rate, the net saving, and every token coloured by what it skipped.
// One self-contained text, nothing is loaded from elsewhere.
#pragma once

#include <string_view>

namespace gateskip::server {

std::string_view ChatPage();

}  // namespace gateskip::server
