// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "analysis/gate_report.h"

namespace gateskip {
namespace {

using Json = nlohmann::ordered_json;

Json JsonNumber(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json GroupsJson(const std::vector<RowGroup>& groups) {
  Json list = Json::array();
  for (const RowGroup& g : groups) {
    list.push_back({{"name", g.name},
                    {"tokens", g.rows},
                    {"importance", {{"attention", JsonNumber(g.importance[0])}, {"mlp", JsonNumber(g.importance[1])}}},
                    {"skipped", {{"attention", JsonNumber(g.skipped[0])}, {"mlp", JsonNumber(g.skipped[1])}}},
                    {"net", JsonNumber(g.saving)},
                    {"own_nll", JsonNumber(g.own_nll)},
                    {"next_nll", JsonNumber(g.next_nll)}});
  }
  return list;
}

Json SurpriseJson(const SurpriseStatistics& surprise) {
  Json bins = Json::array();
  for (const SurpriseBin& bin : surprise.bins) {
    bins.push_back({{"nll", JsonNumber(bin.nll)}, {"compute_share", JsonNumber(bin.compute)}});
  }
  return {{"correlation", JsonNumber(surprise.correlation)}, {"bins", std::move(bins)}};
}

Json BranchesJson(const GateStatistics& s) {
  Json list = Json::array();
  for (size_t b = 0; b < s.branches.size(); ++b) {
    const BranchStatistics& branch = s.branches[b];
    Json item = {{"layer", b / 2}, {"branch", b % 2 == 0 ? "attention" : "mlp"}, {"gated", branch.gated}};
    if (branch.gated) {
      item["importance"] = JsonNumber(branch.importance);
      item["deviation"] = JsonNumber(branch.deviation);
      item["first_importance"] = JsonNumber(branch.first_importance);
      item["token_wise"] = branch.IsTokenWise();
      item["skipped"] = JsonNumber(branch.skipped);
      for (size_t c = 0; c < kNumTokenClasses; ++c) {
        item["skipped_by_class"][TokenClassName(static_cast<TokenClass>(c))] = JsonNumber(s.skipped_by_class[b][c]);
      }
    }
    list.push_back(std::move(item));
  }
  return list;
}

}  // namespace

Json GateStatisticsJson(const GateStatistics& s) {
  Json texts = Json::array();
  for (const TextDrift& text : s.texts) {
    texts.push_back({{"path", text.path}, {"tokens", text.tokens}, {"net", text.net}});
  }
  return {{"model", s.model},
          {"adapter", s.adapter},
          {"saving", {{"requested", s.requested}, {"nominal", s.nominal}, {"net", s.net}}},
          {"tokens", s.tokens},
          {"windows", s.windows},
          {"context", s.window},
          {"nll", JsonNumber(s.nll)},
          {"branches", BranchesJson(s)},
          {"depth_correlation",
           {{"attention", JsonNumber(s.DepthCorrelation(BranchKind::kAttention))},
            {"mlp", JsonNumber(s.DepthCorrelation(BranchKind::kMlp))}}},
          {"classes", GroupsJson(s.classes)},
          {"positions", GroupsJson(s.positions)},
          {"by_own_nll", SurpriseJson(s.by_own_nll)},
          {"by_next_nll", SurpriseJson(s.by_next_nll)},
          {"budgets", s.budgets},
          {"texts", std::move(texts)}};
}

}  // namespace gateskip
