// SPDX-License-Identifier: Apache-2.0
// Speculative decoding (arXiv 2211.17192): tokens are drafted cheaply, and the model runs them all as rows of one step.
// Here what is drafted comes from the model itself, with most of its branches skipped, or from the text so far.
//
// The target's sampler draws a token from every row, as if nothing had been drafted; a drafted token that is the same
// spares a step, one that is not ends the draft. So the text is that of plain decoding, token for token, at any
// temperature (law L8), and nothing has to be corrected. The price: at temperatures above 0 a draft agrees a little
// less often than by rejection sampling (Leviathan et al., section 2.3). The draft's sampler is a copy of the target's:
// it draws with the same random numbers.
//
// This file decides how far a draft goes. Its steps are run by generate.cc and by the scheduler.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "gate/cost_model.h"
#include "gate/skip_plan.h"
#include "gateskip/engine.h"
#include "runtime/sampler.h"

namespace gateskip {

struct LoadedModel;

inline constexpr int kMaxDraftTokens = 32;

// Throws Error(kInvalidArgument): a limit out of range, a budget that saves nothing, gates without an adapter or beyond
// its budgets.
void ValidateSpeculation(const LoadedModel& model, const SpeculationOptions& options);

// How drafted tokens are run. kNgram runs none: null.
struct DraftPlan {
  SkipPlanPtr plan;
  bool use_adapter = false;
  // Of a drafted token, in steps of one row of the target, until it is measured: by weight bytes.
  double expected_cost = 0;
};
DraftPlan MakeDraftPlan(const LoadedModel& model, const SpeculationOptions& options);

// The tokens that followed the latest earlier occurrence of the end of `ids`: of its last 4 tokens, or else of its last
// 3, or 2 (prompt lookup: arXiv 2304.04487 calls it LLMA). At most `limit`; empty if there is none.
struct NgramMatch {
  std::span<const int32_t> tokens;
  double confidence = 0;  // as DraftControl takes it: the more tokens agreed, the higher
};
NgramMatch FindNgram(std::span<const int32_t> ids, size_t limit);

// What drafting costs on this machine, in steps of a sequence's one row of the target. Where the time of a step is that
// of reading the weights, a further row is nearly free; where it is that of multiplying them, it is not.
class DraftCosts {
 public:
  explicit DraftCosts(double expected_draft_cost) : draft_(expected_draft_cost) {}

  double draft() const { return draft_; }
  double row() const { return row_; }  // of one more row to verify
  // A step of the target took so long: a row for each of `sequences`, and `further` ones of drafts.
  void Target(size_t sequences, size_t further, double seconds);
  // A step of drafts.
  void Draft(size_t sequences, double seconds);

 private:
  double draft_;
  double row_ = 0.25;
  std::vector<double> plain_;  // seconds of a step without further rows, by its sequences; 0: not seen yet
};

// Whether to draft one more token. A drafted token costs something for certain and spares a step perhaps: it is worth
// it while the chance that all drafted so far and it will be accepted is above its cost. The chances are learned: of
// drafts as sure of themselves as this one, how many were accepted.
class DraftControl {
 public:
  void Begin(const DraftCosts& costs);
  bool WantsAnother() const { return probing_ ? drafted_ == 0 : chance_ * acceptance_ > cost_; }
  // `confidence` in [0, 1]: how sure the draft is of the token.
  void Drafted(double confidence);
  // Whether what was drafted is still worth a row.
  bool LastIsWorthVerifying() const { return probing_ || chance_ > row_cost_; }
  // Of the tokens drafted since Begin, the first `verified` were verified and `accepted` of those accepted.
  void Verified(size_t verified, size_t accepted);

 private:
  static constexpr size_t kClasses = 10;  // of confidence
  struct Seen {
    double drafted = 0, accepted = 0;
  };
  double Chance(size_t confidence_class) const;

  double cost_ = 0, row_cost_ = 0;  // of drafting and verifying a token | of verifying it
  double acceptance_ = 0.7;         // of a next token, whatever its confidence: a moving average
  double chance_ = 1;               // that all drafted so far will be accepted
  bool probing_ = false;  // drafts do not pay at the moment: one token now and then, to see whether they would
  int idle_ = 0;          // verifications since the last draft
  size_t drafted_ = 0;
  std::array<size_t, kMaxDraftTokens> classes_ = {};  // of the tokens of this draft
  std::array<Seen, kClasses> seen_ = {};
};

// The drafting of one sequence, step by step. A step of the draft runs `next_row` under the plan; Take gets its logits.
class Drafter {
 public:
  Drafter(const LoadedModel& model, const SpeculationOptions& options);

  // Begins a draft of what follows `ids`, at most `room` tokens. A draft by n-grams is whole when this returns.
  void Begin(std::span<const int32_t> ids, size_t room, const Sampler& target, const DraftCosts& costs);
  // Whether a step of the draft is wanted: of the row (ids().back(), at its position) under plan().
  bool WantsStep() const;
  // The logits of that step, which are scratch afterwards. Throws as Sampler::Sample.
  void Take(std::span<float> logits, const SkipCounts& counts);

  std::span<const int32_t> ids() const { return ids_; }                                   // with what is drafted so far
  std::span<const int32_t> tokens() const { return std::span(ids_).subspan(verified_); }  // drafted so far
  const DraftPlan& plan() const { return plan_; }

  // Leaves the first `count` of tokens(), or all if they are fewer.
  void Shorten(size_t count);

  // The step that verified tokens() accepted so many of them.
  void Verified(size_t accepted);

  SpeculationReport Report() const;

 private:
  const LoadedModel& model_;
  const SpeculationOptions options_;
  const DraftPlan plan_;
  DraftControl control_;
  Sampler sampler_;
  std::vector<int32_t> ids_;
  size_t verified_ = 0;  // of ids_
  size_t room_ = 0;
  bool ended_ = false;
  SpeculationReport report_;
  SkipCounts counts_;  // of the draft's rows
};

}  // namespace gateskip
