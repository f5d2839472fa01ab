// SPDX-License-Identifier: Apache-2.0
#include "eval/token_windows.h"

#include <algorithm>

#include "base/check.h"
#include "text/documents.h"

namespace gateskip {
namespace {

// Of one file: `tokens` tokens of its documents, which follow each other without a gap.
TokenWindows JoinedWindows(const std::string& path, const Tokenizer& tokenizer, const DocumentOptions& documents,
                           size_t window, size_t tokens) {
  std::vector<int32_t> ids;
  ReadDocuments(path, tokenizer, documents, [&](EncodedDocument&& document) {
    ids.insert(ids.end(), document.ids.begin(), document.ids.end());
    return ids.size() < tokens;
  });
  if (ids.size() < window) {
    Fail(ErrorCode::kInvalidArgument,
         "[{}] text: expected at least {} tokens, found {}; pass more text or smaller windows", path, window,
         ids.size());
  }
  TokenWindows windows;
  for (size_t n = 0; (n + 1) * window <= std::min(ids.size(), tokens); ++n) {
    const auto begin = ids.begin() + static_cast<ptrdiff_t>(n * window);
    windows.emplace_back(begin, begin + static_cast<ptrdiff_t>(window));
  }
  return windows;
}

// Of one file: about `tokens` tokens, a window for each document, which is cut to its length.
TokenWindows DocumentWindows(const std::string& path, const Tokenizer& tokenizer, const DocumentOptions& documents,
                             size_t window, size_t tokens) {
  TokenWindows windows;
  size_t taken = 0;
  ReadDocuments(path, tokenizer, documents, [&](EncodedDocument&& document) {
    document.ids.resize(std::min(document.ids.size(), window));
    taken += document.ids.size();
    windows.push_back(std::move(document.ids));
    return taken < tokens;
  });
  return windows;
}

}  // namespace

TokenWindows ReadWindows(const Tokenizer& tokenizer, const std::vector<std::string>& paths,
                         const WindowOptions& options) {
  TokenWindows windows;
  const bool bos = tokenizer.add_bos() && tokenizer.bos().has_value();
  const size_t body = static_cast<size_t>(options.window) - (bos ? 1 : 0);
  const size_t share = std::max<size_t>(1, static_cast<size_t>(options.max_tokens / options.window) / paths.size());
  DocumentOptions documents;
  documents.threads = std::max(1, options.threads);
  documents.encode.pairs = options.pair_format;
  for (const std::string& path : paths) {
    const auto cut = options.per_document ? DocumentWindows : JoinedWindows;
    for (std::vector<int32_t>& window : cut(path, tokenizer, documents, body, share * body)) {
      if (bos) window.insert(window.begin(), *tokenizer.bos());
      windows.push_back(std::move(window));
    }
  }
  return windows;
}

}  // namespace gateskip
