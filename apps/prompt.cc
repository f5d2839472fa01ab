// SPDX-License-Identifier: Apache-2.0
#include "prompt.h"

#include "base/check.h"
#include "interrupt.h"

namespace gateskip::cli {

std::vector<int32_t> EncodePlain(const Engine& engine, std::string_view text) {
  std::vector<int32_t> ids = engine.Encode(text, engine.adds_bos(), /*parse_special=*/true);
  if (ids.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[prompt] text: expected at least one token, found none; give some text");
  }
  return ids;
}

std::vector<int32_t> EncodeChat(const Engine& engine, const std::vector<ChatTurn>& turns) {
  std::vector<int32_t> ids = engine.EncodeChat(turns, /*add_generation_prompt=*/true);
  if (ids.empty()) Fail(ErrorCode::kInvalidArgument, "[prompt] chat: expected at least one token, found none");
  return ids;
}

GenerateResult GenerateStreaming(Engine& engine, const std::vector<int32_t>& ids, const GenerateOptions& options,
                                 bool stream) {
  ProgressBar bar("reading the prompt");
  const bool harmless = IsTerminal(stdout);
  Engine::TextCallback on_text;
  if (stream) {
    on_text = [&bar, harmless](std::string_view piece) {
      bar.Clear();
      return WriteStdout(harmless ? Printable(piece, /*lines=*/true) : std::string(piece));
    };
  }
  ThrowIfInterrupted();
  const InterruptEngine guard(engine);
  return engine.Generate(ids, options, on_text, [&bar](size_t done, size_t total) { bar.Update(done, total, "tok"); });
}

}  // namespace gateskip::cli
