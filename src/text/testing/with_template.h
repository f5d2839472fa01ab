// SPDX-License-Identifier: Apache-2.0
// Any tokenizer with another chat template.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace gateskip::testing {

class WithTemplate : public Tokenizer {
 public:
  WithTemplate(std::shared_ptr<const Tokenizer> base, std::string chat_template)
      : base_(std::move(base)), chat_template_(std::move(chat_template)) {}

  std::vector<int32_t> Encode(std::string_view text, bool parse_special) const override {
    return base_->Encode(text, parse_special);
  }
  std::string Guard(std::string_view text) const override { return base_->Guard(text); }
  std::vector<int32_t> EncodeGuarded(std::string_view text) const override { return base_->EncodeGuarded(text); }
  std::string TokenBytes(int32_t id, bool special) const override { return base_->TokenBytes(id, special); }
  int32_t vocab_size() const override { return base_->vocab_size(); }
  std::optional<int32_t> bos() const override { return base_->bos(); }
  std::optional<int32_t> eos() const override { return base_->eos(); }
  bool add_bos() const override { return base_->add_bos(); }
  bool IsEndOfGeneration(int32_t id) const override { return base_->IsEndOfGeneration(id); }
  std::optional<int32_t> FindSpecial(std::string_view text) const override { return base_->FindSpecial(text); }
  const std::string& chat_template() const override { return chat_template_; }

 private:
  std::shared_ptr<const Tokenizer> base_;
  std::string chat_template_;
};

}  // namespace gateskip::testing
