// SPDX-License-Identifier: Apache-2.0
// Byte-level BPE (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2).
#include <array>

#include "base/check.h"
#include "text/tokenizer_base.h"
#include "text/utf8.h"

namespace gateskip {
namespace {

// GPT-2's printable stand-in for every byte: itself where printable in Latin-1, else 256, 257, ... in order.
struct ByteAlphabet {
  std::array<uint32_t, 256> code_of_byte{};
  std::array<int16_t, 512> byte_of_code{};

  ByteAlphabet() {
    byte_of_code.fill(-1);
    uint32_t next = 256;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      const uint32_t code = printable ? byte : next++;
      code_of_byte[byte] = code;
      byte_of_code[code] = static_cast<int16_t>(byte);
    }
  }
};

const ByteAlphabet& Alphabet() {
  static const ByteAlphabet alphabet;
  return alphabet;
}

class ByteLevelTokenizer final : public TokenizerBase {
 public:
  ByteLevelTokenizer(Vocabulary vocabulary, SpecialTokens special, MergeTable merges, const ByteLevelOptions& options)
      : TokenizerBase(std::move(vocabulary), std::move(special)), merges_(std::move(merges)), options_(options) {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      std::string text;
      AppendUtf8(Alphabet().code_of_byte[byte], &text);
      byte_tokens_[byte] = this->vocabulary().Find(text);
      byte_symbols_[byte] = byte_tokens_[byte] >= 0 ? byte_tokens_[byte] : merges_.FindExtra(text);
    }
  }

 protected:
  void EncodeRaw(std::string_view text, bool, bool, MergeScratch* scratch, std::vector<int32_t>* ids) const override {
    std::vector<std::string_view> words;
    SplitWords(options_.pre_tokenizer, text, &words);
    std::string spelled;
    for (const std::string_view word : words) {
      if (options_.ignore_merges && word.size() <= vocabulary().max_token_bytes()) {
        spelled.clear();
        for (const char c : word) AppendUtf8(Alphabet().code_of_byte[static_cast<uint8_t>(c)], &spelled);
        if (const int32_t id = vocabulary().FindOrdinary(spelled); id >= 0) {
          ids->push_back(id);
          continue;
        }
      }
      EncodeWord(word, scratch, ids);
    }
  }

  std::string OrdinaryBytes(int32_t id) const override {
    const std::string_view text = vocabulary().Text(id);
    std::string bytes;
    for (size_t pos = 0; pos < text.size();) {
      const Utf8Char c = DecodeUtf8(text, pos);
      const int byte = c.code < Alphabet().byte_of_code.size() ? Alphabet().byte_of_code[c.code] : -1;
      if (byte >= 0) {
        bytes.push_back(static_cast<char>(static_cast<uint8_t>(byte)));
      } else {
        bytes.append(text.substr(pos, c.length));  // not of the alphabet: the token's own text
      }
      pos += c.length;
    }
    return bytes;
  }

 private:
  void EncodeWord(std::string_view word, MergeScratch* scratch, std::vector<int32_t>* ids) const {
    if (word.size() == 1) return AppendByte(word[0], ids);
    scratch->Clear();
    for (size_t i = 0; i < word.size(); ++i) {
      scratch->Append(static_cast<uint32_t>(i), 1, byte_symbols_[static_cast<uint8_t>(word[i])]);
    }
    MergeSymbols([this](const MergeSymbol& left, const MergeSymbol& right,
                        MergeCandidate* candidate) { return merges_.Lookup(left.id, right.id, candidate); },
                 scratch);
    for (int32_t i = 0; i >= 0; i = scratch->symbols[static_cast<size_t>(i)].next) {
      const MergeSymbol& symbol = scratch->symbols[static_cast<size_t>(i)];
      if (vocabulary().IsValid(symbol.id)) {
        ids->push_back(symbol.id);
      } else {
        for (const char c : word.substr(symbol.start, symbol.length)) AppendByte(c, ids);
      }
    }
  }

  void AppendByte(char c, std::vector<int32_t>* ids) const {
    const int32_t id = byte_tokens_[static_cast<uint8_t>(c)];
    if (id >= 0) {
      ids->push_back(id);
    } else if (special_tokens().unknown) {
      ids->push_back(*special_tokens().unknown);
    }  // A vocabulary without this byte has no way to say it; llama.cpp drops it too.
  }

  MergeTable merges_;
  ByteLevelOptions options_;
  std::array<int32_t, 256> byte_tokens_{};   // -1: no such token
  std::array<int32_t, 256> byte_symbols_{};  // -1: in no merge rule either
};

}  // namespace

std::shared_ptr<const Tokenizer> MakeByteLevelTokenizer(Vocabulary vocabulary, SpecialTokens special, MergeTable merges,
                                                        const ByteLevelOptions& options) {
  return std::make_shared<ByteLevelTokenizer>(std::move(vocabulary), std::move(special), std::move(merges), options);
}

}  // namespace gateskip
