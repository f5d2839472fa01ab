// SPDX-License-Identifier: Apache-2.0
// Text <-> token ids. Byte-level BPE (GPT-2 style, several pre-tokenizers) and SentencePiece-style BPE with
// byte fall-back. Linear in the length of the text, whatever the text.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gateskip {

class GgufFile;

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // From a GGUF's tokenizer.ggml.* metadata, or a Hugging Face tokenizer.json beside its tokenizer_config.json.
  // Throws Error(kUnsupported) for an unknown model or pre-tokenizer, kCorruptData for a broken vocabulary.
  static std::shared_ptr<const Tokenizer> FromGguf(const GgufFile& file);
  static std::shared_ptr<const Tokenizer> FromHubDirectory(const std::string& directory);
  // The same of the contents of tokenizer.json and tokenizer_config.json ("{}" for none); `origin` names them in
  // messages.
  static std::shared_ptr<const Tokenizer> ParseHub(std::string_view tokenizer_json, std::string_view config_json,
                                                   const std::string& origin);

  // parse_special: special tokens written in the text ("<|im_start|>") become their single id; otherwise they
  // are ordinary text. No BOS is added; see add_bos(). Text must be UTF-8; invalid bytes are tokenised as bytes
  // (byte-level, byte fall-back), never refused.
  virtual std::vector<int32_t> Encode(std::string_view text, bool parse_special) const = 0;

  // For text that is put into a text with special tokens and is to stay text: Guard replaces what could begin a special
  // token, EncodeGuarded is Encode with parse_special, but cuts special tokens before it puts back what was replaced.
  virtual std::string Guard(std::string_view text) const = 0;
  virtual std::vector<int32_t> EncodeGuarded(std::string_view text) const = 0;

  // The bytes of one token. Special tokens yield their text if `special`, else nothing. A token may be part of
  // a UTF-8 character: use StreamDecoder to print.
  virtual std::string TokenBytes(int32_t id, bool special) const = 0;

  virtual int32_t vocab_size() const = 0;
  virtual std::optional<int32_t> bos() const = 0;
  virtual std::optional<int32_t> eos() const = 0;
  virtual bool add_bos() const = 0;  // whether the model wants BOS in front of a prompt
  // Every id that ends a generation: EOS, end-of-turn.
  virtual bool IsEndOfGeneration(int32_t id) const = 0;
  virtual std::optional<int32_t> FindSpecial(std::string_view text) const = 0;
  virtual const std::string& chat_template() const = 0;  // empty when the model has none

  std::string Decode(std::span<const int32_t> ids, bool special) const;
};

// Turns a stream of tokens into text that never holds half a UTF-8 character: bytes of an incomplete character
// wait for the next token; bytes that can never complete become U+FFFD.
class StreamDecoder {
 public:
  StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool special);
  std::string Push(int32_t id);
  std::string Finish();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool special_;
  std::string pending_;
};

}  // namespace gateskip
