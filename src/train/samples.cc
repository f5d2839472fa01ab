// SPDX-License-Identifier: Apache-2.0
#include "train/samples.h"

#include <algorithm>

namespace gateskip::train {

std::string GreedyContinuation(GatedModel& model, const Tokenizer& tokenizer, const std::string& prompt, int count,
                               int max_length, const Decisions& decisions) {
  at::NoGradGuard no_grad;
  std::vector<int32_t> ids = tokenizer.Encode(prompt, false);
  if (tokenizer.add_bos() && tokenizer.bos()) ids.insert(ids.begin(), *tokenizer.bos());
  if (ids.empty()) ids.push_back(tokenizer.bos().value_or(tokenizer.eos().value_or(0)));
  const auto most = static_cast<size_t>(max_length - 1);
  if (ids.size() > most) ids.erase(ids.begin(), ids.end() - static_cast<int64_t>(most));
  const size_t given = ids.size();
  model.Refresh();
  for (int i = 0; i < count && ids.size() < static_cast<size_t>(max_length); ++i) {
    const auto length = static_cast<int64_t>(ids.size());
    const Tensor tokens = at::tensor(std::vector<int64_t>(ids.begin(), ids.end()), at::kLong).view({1, length});
    const Tensor hidden = model.Forward(tokens, decisions, true, nullptr);
    const Tensor logits = model.Logits(hidden, at::tensor({length - 1}, at::kLong), true);
    const auto next = static_cast<int32_t>(logits.argmax(-1).item<int64_t>());
    if (tokenizer.IsEndOfGeneration(next)) break;
    ids.push_back(next);
  }
  return tokenizer.Decode(std::span(ids).subspan(given), false);
}

}  // namespace gateskip::train
