// SPDX-License-Identifier: Apache-2.0
// A tokenizer whose output can be written down by hand, for the tests of training text.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace gateskip::testing {

constexpr int32_t kEos = 256;
constexpr int32_t kBos = 257;

// A byte is its own id. Special tokens are written <E> and <B>.
class ByteTokenizer : public Tokenizer {
 public:
  explicit ByteTokenizer(bool add_bos = false, std::string chat_template = "")
      : add_bos_(add_bos), chat_template_(std::move(chat_template)) {}

  std::vector<int32_t> Encode(std::string_view text, bool parse_special) const override {
    std::vector<int32_t> ids;
    while (!text.empty()) {
      const bool eos = parse_special && text.starts_with("<E>");
      const bool bos = parse_special && text.starts_with("<B>");
      ids.push_back(eos ? kEos : bos ? kBos : static_cast<uint8_t>(text[0]));
      text.remove_prefix(eos || bos ? 3 : 1);
    }
    return ids;
  }
  // Training text is not guarded: what it spells like a special token is one only where the format says so.
  std::string Guard(std::string_view text) const override { return std::string(text); }
  std::vector<int32_t> EncodeGuarded(std::string_view text) const override { return Encode(text, true); }
  std::string TokenBytes(int32_t id, bool special) const override {
    if (id < 256) return std::string(1, static_cast<char>(id));
    if (!special) return "";
    return id == kEos ? "<E>" : "<B>";
  }
  int32_t vocab_size() const override { return 258; }
  std::optional<int32_t> bos() const override { return kBos; }
  std::optional<int32_t> eos() const override { return kEos; }
  bool add_bos() const override { return add_bos_; }
  bool IsEndOfGeneration(int32_t id) const override { return id == kEos; }
  std::optional<int32_t> FindSpecial(std::string_view text) const override {
    if (text == "<E>") return kEos;
    return text == "<B>" ? std::optional<int32_t>(kBos) : std::nullopt;
  }
  const std::string& chat_template() const override { return chat_template_; }

 private:
  bool add_bos_;
  std::string chat_template_;
};

}  // namespace gateskip::testing
