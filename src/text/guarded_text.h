// SPDX-License-Identifier: Apache-2.0
// Text that goes through a chat template and must stay text: characters that could begin a special token are replaced
// by stand-ins, which templates pass through, and put back once special tokens have been cut out. A byte is two of
// Unicode's noncharacters, U+FDD0 + its upper and U+FDE0 + its lower half: reserved for such use, and valid UTF-8.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gateskip {

// Whether the code point is one that stand-ins are made of; text that holds it has to be replaced, too.
bool IsStandIn(uint32_t code);

// `bytes`, of any value, as stand-ins.
void AppendStandIns(std::string_view bytes, std::string* out);

// The text with bytes in place of their stand-ins.
std::string ReplaceStandIns(std::string_view text);

}  // namespace gateskip
