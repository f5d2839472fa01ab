// SPDX-License-Identifier: Apache-2.0
// Layers picked by a line of text, as options have it: "0,3,5:9", "::2", ":".
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gateskip {

// [num_layers], true = picked. The text is indices and slices begin:end:step between commas, with Python's meaning:
// begin and end may be absent and are cut to what is there, negative numbers count from the end, steps are positive. An
// empty text picks nothing. Throws Error(kInvalidArgument), naming `option`, for anything else and for an index of no
// layer.
std::vector<bool> ParseLayers(std::string_view text, int num_layers, const std::string& option);

}  // namespace gateskip
