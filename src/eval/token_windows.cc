// SPDX-License-Identifier: Apache-2.0
#include "eval/token_windows.h"

#include <algorithm>

#include "base/check.h"
#include "text/documents.h"

namespace gateskip {

TokenWindows ReadWindows(const Tokenizer& tokenizer, const std::vector<std::string>& paths, int64_t max_tokens,
                         int window, int threads) {
  TokenWindows windows;
  const bool bos = tokenizer.add_bos() && tokenizer.bos().has_value();
  const size_t body = static_cast<size_t>(window) - (bos ? 1 : 0);
  const size_t share = std::max<size_t>(1, static_cast<size_t>(max_tokens / window) / paths.size());
  DocumentOptions documents;
  documents.threads = std::max(1, threads);
  for (const std::string& path : paths) {
    std::vector<int32_t> ids;
    ReadDocuments(path, tokenizer, documents, [&](EncodedDocument&& document) {
      ids.insert(ids.end(), document.ids.begin(), document.ids.end());
      return ids.size() < share * body;
    });
    if (ids.size() < body) {
      Fail(ErrorCode::kInvalidArgument,
           "[{}] text: expected at least {} tokens, found {}; pass more text or smaller windows", path, body,
           ids.size());
    }
    for (size_t n = 0; n < share && (n + 1) * body <= ids.size(); ++n) {
      std::vector<int32_t> ids_of_window;
      if (bos) ids_of_window.push_back(*tokenizer.bos());
      const auto begin = ids.begin() + static_cast<ptrdiff_t>(n * body);
      ids_of_window.insert(ids_of_window.end(), begin, begin + static_cast<ptrdiff_t>(body));
      windows.push_back(std::move(ids_of_window));
    }
  }
  return windows;
}

}  // namespace gateskip
