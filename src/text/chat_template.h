// SPDX-License-Identifier: Apache-2.0
// Chat templates: a safe subset of Jinja. No attribute reflection, no IO, no imports; every render is limited
// in steps, output and depth, so a hostile template ends in an Error, not in a hang.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace gateskip {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant", "tool"
  std::string content;
};

struct TemplateLimits {
  int64_t max_steps = 5'000'000;
  size_t max_output_bytes = 16u << 20;
  int max_depth = 64;
};

class ChatTemplate {
 public:
  // Parses once. Throws Error(kCorruptData) with line and column, kUnsupported for constructs outside the subset.
  explicit ChatTemplate(const std::string& source);
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // Renders `messages`. Throws Error(kInvalidArgument) when the template itself raises (raise_exception),
  // kLimitExceeded when a limit is hit. `variables_json` is a JSON object of extra variables (tools, dates).
  std::string Render(const std::vector<ChatMessage>& messages, bool add_generation_prompt, const std::string& bos_token,
                     const std::string& eos_token, const std::string& variables_json = "{}",
                     const TemplateLimits& limits = {}) const;

 private:
  struct Node;
  std::shared_ptr<const Node> root_;
};

}  // namespace gateskip
