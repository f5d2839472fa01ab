// SPDX-License-Identifier: Apache-2.0
// The tokenizer of a GGUF as the files of a hub-style directory: what Tokenizer::FromHubDirectory reads, and so do
// transformers and tokenizers. The inverse of nothing exact: a GGUF keeps less than tokenizer.json does, so the text
// differs from the original's, the ids do not.
#pragma once

#include <string>

namespace gateskip {

class GgufFile;

struct HubTokenizer {
  std::string tokenizer_json;
  std::string tokenizer_config_json;
};

// Byte-level BPE keeps its merges. A SentencePiece-style vocabulary has scores instead; its merges are every way to put
// a piece together from two others, the best score first, as transformers' converter does it.
// Throws Error as Tokenizer::FromGguf does; kUnsupported for a pre-tokenizer without a published pattern ("default")
// and for two tokens of one text, which tokenizer.json cannot hold.
HubTokenizer MakeHubTokenizer(const GgufFile& file);

}  // namespace gateskip
