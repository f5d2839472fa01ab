// SPDX-License-Identifier: Apache-2.0
// From logits to one token id: bias, then the order of llama.cpp's default chain, which is penalties, top-k, top-p,
// min-p, temperature, draw. Owns its generator and its exp(), so a seed means the same draws on every machine.
// Not here: stop strings and end-of-text (the engine's business).
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "gateskip/engine.h"

namespace gateskip {

// Throws Error(kInvalidArgument) naming the first field that is NaN, infinite or out of range.
void ValidateSamplingOptions(const SamplingOptions& options);

struct TokenProbability {
  int32_t id;
  float probability;
};

class Sampler {
 public:
  // Throws as ValidateSamplingOptions.
  explicit Sampler(const SamplingOptions& options);

  // The next token. `logits` [vocab] is scratch: it is modified. `recent_tokens` are the tokens so far, oldest
  // first; the last `repeat_window` of them are penalised. Temperature 0 takes the largest logit, the lowest id
  // among equals. -inf logits never win. Throws Error(kCorruptData) for NaN, +inf or nothing but -inf. Presence and
  // frequency penalties are of the tokens that this sampler has drawn. Ids beyond [vocab] are ignored.
  int32_t Sample(std::span<float> logits, std::span<const int32_t> recent_tokens);

  // What Sample would draw from, without drawing: the tokens that survive and their probabilities, which sum
  // to 1. Valid until the next call.
  std::span<const TokenProbability> Distribution(std::span<float> logits, std::span<const int32_t> recent_tokens);

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };
  static bool Better(const Candidate& a, const Candidate& b);

  int32_t Draw(std::span<float> logits, std::span<const int32_t> recent_tokens);
  // Everything that changes logits: bias and penalties.
  void Shift(std::span<float> logits, std::span<const int32_t> recent_tokens);
  void PenaliseRecent(std::span<float> logits, std::span<const int32_t> recent_tokens);
  void KeepTopK(std::span<const float> logits);
  void KeepAll(std::span<const float> logits);
  // Shrinks candidates_ to the nucleus and to min-p. `sorted`: they descend and are all there is, as after top-k;
  // else total_ is the weight of the whole vocabulary.
  void KeepLikely(bool sorted);
  void SetDistribution();

  SamplingOptions options_;
  uint64_t state_[4];  // xoshiro256**
  double total_ = 0;   // sum of exp(logit - largest logit) over the tokens that top-k left
  std::vector<int32_t> penalised_;
  std::unordered_map<int32_t, uint32_t> drawn_;  // how often, if there is a penalty on it
  std::vector<Candidate> candidates_;            // scratch, at most [vocab]
  std::vector<TokenProbability> distribution_;
};

}  // namespace gateskip
