// SPDX-License-Identifier: Apache-2.0
// Splits text into the words that byte-level BPE merges within. Each kind is a published regular expression,
// written out by hand as one linear pass: no regex engine, no backtracking, no recursion.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

namespace gateskip {

enum class PreTokenizer {
  kGpt2,     // GPT-2's pattern
  kDefault,  // punctuation runs, then GPT-2's pattern, then digits in groups of three
  kSmolLm,   // every digit alone, then GPT-2's pattern
  kLlama3,   // cl100k-like, digits in groups of up to three
  kQwen2,    // the same with every digit alone
};

// By the name a GGUF gives in tokenizer.ggml.pre.
std::optional<PreTokenizer> PreTokenizerFromName(std::string_view name);

// Appends the words, views into `text`; their concatenation is `text`.
void SplitWords(PreTokenizer kind, std::string_view text, std::vector<std::string_view>* words);

}  // namespace gateskip
