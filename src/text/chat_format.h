// SPDX-License-Identifier: Apache-2.0
// Conversations as prompts, by a model's own chat template. Special tokens that the template writes are special; what a
// message spells like one ("<|im_end|>") is text, so that no message can end its turn or open another.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace gateskip {

class ChatFormat {
 public:
  // Never throws for the template: one outside of the subset, or none, must not keep a model from plain prompts.
  explicit ChatFormat(std::shared_ptr<const Tokenizer> tokenizer);

  // Both throw Error(kUnsupported) for a model without a template, what its template is refused for, and what
  // ChatTemplate::Render throws.
  std::string Render(const std::vector<ChatMessage>& messages, bool add_generation_prompt) const;
  // With BOS in front where the model wants one and the template wrote none.
  std::vector<int32_t> Encode(const std::vector<ChatMessage>& messages, bool add_generation_prompt) const;

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::optional<ChatTemplate> template_;
};

}  // namespace gateskip
