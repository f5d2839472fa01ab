// SPDX-License-Identifier: Apache-2.0
#include "eval/model_difference.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "eval/window_runner.h"
#include "gate/skip_plan.h"
#include "kernels/kernels.h"

namespace gateskip {
namespace {

struct TokenDifference {
  double nll_reference, nll, kl;
  bool same_top;
};

TokenDifference Compare(std::span<const float> p, std::span<const float> q, size_t next) {
  const auto p_sum = static_cast<double>(kernels::LogSumExp(p));
  const auto q_sum = static_cast<double>(kernels::LogSumExp(q));
  double kl = 0;
  for (size_t v = 0; v < p.size(); ++v) {
    const double log_p = static_cast<double>(p[v]) - p_sum;
    const double log_q = static_cast<double>(q[v]) - q_sum;
    kl += std::exp(log_p) * (log_p - log_q);
  }
  return {p_sum - static_cast<double>(p[next]), q_sum - static_cast<double>(q[next]), kl,
          kernels::ArgMax(p) == kernels::ArgMax(q)};
}

// One of the two: logits are made tile by tile, of both in turn, so that no [tokens, vocab] is held.
struct Side {
  Side(const LoadedModel& loaded, size_t longest)
      : model(loaded),
        step(MakeStep(loaded, static_cast<int>(longest))),
        kv(step.kv_shape, loaded.transformer->config.num_layers) {
    step.use_adapter = false;
  }

  void Forward(std::span<const int32_t> ids) { ForwardWindow(model, ids, *DensePlan(), false, kv, step); }
  ConstMatrixView Logits(std::span<const int32_t> rows) {
    HeadLogits(*model.transformer, rows, step);
    return step.logits;
  }

  const LoadedModel& model;
  Step step;
  KvCache kv;
};

}  // namespace

ModelDifference CompareModels(const LoadedModel& reference, const LoadedModel& model, const TokenWindows& windows,
                              const std::function<void(size_t done, size_t total)>& progress) {
  const int vocab = model.transformer->config.vocab_size;
  if (vocab != reference.transformer->config.vocab_size) {
    Fail(ErrorCode::kMismatch, "[comparison] vocabulary: expected that of the reference, {} tokens, found {}",
         reference.transformer->config.vocab_size, vocab);
  }
  size_t longest = 1;
  size_t total = 0;
  for (const std::vector<int32_t>& window : windows) {
    longest = std::max(longest, window.size());
    total += window.size();
  }
  Side one(reference, longest);
  Side other(model, longest);
  ModelDifference result;
  double kl_squares = 0;
  size_t done = 0;
  for (const std::vector<int32_t>& window : windows) {
    one.Forward(window);
    other.Forward(window);
    const size_t tile = std::min(one.step.max_logit_rows, other.step.max_logit_rows);
    for (size_t first = 0; first + 1 < window.size(); first += tile) {
      std::vector<int32_t> rows(std::min(tile, window.size() - 1 - first));
      std::iota(rows.begin(), rows.end(), static_cast<int32_t>(first));
      const ConstMatrixView p = one.Logits(rows);
      const ConstMatrixView q = other.Logits(rows);
      std::vector<TokenDifference> tokens(rows.size());
      model.pool->ParallelFor(rows.size(), 1, [&](size_t begin, size_t end, int) {
        for (size_t i = begin; i < end; ++i) {
          tokens[i] = Compare(p.row_span(i), q.row_span(i), static_cast<size_t>(window[first + i + 1]));
        }
      });
      for (const TokenDifference& token : tokens) {
        result.nll_reference += token.nll_reference;
        result.nll += token.nll;
        result.kl += token.kl;
        kl_squares += token.kl * token.kl;
        result.same_top += token.same_top ? 1 : 0;
      }
      result.tokens += rows.size();
    }
    done += window.size();
    if (progress) progress(done, total);
  }
  if (result.tokens == 0) return result;
  const auto n = static_cast<double>(result.tokens);
  const double variance = n > 1 ? std::max(0.0, (kl_squares - result.kl * result.kl / n) / (n - 1)) : 0.0;
  for (double* sum : {&result.nll_reference, &result.nll, &result.kl, &result.same_top}) *sum /= n;
  result.kl_error = std::sqrt(variance / n);
  return result;
}

}  // namespace gateskip
