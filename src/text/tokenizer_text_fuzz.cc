// SPDX-License-Identifier: Apache-2.0
// Text through one small tokenizer of every kind. An input is a digit that chooses the tokenizer and any bytes: they
// come back as the kind promises, and taken for ids they stream as Decode has them.
#include <cstdint>

#include "text/pretokenizer.h"
#include "text/testing/laws.h"
#include "text/testing/small_tokenizers.h"

namespace gateskip::testing {
namespace {

void CheckText(const SmallTokenizer& small, std::string_view text) {
  const auto& tokenizer = small.tokenizer;
  const std::vector<int32_t> plain = tokenizer->Encode(text, false);
  CheckIds(tokenizer, plain);
  Require(tokenizer->Decode(plain, true) == small.back(text), "the text comes back");
  for (const char* name : {"</s>", "EOT", "<|x|>", "<|x|>1"}) {
    const int32_t id = tokenizer->FindSpecial(name).value();
    Require(std::find(plain.begin(), plain.end(), id) == plain.end(), "special tokens are text unless asked for");
  }
  const std::vector<int32_t> parsed = tokenizer->Encode(text, true);
  CheckIds(tokenizer, parsed);
  if (!small.spaces_after_special) {
    Require(tokenizer->Decode(parsed, true) == small.back(text), "the text comes back with its special tokens");
  }
  Require(tokenizer->EncodeGuarded(tokenizer->Guard(text)) == plain, "guarded text is encoded as text");
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(static_cast<uint8_t>(c) * 7 % tokenizer->vocab_size());
  CheckIds(tokenizer, ids);
}

void CheckWords(std::string_view text) {
  for (const PreTokenizer kind : {PreTokenizer::kGpt2, PreTokenizer::kDefault, PreTokenizer::kSmolLm,
                                  PreTokenizer::kLlama3, PreTokenizer::kQwen2}) {
    std::vector<std::string_view> words;
    SplitWords(kind, text, &words);
    std::string joined;
    for (const std::string_view word : words) {
      Require(!word.empty(), "no word is empty");
      joined += word;
    }
    Require(joined == text, "words add up to the text");
  }
}

}  // namespace
}  // namespace gateskip::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gateskip::testing;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  try {
    CheckText(SmallTokenizers()[static_cast<uint8_t>(data[0] - '0') % SmallTokenizers().size()], text);
    CheckWords(text);
  } catch (const gateskip::Error& error) {
    CheckError(error);
    Require(false, "no text of this size is refused");
  }
  return 0;
}
