// SPDX-License-Identifier: Apache-2.0
#include "text/chat_format.h"

#include <utility>

#include "base/check.h"

namespace gateskip {

ChatFormat::ChatFormat(std::shared_ptr<const Tokenizer> tokenizer) : tokenizer_(std::move(tokenizer)) {
  const std::string& source = tokenizer_->chat_template();
  if (source.empty()) return;
  try {
    template_.emplace(source);
  } catch (const Error&) {
    // Render tells the reason to who asks for it.
  }
}

std::string ChatFormat::Render(const std::vector<ChatMessage>& messages, bool add_generation_prompt) const {
  if (!template_) {
    const std::string& source = tokenizer_->chat_template();
    if (!source.empty()) ChatTemplate{source};  // throws the reason
    Fail(ErrorCode::kUnsupported, "[chat] template: expected the model to bring one, found none; use plain prompts");
  }
  const auto text_of = [&](std::optional<int32_t> id) {
    return id ? tokenizer_->TokenBytes(*id, /*special=*/true) : std::string();
  };
  return template_->Render(messages, add_generation_prompt, text_of(tokenizer_->bos()), text_of(tokenizer_->eos()));
}

std::vector<int32_t> ChatFormat::Encode(const std::vector<ChatMessage>& messages, bool add_generation_prompt) const {
  std::vector<ChatMessage> guarded;
  guarded.reserve(messages.size());
  for (const auto& [role, content] : messages) guarded.push_back({tokenizer_->Guard(role), tokenizer_->Guard(content)});
  std::vector<int32_t> ids = tokenizer_->EncodeGuarded(Render(guarded, add_generation_prompt));
  const std::optional<int32_t> bos = tokenizer_->bos();
  if (tokenizer_->add_bos() && bos && (ids.empty() || ids.front() != *bos)) ids.insert(ids.begin(), *bos);
  return ids;
}

}  // namespace gateskip
