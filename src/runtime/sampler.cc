// SPDX-License-Identifier: Apache-2.0
// The sampling chain. Selection is partial everywhere: nothing ever sorts a whole 262k vocabulary unless the
// distribution is so flat that its nucleus is the vocabulary.
// Generator: xoshiro256** (Blackman and Vigna, prng.di.unimi.it), seeded through splitmix64.
#include "runtime/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace gateskip {
namespace {

constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();
constexpr size_t kMaxBiases = 1024;

// exp(x) for x <= 0, relative error below 1e-6; 0 below -87. Own code because libm differs between machines;
// plain arithmetic, so the compiler vectorises the loops over it. Range reduction and polynomial: Cephes expf.
inline float ExpNonPositive(float x) {
  // Clamped as an integer: a float comparison may trap, and the compiler then keeps the branch and the loop scalar.
  const int32_t magnitude = std::bit_cast<int32_t>(x) & 0x7FFFFFFF;
  const int32_t limit = std::bit_cast<int32_t>(87.0F);
  const float clamped = -std::bit_cast<float>(magnitude < limit ? magnitude : limit);
  const float scaled = clamped * 1.44269504F;
  const int32_t n = static_cast<int32_t>(scaled - 0.5F);  // truncation towards zero rounds a non-positive value
  const float nf = static_cast<float>(n);
  const float r = clamped - nf * 0.693359375F + nf * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  const float e = (p * r * r + r + 1.0F) * std::bit_cast<float>((n + 127) << 23);
  const int32_t mask = magnitude > limit ? 0 : -1;
  return std::bit_cast<float>(std::bit_cast<int32_t>(e) & mask);
}

// Sum of exp(logit - max_logit). By blocks, so that the exponentials are one plain loop; the order is fixed.
double SumOfWeights(std::span<const float> logits, float max_logit) {
  constexpr size_t kBlock = 1024;
  constexpr size_t kLanes = 8;
  float weights[kBlock];
  double lanes[kLanes] = {};
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const size_t count = std::min(kBlock, logits.size() - begin);
    const float* block = logits.data() + begin;
    for (size_t i = 0; i < count; ++i) weights[i] = ExpNonPositive(block[i] - max_logit);
    std::fill(weights + count, weights + (count + kLanes - 1) / kLanes * kLanes, 0.0F);
    for (size_t i = 0; i < count; i += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += weights[i + lane];
    }
  }
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

uint64_t SplitMix64(uint64_t& state) {
  state += 0x9E3779B97F4A7C15ULL;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

// Uniform in [0, 1), 53 bits.
double NextUniform(uint64_t (&s)[4]) {
  const uint64_t result = std::rotl(s[1] * 5, 7) * 9;
  const uint64_t t = s[1] << 17;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= t;
  s[3] = std::rotl(s[3], 45);
  return static_cast<double>(result >> 11) * 0x1.0p-53;
}

[[noreturn]] void FailField(const char* field, const char* expected, double found) {
  Fail(ErrorCode::kInvalidArgument, "[sampling] {}: expected {}, found {}", field, expected, found);
}

[[noreturn]] void FailLogit(size_t id, float value) {
  Fail(ErrorCode::kCorruptData,
       "[sampling] logit of token {}: expected a number below infinity, found {}; the model or the adapter is damaged",
       id, value);
}

[[noreturn]] void FailNothingLeft() {
  Fail(ErrorCode::kCorruptData, "[sampling] logits: expected at least one above -inf, found none");
}

bool IsBadLogit(float value) { return std::isnan(value) || value == std::numeric_limits<float>::infinity(); }

[[noreturn]] void FailBadLogit(std::span<const float> logits) {
  size_t i = 0;
  while (!IsBadLogit(logits[i])) ++i;
  FailLogit(i, logits[i]);
}

// The largest logit; -inf when there is no other. Throws for NaN and +inf. In lanes, which become vectors.
float CheckedMax(std::span<const float> logits) {
  constexpr size_t kLanes = 16;
  float lanes[kLanes];
  std::fill(std::begin(lanes), std::end(lanes), kNegativeInfinity);
  const size_t body = logits.size() / kLanes * kLanes;
  int bad = 0;
  for (size_t i = 0; i < logits.size(); ++i) bad |= logits[i] <= std::numeric_limits<float>::max() ? 0 : 1;
  if (bad != 0) FailBadLogit(logits);
  for (size_t i = 0; i < body; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = logits[i + lane] > lanes[lane] ? logits[i + lane] : lanes[lane];
    }
  }
  for (size_t i = body; i < logits.size(); ++i) lanes[0] = std::max(lanes[0], logits[i]);
  return *std::max_element(std::begin(lanes), std::end(lanes));
}

int32_t ArgMax(std::span<const float> logits) {
  float best = kNegativeInfinity;
  size_t best_id = logits.size();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] <= best) continue;  // false for NaN, which is so caught on the rare path
    if (IsBadLogit(logits[i])) FailLogit(i, logits[i]);
    best = logits[i];
    best_id = i;
  }
  if (best_id == logits.size()) FailNothingLeft();
  return static_cast<int32_t>(best_id);
}

}  // namespace

void ValidateSamplingOptions(const SamplingOptions& o) {
  if (!(o.temperature >= 0.0F && o.temperature <= 100.0F)) {
    FailField("temperature", "a number in [0, 100]", o.temperature);
  }
  if (o.top_k < 0) FailField("top_k", "an integer of at least 0 (0: off)", o.top_k);
  if (!(o.top_p > 0.0F && o.top_p <= 1.0F)) FailField("top_p", "a number in (0, 1] (1: off)", o.top_p);
  if (!(o.min_p >= 0.0F && o.min_p < 1.0F)) FailField("min_p", "a number in [0, 1) (0: off)", o.min_p);
  if (!(o.repeat_penalty > 0.0F && std::isfinite(o.repeat_penalty))) {
    FailField("repeat_penalty", "a finite number above 0 (1: off)", o.repeat_penalty);
  }
  if (o.repeat_window < 0) FailField("repeat_window", "an integer of at least 0", o.repeat_window);
  for (const auto& [field, value] :
       {std::pair("presence_penalty", o.presence_penalty), std::pair("frequency_penalty", o.frequency_penalty)}) {
    if (!(value >= -2.0F && value <= 2.0F)) FailField(field, "a number in [-2, 2] (0: off)", value);
  }
  if (o.logit_bias.size() > kMaxBiases) {
    FailField("logit_bias", "at most 1024 tokens", static_cast<double>(o.logit_bias.size()));
  }
  for (const auto& [id, bias] : o.logit_bias) {
    if (!(bias >= -100.0F && bias <= 100.0F)) FailField("logit_bias", "numbers in [-100, 100]", bias);
  }
}

Sampler::Sampler(const SamplingOptions& options) : options_(options) {
  ValidateSamplingOptions(options);
  uint64_t seed = options.seed;
  for (uint64_t& word : state_) word = SplitMix64(seed);
}

bool Sampler::Better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

int32_t Sampler::Sample(std::span<float> logits, std::span<const int32_t> recent_tokens) {
  const int32_t id = Draw(logits, recent_tokens);
  if (options_.presence_penalty != 0.0F || options_.frequency_penalty != 0.0F) ++drawn_[id];
  return id;
}

int32_t Sampler::Draw(std::span<float> logits, std::span<const int32_t> recent_tokens) {
  if (options_.temperature == 0.0F) {
    Shift(logits, recent_tokens);
    return ArgMax(logits);
  }
  const std::span<const TokenProbability> distribution = Distribution(logits, recent_tokens);
  const double u = NextUniform(state_);
  double cumulative = 0;
  for (const TokenProbability& token : distribution) {
    cumulative += token.probability;
    if (u < cumulative) return token.id;
  }
  // The sum may round to just below 1: the draw then belongs to the last token that has any probability.
  for (size_t i = distribution.size(); i-- > 0;) {
    if (distribution[i].probability > 0.0F) return distribution[i].id;
  }
  FailNothingLeft();
}

std::span<const TokenProbability> Sampler::Distribution(std::span<float> logits,
                                                        std::span<const int32_t> recent_tokens) {
  Shift(logits, recent_tokens);
  if (options_.temperature == 0.0F) {
    distribution_.assign(1, {ArgMax(logits), 1.0F});
    return distribution_;
  }
  const bool top_k = options_.top_k > 0 && static_cast<size_t>(options_.top_k) < logits.size();
  if (top_k) {
    KeepTopK(logits);
  } else {
    KeepAll(logits);
  }
  if (candidates_.empty()) FailNothingLeft();
  if (options_.top_p < 1.0F || options_.min_p > 0.0F) KeepLikely(top_k);
  SetDistribution();
  return distribution_;
}

void Sampler::Shift(std::span<float> logits, std::span<const int32_t> recent_tokens) {
  const auto add = [&](int32_t id, float value) {
    if (id >= 0 && static_cast<size_t>(id) < logits.size()) logits[static_cast<size_t>(id)] += value;
  };
  for (const auto& [id, bias] : options_.logit_bias) add(id, bias);
  PenaliseRecent(logits, recent_tokens);
  for (const auto& [id, count] : drawn_) {
    add(id, -options_.presence_penalty - static_cast<float>(count) * options_.frequency_penalty);
  }
}

// Keskar et al., arXiv 1909.05858: a seen token's logit moves towards "less likely" whatever its sign.
void Sampler::PenaliseRecent(std::span<float> logits, std::span<const int32_t> recent_tokens) {
  if (options_.repeat_penalty == 1.0F || options_.repeat_window == 0) return;
  const size_t window = std::min(recent_tokens.size(), static_cast<size_t>(options_.repeat_window));
  penalised_.assign(recent_tokens.end() - static_cast<std::ptrdiff_t>(window), recent_tokens.end());
  std::sort(penalised_.begin(), penalised_.end());
  penalised_.erase(std::unique(penalised_.begin(), penalised_.end()), penalised_.end());
  constexpr float kMax = std::numeric_limits<float>::max();
  for (const int32_t id : penalised_) {
    if (id < 0 || static_cast<size_t>(id) >= logits.size()) continue;
    float& logit = logits[static_cast<size_t>(id)];
    if (!std::isfinite(logit)) continue;
    const float moved = logit > 0.0F ? logit / options_.repeat_penalty : logit * options_.repeat_penalty;
    logit = std::clamp(moved, -kMax, kMax);  // an extreme penalty must not turn a logit into an infinity
  }
}

// A heap of k with the worst kept candidate on top; nearly every logit fails the first comparison.
void Sampler::KeepTopK(std::span<const float> logits) {
  const size_t k = static_cast<size_t>(options_.top_k);
  candidates_.clear();
  float worst = kNegativeInfinity;
  for (size_t i = 0; i < logits.size(); ++i) {
    const float value = logits[i];
    if (value <= worst) continue;  // equal: the lower id is in already. NaN goes on to the check
    if (IsBadLogit(value)) FailLogit(i, value);
    if (candidates_.size() == k) {
      std::pop_heap(candidates_.begin(), candidates_.end(), Better);
      candidates_.pop_back();
    }
    candidates_.push_back({value, static_cast<int32_t>(i)});
    std::push_heap(candidates_.begin(), candidates_.end(), Better);
    if (candidates_.size() == k) worst = candidates_.front().logit;
  }
  std::sort(candidates_.begin(), candidates_.end(), Better);
}

// Without top-k every token counts towards the total, but only those that the later cuts can keep are copied.
void Sampler::KeepAll(std::span<const float> logits) {
  constexpr float kMax = std::numeric_limits<float>::max();
  candidates_.clear();
  const float max_logit = CheckedMax(logits);
  if (max_logit == kNegativeInfinity) return;
  total_ = SumOfWeights(logits, max_logit);

  // Weights are relative to the largest token's, which is 1. What is lighter than (1 - p) total / n weighs less
  // than (1 - p) total in all, so the nucleus never needs it; min-p names its floor itself. The slack covers the
  // rounding of log and of exp: a token too many is cut later.
  double floor = options_.min_p;
  if (options_.top_p < 1.0F) {
    floor = std::max(floor, (1.0 - options_.top_p) * total_ / static_cast<double>(logits.size()));
  }
  constexpr double kSlack = 1e-3;
  const float cut = floor > 0.0 ? max_logit + static_cast<float>(std::log(floor) - kSlack) : -kMax;
  candidates_.resize(logits.size());
  size_t kept = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    candidates_[kept] = {logits[i], static_cast<int32_t>(i)};
    kept += logits[i] >= cut ? 1 : 0;
  }
  candidates_.resize(kept);
}

void Sampler::KeepLikely(bool sorted) {
  float max_logit = kNegativeInfinity;
  for (const Candidate& c : candidates_) max_logit = std::max(max_logit, c.logit);
  if (sorted) {
    total_ = 0;
    for (const Candidate& c : candidates_) total_ += ExpNonPositive(c.logit - max_logit);
  }
  // Both cuts keep a prefix of the descending order, so the shorter one decides.
  const double nucleus = options_.top_p < 1.0F ? options_.top_p * total_ : std::numeric_limits<double>::infinity();
  size_t kept = 0;
  size_t ordered = sorted ? candidates_.size() : 0;
  double cumulative = 0;
  while (kept < candidates_.size() && cumulative < nucleus) {
    if (kept == ordered) {
      const size_t next = std::min(candidates_.size(), std::max<size_t>(128, ordered * 4));
      const auto begin = candidates_.begin() + static_cast<std::ptrdiff_t>(ordered);
      const auto middle = candidates_.begin() + static_cast<std::ptrdiff_t>(next);
      if (next < candidates_.size()) std::nth_element(begin, middle, candidates_.end(), Better);
      std::sort(begin, middle, Better);
      ordered = next;
    }
    const double weight = ExpNonPositive(candidates_[kept].logit - max_logit);
    if (weight < options_.min_p && kept > 0) break;
    cumulative += weight;
    ++kept;
  }
  candidates_.resize(kept);
}

void Sampler::SetDistribution() {
  float max_logit = kNegativeInfinity;
  for (const Candidate& c : candidates_) max_logit = c.logit > max_logit ? c.logit : max_logit;
  distribution_.resize(candidates_.size());
  for (size_t i = 0; i < candidates_.size(); ++i) {
    const float weight = ExpNonPositive((candidates_[i].logit - max_logit) / options_.temperature);
    distribution_[i] = {candidates_[i].id, weight};
  }
  double total = 0;
  for (const TokenProbability& token : distribution_) total += token.probability;
  const double scale = 1.0 / total;
  for (TokenProbability& token : distribution_) token.probability = static_cast<float>(token.probability * scale);
}

}  // namespace gateskip
