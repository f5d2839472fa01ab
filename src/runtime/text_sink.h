// SPDX-License-Identifier: Apache-2.0
// Where the text of a generation goes: decoded, cut at stop strings, handed to the caller.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gateskip/engine.h"
#include "runtime/stop_strings.h"
#include "text/tokenizer.h"

namespace gateskip {

class TextSink {
 public:
  // `on_text` (may be empty) gets each piece as it is complete, `text` all of them. Throws as StopStrings.
  TextSink(std::shared_ptr<const Tokenizer> tokenizer, std::vector<std::string> stops, Engine::TextCallback on_text,
           std::string* text)
      : decoder_(std::move(tokenizer), false), stops_(std::move(stops)), on_text_(std::move(on_text)), text_(text) {}

  void Push(int32_t id) { Emit(stops_.Push(decoder_.Push(id))); }
  void Finish() {
    Emit(stops_.Push(decoder_.Finish()));
    Emit(stops_.Finish());
  }
  bool stopped() const { return stops_.stopped(); }
  bool refused() const { return refused_; }

 private:
  void Emit(const std::string& piece) {
    if (piece.empty()) return;
    *text_ += piece;
    if (on_text_ && !refused_) refused_ = !on_text_(piece);
  }

  StreamDecoder decoder_;
  StopStrings stops_;
  Engine::TextCallback on_text_;
  std::string* text_;
  bool refused_ = false;
};

}  // namespace gateskip
