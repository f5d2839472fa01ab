// SPDX-License-Identifier: Apache-2.0
#include "runtime/draft.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "gate/branch.h"
#include "runtime/loaded_model.h"

namespace gateskip {
namespace {

constexpr size_t kLongestNgram = 4;
constexpr size_t kShortestNgram = 2;

// Every layer from the first to the one that leaves `budget` of the layers out runs (arXiv 2404.16710).
SkipPlanPtr ExitDraft(int num_layers, double budget) {
  const int skipped = std::clamp(static_cast<int>(budget * num_layers + 0.5), 1, num_layers - 1);
  std::vector<uint8_t> runs(2 * static_cast<size_t>(num_layers), 1);
  for (int layer = num_layers - skipped; layer < num_layers; ++layer) {
    for (const BranchKind kind : {BranchKind::kAttention, BranchKind::kMlp}) {
      runs[static_cast<size_t>(BranchIndex(layer, kind))] = 0;
    }
  }
  SkipPlan plan = *StaticPlan(std::move(runs), budget);
  plan.transient = true;
  return std::make_shared<const SkipPlan>(std::move(plan));
}

}  // namespace

void ValidateSpeculation(const LoadedModel& model, const SpeculationOptions& options) {
  if (options.draft == DraftKind::kNone) return;
  if (options.max_tokens < 1 || options.max_tokens > kMaxDraftTokens) {
    Fail(ErrorCode::kInvalidArgument, "[speculation] drafted tokens: expected at most 1 to {}, found {}; change it",
         kMaxDraftTokens, options.max_tokens);
  }
  if (options.draft == DraftKind::kNgram) return;
  if (!(options.budget > 0.0 && options.budget <= kMaxBudget)) {
    Fail(ErrorCode::kInvalidArgument,
         "[speculation] draft budget: expected above 0 and at most {}, found {}; a draft has to save something",
         kMaxBudget, options.budget);
  }
  if (options.draft == DraftKind::kEarlyExit && model.transformer->config.num_layers < 2) {
    Fail(ErrorCode::kInvalidArgument, "[speculation] early exit: expected a model of 2 layers or more, found 1");
  }
  if (options.draft != DraftKind::kGates) return;
  if (!model.transformer->adapter) {
    Fail(ErrorCode::kInvalidArgument,
         "[speculation] gates: expected an adapter, found none; load one with --adapter, or draft with ngram or exit");
  }
  GatesPlan(model.transformer->adapter->config, options.budget);
}

DraftPlan MakeDraftPlan(const LoadedModel& model, const SpeculationOptions& options) {
  ValidateSpeculation(model, options);
  const Transformer& transformer = *model.transformer;
  DraftPlan draft;
  switch (options.draft) {
    case DraftKind::kNone:
    case DraftKind::kNgram:
      return draft;
    case DraftKind::kGates:
      draft.plan = GatesPlan(transformer.adapter->config, options.budget);
      draft.use_adapter = true;
      break;
    case DraftKind::kEarlyExit:
      draft.plan = ExitDraft(transformer.config.num_layers, options.budget);
      break;
  }
  const double skippable =
      static_cast<double>(transformer.weights.branch_bytes()) / static_cast<double>(transformer.weights.total_bytes());
  draft.expected_cost = 1.0 - skippable * options.budget;
  return draft;
}

NgramMatch FindNgram(std::span<const int32_t> ids, size_t limit) {
  for (size_t length = kLongestNgram; length >= kShortestNgram; --length) {
    if (ids.size() <= length) continue;
    const std::span<const int32_t> tail = ids.last(length);
    for (size_t begin = ids.size() - length; begin-- > 0;) {
      if (!std::ranges::equal(ids.subspan(begin, length), tail)) continue;
      const std::span<const int32_t> after = ids.subspan(begin + length);
      return {after.first(std::min(limit, after.size())), length == kLongestNgram ? 0.85 : length == 3 ? 0.65 : 0.45};
    }
  }
  return {};
}

void DraftCosts::Target(size_t sequences, size_t further, double seconds) {
  constexpr double kForget = 0.1;
  if (plain_.size() <= sequences) plain_.resize(sequences + 1);
  double& plain = plain_[sequences];
  if (further == 0) {
    plain = plain == 0 ? seconds : plain + kForget * (seconds - plain);
  } else if (plain > 0) {
    const double each = (seconds / plain - 1) / static_cast<double>(further);
    row_ += kForget * (std::clamp(each, 0.0, 2.0) - row_);
  }
}

void DraftCosts::Draft(size_t sequences, double seconds) {
  constexpr double kForget = 0.1;
  if (sequences >= plain_.size() || plain_[sequences] == 0) return;
  draft_ += kForget * (std::clamp(seconds / plain_[sequences], 0.0, 2.0) - draft_);
}

void DraftControl::Begin(const DraftCosts& costs) {
  constexpr int kProbeEvery = 16;
  row_cost_ = costs.row();
  cost_ = costs.draft() + row_cost_;
  drafted_ = 0;
  chance_ = 1;
  probing_ = acceptance_ <= cost_ && ++idle_ >= kProbeEvery;
  if (probing_) idle_ = 0;
}

double DraftControl::Chance(size_t confidence_class) const {
  // Before anything is known of a class, a draft is taken at its word, as if it had been seen so often.
  constexpr double kPrior = 4;
  const double word = (static_cast<double>(confidence_class) + 0.5) / static_cast<double>(kClasses);
  const Seen& seen = seen_[confidence_class];
  return (seen.accepted + kPrior * word) / (seen.drafted + kPrior);
}

void DraftControl::Drafted(double confidence) {
  GS_CHECK(drafted_ < classes_.size());
  const auto scaled = static_cast<size_t>(std::clamp(confidence, 0.0, 1.0) * static_cast<double>(kClasses));
  classes_[drafted_] = std::min(scaled, kClasses - 1);
  chance_ *= Chance(classes_[drafted_]);
  ++drafted_;
}

void DraftControl::Verified(size_t verified, size_t accepted) {
  constexpr double kForget = 0.05;
  GS_CHECK(accepted <= verified && verified <= drafted_);
  // Nothing is learned from what comes after a refused token.
  const size_t judged = std::min(accepted + 1, verified);
  for (size_t i = 0; i < judged; ++i) {
    const double hit = i < accepted ? 1 : 0;
    Seen& seen = seen_[classes_[i]];
    seen.drafted = (1 - kForget) * seen.drafted + 1;
    seen.accepted = (1 - kForget) * seen.accepted + hit;
    acceptance_ += kForget * (hit - acceptance_);
  }
}

Drafter::Drafter(const LoadedModel& model, const SpeculationOptions& options)
    : model_(model),
      options_(options),
      plan_(MakeDraftPlan(model, options)),
      sampler_({}),
      counts_(model.transformer->config.num_branches()) {}

void Drafter::Begin(std::span<const int32_t> ids, size_t room, const Sampler& target, const DraftCosts& costs) {
  ids_.assign(ids.begin(), ids.end());
  verified_ = ids.size();
  room_ = std::min(room, static_cast<size_t>(options_.max_tokens));
  ended_ = options_.draft == DraftKind::kNone;
  if (ended_) return;
  control_.Begin(costs);
  if (plan_.plan != nullptr) {
    sampler_ = target;
    return;
  }
  const NgramMatch match = FindNgram(ids, room_);
  for (const int32_t id : match.tokens) {
    control_.Drafted(match.confidence);
    if (options_.adaptive && !control_.LastIsWorthVerifying()) break;
    ids_.push_back(id);
  }
}

bool Drafter::WantsStep() const {
  if (plan_.plan == nullptr || ended_ || tokens().size() >= room_) return false;
  return !options_.adaptive || control_.WantsAnother();
}

void Drafter::Take(std::span<float> logits, const SkipCounts& counts) {
  counts_.Add(counts);
  const float log_sum = kernels::LogSumExp(logits);
  const float highest = logits[kernels::ArgMax(logits)];
  const int32_t id = sampler_.Sample(logits, ids_);  // refuses what is no number
  control_.Drafted(std::exp(highest - log_sum));
  ended_ = options_.adaptive && !control_.LastIsWorthVerifying();
  if (ended_) return;
  ids_.push_back(id);
  ended_ = model_.tokenizer->IsEndOfGeneration(id);
}

void Drafter::Shorten(size_t count) {
  if (tokens().size() <= count) return;
  ids_.resize(verified_ + count);
  ended_ = true;
}

void Drafter::Verified(size_t accepted) {
  control_.Verified(tokens().size(), accepted);
  report_.drafted += tokens().size();
  report_.accepted += accepted;
  ++report_.steps;
}

SpeculationReport Drafter::Report() const {
  SpeculationReport report = report_;
  report.draft_saving =
      MakeReport(model_.cost(plan_.use_adapter), counts_, plan_.plan == nullptr ? 0 : options_.budget);
  return report;
}

}  // namespace gateskip
