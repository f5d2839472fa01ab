// SPDX-License-Identifier: Apache-2.0
#include "eval/policies.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "base/check.h"
#include "base/nearest_name.h"
#include "eval/window_runner.h"
#include "gate/branch.h"
#include "runtime/kv_cache.h"
#include "sched/scheduler.h"

namespace gateskip {
namespace {

constexpr double kExitTolerance = 0.005;
constexpr int kExitRounds = 14;
constexpr int kHeadCheckEvery = 5;  // layers between checks that run the head

constexpr PolicyInfo kPolicies[] = {
    {.name = "gates",
     .source = "GateSkip, arXiv 2510.13876",
     .description = "The adapter's gates with calibrated thresholds, per token and branch.",
     .needs_gates = true},
    {.name = "random",
     .source = "control",
     .description = "Every token skips every branch with the same probability; the first position and the essential "
                    "branches are kept: the honest control.",
     .needs_text = true},
    {.name = "random-unprotected",
     .source = "control",
     .description = "The same with nothing protected, as in the literature."},
    {.name = "random-branches",
     .source = "control",
     .description = "A set of branches drawn for each sequence never runs in it; essential branches are kept.",
     .needs_text = true},
    {.name = "shortgpt",
     .source = "ShortGPT, arXiv 2403.03853",
     .description = "Whole layers with the least block influence never run. Influence is measured on the calibration "
                    "text, over all tokens.",
     .needs_text = true},
    {.name = "leave-one-out",
     .source = "control",
     .description = "Branches whose loss alone raises the text's NLL least, per weight saved, never run.",
     .needs_text = true},
    {.name = "early-exit",
     .source = "LayerSkip, arXiv 2404.16710",
     .description = "Every token leaves after the same layer and is read by the model's own head; draft only, no "
                    "verification. K/V above follow from the state it left with."},
    {.name = "calm-state",
     .source = "CALM, arXiv 2207.07061",
     .description = "A token leaves when the cosine of its hidden states before and after a layer is high. The "
                    "threshold is constant, set on the calibration text to meet the budget.",
     .needs_text = true},
    {.name = "calm-confidence",
     .source = "CALM, arXiv 2207.07061",
     .description = "A token leaves when the head's two best probabilities lie far apart; checked every 5 layers, each "
                    "check pays for the head.",
     .needs_text = true},
    {.name = "free",
     .source = "FREE, arXiv 2310.05424",
     .description =
         "A shallow and a deep model: one confidence check after a third of the layers. K/V above are "
         "projected from the state a token left with, in the same step, where FREE does so later in a batch.",
     .needs_text = true},
    {.name = "deebert",
     .source = "DeeBERT, arXiv 2004.12993",
     .description = "A token leaves when the entropy of its distribution is low; the model's own head stands in for "
                    "trained classifiers, every 5 layers.",
     .needs_text = true},
    {.name = "pabee",
     .source = "PABEE, arXiv 2006.04152",
     .description =
         "A token leaves when the best token of successive checks stays the same; the model's own head stands "
         "in for trained classifiers. Patience is whole: the spacing of the checks meets the budget.",
     .needs_text = true},
};

// The layer stack's cost and what a group's absence saves of it, per row.
double SavedBy(const CostModel& cost, KvRule rule, std::span<const int> group) {
  double saved = 0;
  for (const int b : group) {
    const BranchCost& branch = cost.branch(b);
    saved += branch.dense + branch.kept_extra + branch.undecided_extra - branch.skip_path -
             (rule == KvRule::kCompute ? branch.kv : 0.0);
  }
  return saved / cost.dense_per_row();
}

std::vector<size_t> Ascending(const std::vector<double>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, [&](size_t i) { return values[i]; });
  return order;
}

}  // namespace

std::span<const PolicyInfo> Policies() { return kPolicies; }

const PolicyInfo& FindPolicy(std::string_view name) {
  std::vector<std::string> names;
  for (const PolicyInfo& info : kPolicies) {
    if (info.name == name) return info;
    names.emplace_back(info.name);
  }
  const std::string nearest = NearestName(names, name);
  Fail(ErrorCode::kInvalidArgument, "[policy] name: expected one of {}, found '{}'{}", fmt::join(names, ", "), name,
       nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest));
}

PolicyMaker::PolicyMaker(const LoadedModel& model, PolicyOptions options)
    : model_(model), options_(std::move(options)) {
  if (options_.use_adapter && model_.transformer->adapter) kv_rule_ = model_.transformer->adapter->config.kv_rule;
}

void PolicyMaker::RequireText(std::string_view policy) const {
  if (!options_.windows.empty()) return;
  Fail(ErrorCode::kInvalidArgument,
       "[policy] {}: expected a text to measure the model on, found none; pass one with --calibration", policy);
}

PolicyMaker::Measured PolicyMaker::Run(const SkipPlanPtr& plan, bool score) {
  Scheduler scheduler(model_, {});
  Measured measured{SkipCounts(model_.transformer->config.num_branches())};
  size_t tokens = 0;
  for (const std::vector<int32_t>& window : options_.windows) {
    SequenceRequest request;
    request.prompt = window;
    request.score_prompt = score;
    request.prefill = plan;
    request.use_adapter = options_.use_adapter;
    scheduler.Add(std::move(request), [&](SequenceResult&& result) {
      if (result.error) throw Error(*result.error);
      measured.counts.Add(result.prefill_counts);
      for (const float log_prob : result.prompt.log_probs) measured.nll -= log_prob;
      tokens += result.prompt.log_probs.size();
    });
  }
  while (scheduler.Step()) {
  }
  if (tokens > 0) measured.nll /= static_cast<double>(tokens);
  return measured;
}

const std::vector<double>& PolicyMaker::BlockInfluence() {
  if (!block_influence_.empty()) return block_influence_;
  if (options_.note) options_.note("block influence of every layer");
  const ModelConfig& config = model_.transformer->config;
  size_t longest = 0;
  for (const auto& window : options_.windows) longest = std::max(longest, window.size());
  Step step(config, kernels::KvType::kF16, longest, 1);
  step.use_adapter = options_.use_adapter;
  KvCache kv(step.kv_shape, config.num_layers);
  std::vector<double> cosines(static_cast<size_t>(config.num_layers));
  std::vector<float> before;
  size_t rows = 0;
  step.on_hidden_state = [&](int layers_done, ConstMatrixView x) {
    for (size_t r = 0; layers_done > 0 && r < x.rows; ++r) {
      double ab = 0;
      double aa = 0;
      double bb = 0;
      for (size_t j = 0; j < x.cols; ++j) {
        const double a = before[r * x.cols + j];
        const double b = x.row(r)[j];
        ab += a * b;
        aa += a * a;
        bb += b * b;
      }
      cosines[static_cast<size_t>(layers_done - 1)] += aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : 0.0;
    }
    before.clear();
    for (size_t r = 0; r < x.rows; ++r) before.insert(before.end(), x.row(r), x.row(r) + x.cols);
  };
  for (const std::vector<int32_t>& window : options_.windows) {
    ForwardWindow(model_, window, *DensePlan(), /*wants_logits=*/false, kv, step);
    rows += window.size();
  }
  for (const double sum : cosines) block_influence_.push_back(1.0 - sum / static_cast<double>(rows));
  return block_influence_;
}

std::vector<double> PolicyMaker::RiseWithout(const std::vector<std::vector<int>>& groups, std::string_view what) {
  const double dense = Run(DensePlan(), true).nll;
  std::vector<double> rises;
  for (const std::vector<int>& group : groups) {
    if (options_.note)
      options_.note(fmt::format("the text without {} {} of {}", what, rises.size() + 1, groups.size()));
    std::vector<uint8_t> runs(static_cast<size_t>(model_.transformer->config.num_branches()), 1);
    for (const int b : group) runs[static_cast<size_t>(b)] = 0;
    rises.push_back(Run(StaticPlan(std::move(runs), 0), true).nll - dense);
  }
  return rises;
}

const std::vector<double>& PolicyMaker::LeaveOneOut() {
  if (!leave_one_out_.empty()) return leave_one_out_;
  const int count = model_.transformer->config.num_branches();
  std::vector<std::vector<int>> branches;
  branches.reserve(static_cast<size_t>(count));
  for (int b = 0; b < count; ++b) branches.push_back({b});
  leave_one_out_ = RiseWithout(branches, "branch");
  return leave_one_out_;
}

std::vector<double> PolicyMaker::LeaveOneLayerOut() {
  const int count = model_.transformer->config.num_layers;
  std::vector<std::vector<int>> layers;
  layers.reserve(static_cast<size_t>(count));
  for (int l = 0; l < count; ++l) layers.push_back({2 * l, 2 * l + 1});
  return RiseWithout(layers, "layer");
}

std::vector<uint8_t> PolicyMaker::Essential() {
  std::vector<uint8_t> essential;
  if (options_.use_adapter && model_.transformer->adapter) {
    const std::vector<bool>& gated = model_.transformer->adapter->config.gated;
    if (std::ranges::find(gated, true) != gated.end()) {
      for (const bool g : gated) essential.push_back(g ? 0 : 1);
      return essential;
    }
  }
  RequireText("random");
  for (const double rise : LeaveOneOut()) essential.push_back(rise > options_.essential_rise ? 1 : 0);
  return essential;
}

PolicyPlan PolicyMaker::MakeRandom(bool is_protected, double budget, uint64_t seed) {
  const std::vector<uint8_t> essential = is_protected ? Essential() : std::vector<uint8_t>();
  return {RandomPlan(cost(), kv_rule_, GateScope::kBranch, essential, is_protected ? 1 : 0, budget, seed), ""};
}

std::vector<std::vector<int>> PolicyMaker::Groups(std::string_view policy, uint64_t seed) {
  std::vector<std::vector<int>> groups;
  const int layers = model_.transformer->config.num_layers;
  if (policy == "early-exit") {
    for (int l = layers - 1; l > 0; --l) groups.push_back({2 * l, 2 * l + 1});
    return groups;
  }
  RequireText(policy);
  if (policy == "shortgpt") {
    for (const size_t l : Ascending(BlockInfluence())) {
      groups.push_back({static_cast<int>(2 * l), static_cast<int>(2 * l + 1)});
    }
    return groups;
  }
  if (policy == "leave-one-out") {
    std::vector<double> price = LeaveOneOut();
    for (size_t b = 0; b < price.size(); ++b) {
      const int branch = static_cast<int>(b);
      price[b] /= SavedBy(cost(), kv_rule_, {&branch, 1});
    }
    for (const size_t b : Ascending(price)) groups.push_back({static_cast<int>(b)});
    return groups;
  }
  const std::vector<uint8_t> essential = Essential();  // random-branches
  for (size_t b = 0; b < essential.size(); ++b) {
    if (essential[b] == 0) groups.push_back({static_cast<int>(b)});
  }
  std::mt19937_64 random(seed);
  for (size_t i = groups.size(); i > 1; --i) std::swap(groups[i - 1], groups[random() % i]);
  return groups;
}

// The groups from the first on whose absence comes nearest to the budget.
PolicyPlan PolicyMaker::MakeStatic(const std::vector<std::vector<int>>& groups, double budget) const {
  std::vector<uint8_t> runs(static_cast<size_t>(cost().num_branches()), 1);
  double saved = 0;
  for (int b = 0; b < cost().num_branches(); ++b) {
    saved -= (cost().branch(b).kept_extra + cost().branch(b).undecided_extra) / cost().dense_per_row();
  }
  for (const std::vector<int>& group : groups) {
    const double more = SavedBy(cost(), kv_rule_, group);
    if (std::fabs(saved + more - budget) >= std::fabs(saved - budget)) break;
    saved += more;
    for (const int b : group) runs[static_cast<size_t>(b)] = 0;
  }
  PolicyPlan made{StaticPlan(std::move(runs), budget), ""};
  if (budget - saved > 0.02) made.unreachable = fmt::format("at most {:.1f} % net", saved * 100);
  return made;
}

namespace {

struct ExitSearch {
  ExitRule rule;
  // The knob, from nobody leaves (0) to all who may leave do (1).
  float (*threshold)(double knob);
};

ExitSearch SearchOf(std::string_view policy, int layers) {
  const auto likeness = [](double knob) { return static_cast<float>(1.0 - std::pow(10.0, 6.0 * (knob - 1.0)) * 2.0); };
  const auto confidence = [](double knob) { return static_cast<float>(1.0 - knob); };
  const auto entropy = [](double knob) { return static_cast<float>(std::pow(knob, 2) * 12.0); };
  const int every = std::min(kHeadCheckEvery, layers - 1);
  if (policy == "calm-state") return {{ExitSignal::kHiddenState, 0, 1, 1}, likeness};
  if (policy == "calm-confidence") return {{ExitSignal::kConfidence, 0, every, every}, confidence};
  if (policy == "free") {
    const int third = std::max(1, layers / 3);
    return {{ExitSignal::kConfidence, 0, third, layers}, confidence};
  }
  return {{ExitSignal::kEntropy, 0, every, every}, entropy};
}

}  // namespace

PolicyPlan PolicyMaker::MakeExit(std::string_view policy, double budget) {
  RequireText(policy);
  const auto known = exits_.find({std::string(policy), budget});
  if (known != exits_.end()) return known->second;
  const auto note = [&](std::string_view what) {
    if (options_.note) options_.note(fmt::format("{} at {:.0f} %: {}", policy, budget * 100, what));
  };
  const int layers = model_.transformer->config.num_layers;
  std::vector<ExitRule> rules;
  if (policy == "pabee") {
    // One agreement is asked for; the checks come closer from rule to rule.
    for (int every = layers / 2; every >= 1; --every) {
      rules.push_back({ExitSignal::kPatience, 1, every, every});
    }
  }
  struct Point {
    ExitRule rule;
    double net;
    double before_checks;  // net without the cost of the head's checks
  };
  const auto measure = [&](const ExitRule& rule) {
    SkipCounts counts = Run(ExitPlan(rule, 1, budget), false).counts;
    const double net = cost().NetSaving(counts);
    counts.head_checks = 0;
    return Point{rule, net, cost().NetSaving(counts)};
  };
  std::vector<Point> points;
  if (rules.empty()) {
    ExitSearch search = SearchOf(policy, layers);
    // Leaving more often saves more, except that a hopeless check costs the more the less leave: by the saving before
    // checks the knob is monotone.
    const auto bisect = [&](double Point::*aim) {
      double low = 0;
      double high = 1;
      for (int round = 0; round < kExitRounds; ++round) {
        note("threshold");
        const double middle = (low + high) / 2;
        search.rule.threshold = search.threshold(middle);
        points.push_back(measure(search.rule));
        if (std::fabs(points.back().*aim - budget) <= kExitTolerance) return true;
        (points.back().*aim < budget ? low : high) = middle;
      }
      return false;
    };
    if (!bisect(&Point::net)) bisect(&Point::before_checks);
  } else {
    for (const ExitRule& rule : rules) {
      note(fmt::format("a check every {} layers", rule.every));
      points.push_back(measure(rule));
      if (points.back().before_checks > budget + 0.1) break;
    }
  }
  const auto nearest = [&](double Point::*aim) {
    return *std::ranges::min_element(points, {}, [&](const Point& p) { return std::fabs(p.*aim - budget); });
  };
  Point best = nearest(&Point::net);
  PolicyPlan made;
  if (std::fabs(best.net - budget) > 0.02) {
    const double highest = std::ranges::max_element(points, {}, &Point::net)->net;
    best = nearest(&Point::before_checks);
    made.unreachable = fmt::format("at most {:.1f} % net found; here {:.1f} % net, {:.1f} % before its own checks",
                                   highest * 100, best.net * 100, best.before_checks * 100);
  }
  made.plan = ExitPlan(best.rule, 1, budget);
  exits_[{std::string(policy), budget}] = made;
  return made;
}

PolicyPlan PolicyMaker::Plan(std::string_view policy, double budget, uint64_t sequence_seed) {
  const PolicyInfo& info = FindPolicy(policy);
  if (!(budget >= 0.0 && budget <= kMaxBudget)) {
    Fail(ErrorCode::kInvalidArgument, "[budget] value: expected a number in [0, {}], found {}; 0.25 is a quarter",
         kMaxBudget, budget);
  }
  if (budget == 0.0) return {DensePlan(), ""};
  if (info.needs_gates) {
    if (!options_.use_adapter || !model_.transformer->adapter) {
      Fail(ErrorCode::kInvalidArgument, "[policy] {}: expected an adapter with gates, found none; pass --adapter",
           policy);
    }
    return {GatesPlan(model_.transformer->adapter->config, budget), ""};
  }
  if (policy == "random") return MakeRandom(true, budget, sequence_seed);
  if (policy == "random-unprotected") return MakeRandom(false, budget, sequence_seed);
  if (policy == "random-branches" || policy == "shortgpt" || policy == "leave-one-out" || policy == "early-exit") {
    return MakeStatic(Groups(policy, sequence_seed), budget);
  }
  return MakeExit(policy, budget);
}

}  // namespace gateskip
