// SPDX-License-Identifier: Apache-2.0
#include "text/document_encoder.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/check.h"

namespace gateskip {

// Bytes [begin, end) of a text.
struct DocumentEncoder::Span {
  size_t begin;
  size_t end;
};

namespace {

// Rendering a chat costs its size once or twice for every turn of the assistant: this bounds the product.
constexpr size_t kMaxChatWork = size_t{1} << 28;
constexpr size_t kMessageWork = 256;  // a message costs that many bytes at least

size_t CommonPrefix(std::string_view a, std::string_view b) {
  const size_t length = std::min(a.size(), b.size());
  return static_cast<size_t>(std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(length), b.begin()).first -
                             a.begin());
}

// Where every token ends in the text it was made of; empty when the tokens do not give the text back. SentencePiece
// vocabularies may put a space of their own at the start and behind special tokens.
std::vector<size_t> TokenEnds(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, std::string_view text) {
  std::vector<std::string> tokens;
  size_t total = 0;
  for (const int32_t id : ids) total += tokens.emplace_back(tokenizer.TokenBytes(id, /*special=*/true)).size();
  size_t added = total - std::min(total, text.size());  // spaces of their own still to come
  std::vector<size_t> ends;
  size_t at = 0;
  bool after_special = true;
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::string_view left = text.substr(at);
    std::string_view token = tokens[i];
    if (added > 0 && token.starts_with(' ') && left.starts_with(token.substr(1)) &&
        (after_special || !left.starts_with(token))) {
      token.remove_prefix(1);
      --added;
    }
    if (!left.starts_with(token)) return {};
    at += token.size();
    ends.push_back(at);
    after_special = tokenizer.TokenBytes(ids[i], /*special=*/false).empty();
  }
  if (at != text.size()) return {};
  return ends;
}

}  // namespace

DocumentEncoder::DocumentEncoder(const Tokenizer& tokenizer, const EncodeOptions& options)
    : tokenizer_(tokenizer), options_(options) {
  if (tokenizer.bos()) bos_ = tokenizer.TokenBytes(*tokenizer.bos(), /*special=*/true);
  if (tokenizer.eos()) eos_ = tokenizer.TokenBytes(*tokenizer.eos(), /*special=*/true);
  if (tokenizer.chat_template().empty()) {
    template_error_ = "none";
    return;
  }
  try {
    template_.emplace(tokenizer.chat_template());
  } catch (const Error& error) {
    template_error_ = fmt::format("one that cannot be read ({})", error.what());
  }
}

EncodedDocument DocumentEncoder::Encode(const Document& document, uint64_t row, const std::string& origin) const {
  EncodedDocument result;
  if (document.form == Document::Form::kText) {
    result = EncodeText(document);
  } else if (document.form == Document::Form::kChat) {
    result = EncodeChat(document.messages, origin);
  } else if (options_.pairs == PairFormat::kChat ||
             (options_.pairs == PairFormat::kMixed && row % 2 == 0 && template_error_ != "none")) {
    result = EncodeChat({{"user", document.prompt}, {"assistant", document.completion}}, origin);
  } else {
    const bool raw = options_.pairs == PairFormat::kRaw;
    const std::string head = raw ? document.prompt : "Question: " + document.prompt + "\nAnswer:";
    const std::string text = head + (raw ? "" : " ") + document.completion;
    result = EncodeSpans(text, /*parse_special=*/raw, {{head.size(), text.size()}}, origin);
    AppendEos(&result);
  }
  if (options_.loss_on_prompts) std::fill(result.in_loss.begin(), result.in_loss.end(), uint8_t{1});
  if (tokenizer_.add_bos() && !result.ids.empty() && result.ids.front() == tokenizer_.bos()) {
    result.ids.erase(result.ids.begin());
    result.in_loss.erase(result.in_loss.begin());
  }
  if (result.ids.empty()) {
    Fail(ErrorCode::kCorruptData, "[{}] text: expected tokens, found none; leave the row out", origin);
  }
  return result;
}

EncodedDocument DocumentEncoder::EncodeText(const Document& document) const {
  EncodedDocument result;
  result.whole = document.whole;
  result.ids = tokenizer_.Encode(document.text, /*parse_special=*/false);
  result.in_loss.assign(result.ids.size(), 1);
  if (document.whole) AppendEos(&result);
  return result;
}

void DocumentEncoder::AppendEos(EncodedDocument* document) const {
  if (!tokenizer_.eos() || document->ids.empty()) return;
  // A raw completion may bring its own.
  if (tokenizer_.IsEndOfGeneration(document->ids.back())) return;
  document->ids.push_back(*tokenizer_.eos());
  document->in_loss.push_back(1);
}

std::string DocumentEncoder::Render(const std::vector<ChatMessage>& messages, size_t count,
                                    bool generation_prompt) const {
  return template_->Render({messages.begin(), messages.begin() + static_cast<ptrdiff_t>(count)}, generation_prompt,
                           bos_, eos_);
}

EncodedDocument DocumentEncoder::EncodeChat(const std::vector<ChatMessage>& messages, const std::string& origin) const {
  if (!template_) {
    Fail(ErrorCode::kUnsupported,
         "[{}] chat: expected a model with a chat template, found {}; use a chat model, or text and pairs", origin,
         template_error_);
  }
  size_t work = 0;
  size_t turns = 0;
  for (const ChatMessage& message : messages) {
    work += message.content.size() + kMessageWork;
    turns += message.role == "assistant" ? 1 : 0;
  }
  if (work > kMaxChatWork / std::max<size_t>(turns, 1)) {
    Fail(ErrorCode::kLimitExceeded,
         "[{}] chat: expected at most {} bytes times turns of the assistant, found {} bytes and {} turns; split it",
         origin, kMaxChatWork, work, turns);
  }
  const std::string text = Render(messages, messages.size(), /*generation_prompt=*/false);
  int turns_left_out = 0;
  const std::vector<Span> spans = AssistantSpans(messages, text, &turns_left_out);
  if (spans.empty() && !options_.loss_on_prompts) {
    Fail(ErrorCode::kCorruptData,
         "[{}] chat: expected the template to write the start of a chat as it does within the whole, found no turn of "
         "the assistant where it does; take all turns into the loss, or render the text yourself",
         origin);
  }
  EncodedDocument result = EncodeSpans(text, /*parse_special=*/true, spans, origin);
  result.turns_left_out = turns_left_out;
  return result;
}

std::vector<DocumentEncoder::Span> DocumentEncoder::AssistantSpans(const std::vector<ChatMessage>& messages,
                                                                   const std::string& text, int* turns_left_out) const {
  // The part that the assistant's message k adds to the chat.
  const auto span_of = [&](size_t k) -> std::optional<Span> {
    const std::string after = k + 1 == messages.size() ? text : Render(messages, k + 1, false);
    if (!text.starts_with(after)) return std::nullopt;
    const std::string prompt = Render(messages, k, /*generation_prompt=*/true);
    const size_t begin = CommonPrefix(prompt, after);
    if (begin < prompt.size()) {
      const std::string before = Render(messages, k, /*generation_prompt=*/false);
      if (begin < before.size()) return std::nullopt;
    }
    if (begin == after.size()) return std::nullopt;
    return Span{begin, after.size()};
  };
  std::vector<Span> spans;
  for (size_t k = 0; k < messages.size(); ++k) {
    if (messages[k].role != "assistant") continue;
    std::optional<Span> span;
    try {
      span = span_of(k);
    } catch (const Error& error) {
      // The whole chat was accepted: this is a template that refuses some start of it.
      if (error.code() != ErrorCode::kInvalidArgument) throw;
    }
    if (span) {
      spans.push_back(*span);
    } else {
      ++*turns_left_out;
    }
  }
  return spans;
}

EncodedDocument DocumentEncoder::EncodeSpans(const std::string& text, bool parse_special,
                                             const std::vector<Span>& spans, const std::string& origin) const {
  EncodedDocument result;
  result.ids = tokenizer_.Encode(text, parse_special);
  result.in_loss.assign(result.ids.size(), 0);
  const std::vector<size_t> ends = TokenEnds(tokenizer_, result.ids, text);
  if (ends.size() != result.ids.size()) {
    Fail(ErrorCode::kCorruptData,
         "[{}] text: expected characters that the model's vocabulary can write, found others; leave the row out",
         origin);
  }
  for (const Span& span : spans) {
    const auto first = static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), span.begin) - ends.begin());
    const auto last = static_cast<size_t>(std::lower_bound(ends.begin(), ends.end(), span.end) - ends.begin());
    const size_t end = std::min(last + 1, ends.size());
    // What the template writes behind the token that ends the turn is never generated.
    size_t stop = end;
    while (stop > first && !tokenizer_.IsEndOfGeneration(result.ids[stop - 1])) --stop;
    if (stop == first) stop = end;
    std::fill(result.in_loss.begin() + static_cast<ptrdiff_t>(first),
              result.in_loss.begin() + static_cast<ptrdiff_t>(stop), uint8_t{1});
  }
  return result;
}

}  // namespace gateskip
