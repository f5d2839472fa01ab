// SPDX-License-Identifier: Apache-2.0
#include "window_score.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "interrupt.h"
#include "report.h"

namespace gateskip::cli {

TextScore ScoreText(Engine& engine, std::string_view text, const BudgetOptions& budget, int window, size_t max_tokens,
                    const std::function<void(size_t done, size_t total)>& progress) {
  GS_CHECK(window >= 2);
  std::vector<int32_t> ids = engine.Encode(text, /*add_bos=*/false, /*parse_special=*/false);
  if (max_tokens > 0 && ids.size() > max_tokens) ids.resize(max_tokens);
  const std::vector<int32_t> bos =
      engine.adds_bos() ? engine.Encode("", /*add_bos=*/true, /*parse_special=*/false) : std::vector<int32_t>();
  const size_t room = static_cast<size_t>(window) - bos.size();

  TextScore score;
  double sum = 0;
  double squares = 0;
  std::vector<SavingReport> savings;
  const InterruptEngine guard(engine);
  for (size_t begin = 0; begin < ids.size(); begin += room) {
    const size_t count = std::min(room, ids.size() - begin);
    std::vector<int32_t> rows = bos;
    rows.insert(rows.end(), ids.begin() + static_cast<std::ptrdiff_t>(begin),
                ids.begin() + static_cast<std::ptrdiff_t>(begin + count));
    if (rows.size() < 2) break;  // a last token that has nothing before it
    ThrowIfInterrupted();
    const ScoreResult result = engine.Score(
        rows, budget, [&](size_t done, size_t) { progress(std::min(ids.size(), begin + done), ids.size()); });
    ThrowIfInterrupted();
    for (const float log_prob : result.log_probs) {
      sum -= log_prob;
      squares += static_cast<double>(log_prob) * log_prob;
    }
    score.tokens += result.log_probs.size();
    const std::span<const int32_t> scored(rows.data() + 1, rows.size() - 1);
    score.bytes += static_cast<double>(engine.Decode(scored, /*special=*/true).size());
    score.seconds += result.seconds;
    savings.push_back(result.saving);
    ++score.windows;
    progress(begin + count, ids.size());
  }
  if (score.tokens == 0) {
    Fail(ErrorCode::kInvalidArgument, "[perplexity] text: expected at least two tokens, found {}", ids.size());
  }
  const double n = static_cast<double>(score.tokens);
  score.nll = sum / n;
  const double variance = n > 1 ? std::max(0.0, (squares - sum * sum / n) / (n - 1)) : 0.0;
  score.nll_error = std::sqrt(variance / n);
  score.perplexity = std::exp(score.nll);
  score.perplexity_error = score.perplexity * score.nll_error;
  score.bits_per_byte = score.bytes > 0 ? sum / std::log(2.0) / score.bytes : 0.0;
  score.saving = MergeSavings(savings);
  return score;
}

}  // namespace gateskip::cli
