// SPDX-License-Identifier: Apache-2.0
// Hub tokenizers. An input is tokenizer.json, NUL, and tokenizer_config.json. What is accepted encodes every text into
// ids of its vocabulary and decodes them; that the text comes back is no promise for any vocabulary.
#include <cstdint>

#include "io/testing/split_input.h"
#include "text/testing/laws.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using gateskip::testing::Require;
  static constexpr std::string_view kTexts[] = {
      "",
      "the  3 he's <s>red</s> <|x|><keep> <eat> \n\n",
      "\u2581a \u00e9\u4e2d\U0001f600 12345\t the",
      "\xE2\x96 \xFF\xC3 \xF0\x9F\x98",
  };
  std::string_view config(reinterpret_cast<const char*>(data), size);
  const std::string_view file = gateskip::testing::TakePart(&config);
  try {
    const auto tokenizer = gateskip::Tokenizer::ParseHub(file, config.empty() ? "{}" : config, "fuzz");
    const auto known = [&](std::optional<int32_t> id) { return !id || (*id >= 0 && *id < tokenizer->vocab_size()); };
    Require(known(tokenizer->bos()) && known(tokenizer->eos()), "special tokens are of the vocabulary");
    Require(!tokenizer->add_bos() || tokenizer->bos().has_value(), "there is a BOS to add");
    Require(!tokenizer->eos() || tokenizer->IsEndOfGeneration(*tokenizer->eos()), "EOS ends a generation");
    Require(known(tokenizer->FindSpecial("<s>")), "special tokens are of the vocabulary");
    for (const std::string_view text : kTexts) {
      for (const bool parse_special : {false, true}) {
        gateskip::testing::CheckIds(tokenizer, tokenizer->Encode(text, parse_special));
      }
    }
  } catch (const gateskip::Error& error) {
    gateskip::testing::CheckError(error);
  }
  return 0;
}
