// SPDX-License-Identifier: Apache-2.0
// Prompts as token ids, and pieces of an answer as they come.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "gateskip/engine.h"
#include "terminal.h"

namespace gateskip::cli {

// Plain text, BOS in front if the model wants it. Throws Error(kInvalidArgument) when no token comes out.
std::vector<int32_t> EncodePlain(const Engine& engine, std::string_view text);

// Turns through the model's chat template; BOS exactly once if the model wants it.
std::vector<int32_t> EncodeChat(const Engine& engine, const std::vector<ChatTurn>& turns);

// Runs Generate with Ctrl-C cancelling it, a bar while a long prompt is read, and the answer streamed to stdout
// if `stream`.
GenerateResult GenerateStreaming(Engine& engine, const std::vector<int32_t>& ids, const GenerateOptions& options,
                                 bool stream);

}  // namespace gateskip::cli
