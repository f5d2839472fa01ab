// SPDX-License-Identifier: Apache-2.0
#include "train/prior.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "train/ops.h"

namespace gateskip::train {
namespace {

constexpr double kSmallestRise = 1e-5;  // nats; below it is noise of the measurement

double MeanKl(const GatedModel& model, const Tensor& hidden, const Tensor& rows, const Tensor& teacher) {
  return RowKl(model.Logits(hidden, rows, true), teacher).mean(at::kDouble).item<double>();
}

// What is given up together, ascending: a branch, or both of a layer where a gate decides for the layer.
using Unit = std::vector<size_t>;

std::vector<Unit> GatedUnits(const AdapterConfig& config) {
  std::vector<Unit> units;
  for (size_t b = 0; b < config.gated.size(); ++b) {
    if (!config.gated[b]) continue;
    if (config.HasGate(static_cast<int>(b))) {
      units.push_back({b});
    } else {
      units.back().push_back(b);
    }
  }
  return units;
}

double SavedPerRow(const CostModel& cost, const Unit& unit, KvRule rule) {
  double saved = 0;
  for (const size_t b : unit) {
    const BranchCost& c = cost.branch(static_cast<int>(b));
    saved += c.dense + c.kept_extra - c.skip_path - (rule == KvRule::kCompute ? c.kv : 0.0);
  }
  return saved;
}

// The loss around a fixed set of left-out branches, and with one more unit of them left out.
class PruningProbe {
 public:
  PruningProbe(GatedModel& model, const TokenBatch& batch)
      : model_(model), batch_(batch), rows_(at::arange(1, batch.tokens.numel(), 2)) {
    teacher_ = model.Logits(model.Forward(batch, Decisions(), false, nullptr), rows_, false);
  }

  double SetMask(const std::vector<uint8_t>& mask) {
    decisions_.kind = Decisions::Kind::kMask;
    decisions_.mask = mask;
    before_.resize(mask.size());
    const auto keep_input = [&](int b, const Tensor& x, const Tensor&, const Tensor&) {
      before_[static_cast<size_t>(b)] = x;
    };
    loss_ = MeanKl(
        model_, model_.ForwardFrom(model_.Embed(batch_.tokens, true), 0, batch_, decisions_, true, nullptr, keep_input),
        rows_, teacher_);
    return loss_;
  }

  double RiseWithout(const Unit& unit) const {
    Decisions decisions = decisions_;
    for (const size_t b : unit) decisions.mask[b] = 0;
    const size_t first = unit.front();
    const Tensor hidden =
        model_.ForwardFrom(before_[first], static_cast<int>(first), batch_, decisions, true, nullptr, {});
    return MeanKl(model_, hidden, rows_, teacher_) - loss_;
  }

 private:
  GatedModel& model_;
  TokenBatch batch_;
  Tensor rows_, teacher_;  // every second position: the head is a fifth of the cost
  Decisions decisions_;
  std::vector<Tensor> before_;
  double loss_ = 0;
};

void ZScore(std::vector<double>& values, const std::vector<bool>& used) {
  double mean = 0;
  double square = 0;
  double n = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!used[i]) continue;
    mean += values[i];
    square += values[i] * values[i];
    n += 1;
  }
  mean /= n;
  const double deviation = std::sqrt(std::max(square / n - mean * mean, 1e-12));
  for (size_t i = 0; i < values.size(); ++i) values[i] = used[i] ? (values[i] - mean) / deviation : 0.0;
}

}  // namespace

namespace {

// Sums over rows from which every moment of the regression follows. Products of a batch are f32 (LibTorch's f64 ones
// may be a hundred times slower), their sums f64: against the ridge, 1e-2 of the diagonal, a rounding of 1e-6 is
// nothing.
struct Moments {
  Tensor hh, hy;  // [d, d]
  Tensor h_sum, y_sum;
  int64_t rows = 0;
};

void AddRows(Moments& m, const Tensor& h, const Tensor& y) {
  const auto add = [&](Tensor& sum, const Tensor& part) {
    sum = sum.defined() ? sum + part.to(at::kDouble) : part.to(at::kDouble);
  };
  add(m.hh, TransposedProduct(h, h));
  add(m.hy, TransposedProduct(h, y));
  add(m.h_sum, h.sum(0, false, at::kDouble));
  add(m.y_sum, y.sum(0, false, at::kDouble));
  m.rows += h.size(0);
}

// The reduced-rank ridge regression of the header comment.
void FitFromMoments(const Moments& m, int rank, double relative_ridge, BranchParameters& p) {
  const auto n = static_cast<double>(m.rows);
  const Tensor h_mean = m.h_sum / n;
  const Tensor y_mean = m.y_sum / n;
  if (rank == 0) {
    p.skip_bias.copy_(y_mean);
    return;
  }
  const Tensor covariance = m.hh - n * at::outer(h_mean, h_mean);
  const Tensor cross = m.hy - n * at::outer(h_mean, y_mean);
  const Tensor ridge =
      at::eye(covariance.size(0), covariance.options()) * (relative_ridge * covariance.diagonal().mean());
  const Tensor w = at::cholesky_solve(cross, at::linalg_cholesky(covariance + ridge));
  const Tensor w32 = w.to(at::kFloat);
  const Tensor fitted = TransposedProduct(w32, TransposedProduct(covariance.to(at::kFloat), w32));  // it is symmetric
  const Tensor vectors = std::get<1>(at::linalg_eigh(fitted.to(at::kDouble)));  // ascending eigenvalues
  const Tensor top = vectors.slice(1, vectors.size(1) - rank);                  // [d, rank]
  const Tensor down = at::mm(w, top).t();                                       // [rank, d]
  // The norms of the two factors are evened out, so that one learning rate suits both.
  const Tensor balance = down.norm(2, 1).clamp_min(1e-12).sqrt();  // [rank]
  p.skip_down.copy_(down / balance.unsqueeze(1));
  p.skip_up.copy_(top * balance);
  p.skip_bias.copy_(y_mean - at::mv(top, at::mv(down, h_mean)));
}

}  // namespace

void FitSkipPaths(GatedModel& model, const std::vector<TokenBatch>& batches, double relative_ridge) {
  const int rank = model.config().skip_rank;
  if (rank < 0) return;
  at::NoGradGuard no_grad;
  std::vector<Moments> moments(static_cast<size_t>(model.num_branches()));
  for (const TokenBatch& batch : batches) {
    // The first positions never skip, and carry activations unlike any other's (attention sinks).
    Tensor position = at::arange(batch.length(), at::kInt).repeat({batch.size()});
    if (batch.starts.defined()) position = position - batch.starts;
    const Tensor rows = at::nonzero(position >= model.config().always_run_positions).reshape({-1});
    const auto add = [&](int b, const Tensor&, const Tensor& h, const Tensor& out) {
      if (!model.branch(b).skip_bias.defined()) return;
      const auto picked = [&](const Tensor& x) { return x.index_select(0, rows.to(x.device())).to(at::kFloat); };
      AddRows(moments[static_cast<size_t>(b)], picked(h), picked(out));
    };
    model.ForwardFrom(model.Embed(batch.tokens, true), 0, batch, Decisions(), true, nullptr, add);
  }
  for (int b = 0; b < model.num_branches(); ++b) {
    const Moments& m = moments[static_cast<size_t>(b)];
    if (m.rows > 0) FitFromMoments(m, rank, relative_ridge, model.branch(b));
  }
  model.Refresh();
}

Prior MeasurePrior(GatedModel& model, const TokenBatch& batch, const CostModel& cost, const TrainOptions& options,
                   const Report& report) {
  at::NoGradGuard no_grad;
  const auto count = static_cast<size_t>(model.num_branches());
  const KvRule rule = model.config().kv_rule;
  PruningProbe probe(model, batch);
  std::vector<uint8_t> mask(count, 1);
  probe.SetMask(mask);

  Prior prior;
  prior.rise.assign(count, 0.0);
  prior.score.assign(count, 0.0);
  prior.gated = model.config().gated;
  const std::vector<Unit> units = GatedUnits(model.config());
  std::vector<size_t> left;                          // units still running, cheapest to give up first
  std::vector<double> log_price(units.size(), 0.0);  // log(nats per cost saved), as last measured
  const auto measure = [&](size_t u) {
    const double rise = probe.RiseWithout(units[u]);
    log_price[u] = std::log(std::max(rise, kSmallestRise) / SavedPerRow(cost, units[u], rule));
    return rise;
  };
  const auto by_price = [&](size_t a, size_t b) { return log_price[a] < log_price[b]; };
  for (size_t u = 0; u < units.size(); ++u) {
    const double rise = measure(u);
    const bool essential = !(rise <= options.essential_rise);
    for (const size_t b : units[u]) {
      prior.rise[b] = rise;
      prior.gated[b] = !essential;
    }
    if (!essential) left.push_back(u);
  }
  if (left.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "[train] essential_rise: expected to leave branches to gate, found none below "
         "{} nats; raise it",
         options.essential_rise);
  }
  std::stable_sort(left.begin(), left.end(), by_price);

  double saving = cost.NetSaving(mask, rule);
  double highest = -std::numeric_limits<double>::infinity();
  size_t order = 0;
  // A unit's score never falls below that of one given up before it; the tiny step keeps the order strict.
  const auto give_score = [&](size_t u) {
    highest = std::max(highest, log_price[u]);
    for (const size_t b : units[u]) prior.score[b] = highest + 1e-3 * static_cast<double>(order);
    ++order;
  };
  while (saving < options.prior_saving && left.size() > 1) {
    const double goal = std::min(saving + options.prior_step, options.prior_saving);
    do {
      for (const size_t b : units[left.front()]) mask[b] = 0;
      give_score(left.front());
      left.erase(left.begin());
      saving = cost.NetSaving(mask, rule);
    } while (saving < goal && left.size() > 1);
    const double loss = probe.SetMask(mask);
    report(fmt::format("prior: {:.4f} nats at {:.3f} net saving by static pruning", loss, saving));
    const size_t again = std::min(left.size(), static_cast<size_t>(options.prior_candidates));
    for (size_t i = 0; i < again; ++i) measure(left[i]);
    std::stable_sort(left.begin(), left.end(), by_price);
  }
  for (const size_t u : left) give_score(u);
  ZScore(prior.score, prior.gated);
  return prior;
}

void ApplyPrior(GatedModel& model, const Prior& prior) {
  at::NoGradGuard no_grad;
  model.mutable_config().gated = prior.gated;
  model.RemoveUngated();
  // The score decides which gates close first, wherever the threshold is. A gate that also multiplies starts open.
  const double open = model.config().gate_product == GateProduct::kNone ? 0.0 : static_cast<double>(kGateBiasStart);
  for (int b = 0; b < model.num_branches(); ++b) {
    BranchParameters& p = model.branch(b);
    const double start = open + prior.score[static_cast<size_t>(b)];
    if (p.gate_bias.defined()) p.gate_bias.fill_(start);
    if (p.decision_bias.defined()) p.decision_bias.fill_(start);
  }
  model.Refresh();
}

}  // namespace gateskip::train
