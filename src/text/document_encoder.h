// SPDX-License-Identifier: Apache-2.0
// Documents as token ids, each with a mark whether it is in the loss: what a model is to learn to write is, what it is
// only given to read is not. docs/training_data.md has the rules as a table.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/chat_template.h"
#include "text/document.h"
#include "text/tokenizer.h"

namespace gateskip {

// How a pair (prompt and completion, question and answer, ...) is written.
enum class PairFormat {
  kMixed,  // rows 0, 2, 4, ... of a file as a chat, if the model has a chat template; the others as
           // "Question: PROMPT\nAnswer: COMPLETION"
  kChat,   // always as a chat
  kRaw,    // the prompt and the completion one after the other as they are, special tokens in them taken for such
};

inline const std::vector<std::string> kPairFormatNames = {"mixed", "chat", "raw"};  // in the order of the enum

struct EncodeOptions {
  PairFormat pairs = PairFormat::kMixed;
  bool loss_on_prompts = false;  // prompts and the turns of others are in the loss, too
};

struct EncodedDocument {
  std::vector<int32_t> ids;      // never starts with a BOS that the model adds itself (Tokenizer::add_bos)
  std::vector<uint8_t> in_loss;  // [ids] 1: a token to learn to write
  bool whole = true;             // Document::whole
  int turns_left_out = 0;        // of the assistant, not in the loss because the template writes them in two ways
};

class DocumentEncoder {
 public:
  // `tokenizer` must outlive the encoder.
  DocumentEncoder(const Tokenizer& tokenizer, const EncodeOptions& options);

  // `row`: the number of the document in its file, from 0; `origin` names it in messages. May be called from several
  // threads at once. Whole texts and pairs that are no chats end with EOS, which is in the loss.
  //
  // A chat is rendered whole and tokenised at once. What the assistant wrote in turn k is what the rendering of
  // messages [0, k] adds to the rendering of [0, k) with its generation prompt, up to the token that ends the turn; a
  // token that is partly of it counts. A turn is left out of the loss when the rendering of [0, k] does not begin the
  // whole chat's (templates that take the thinking out of earlier turns). Where the generation prompt does not begin
  // the finished turn (it opens a thinking block, say), the loss begins at the first byte in which they differ.
  //
  // Throws Error: kUnsupported (a chat, and no usable template), kInvalidArgument (the template refuses the chat),
  // kCorruptData (no tokens; no turn can be told apart; the tokens do not give the chat's text back), kLimitExceeded.
  EncodedDocument Encode(const Document& document, uint64_t row, const std::string& origin) const;

 private:
  struct Span;
  EncodedDocument EncodeText(const Document& document) const;
  EncodedDocument EncodePair(const Document& document) const;
  EncodedDocument EncodeChat(const std::vector<ChatMessage>& messages, const std::string& origin) const;
  std::vector<Span> AssistantSpans(const std::vector<ChatMessage>& messages, const std::string& text,
                                   int* turns_left_out) const;
  EncodedDocument EncodeSpans(const std::string& text, bool parse_special, const std::vector<Span>& spans,
                              const std::string& origin) const;
  void AppendEos(EncodedDocument* document) const;
  std::string Render(const std::vector<ChatMessage>& messages, size_t count, bool generation_prompt) const;

  const Tokenizer& tokenizer_;
  EncodeOptions options_;
  std::optional<ChatTemplate> template_;
  std::string template_error_;  // why there is none
  std::string bos_, eos_;       // as a template writes them
};

}  // namespace gateskip
