// SPDX-License-Identifier: Apache-2.0
#include "bench_output.h"

#include <fmt/format.h>

#include "terminal.h"

namespace gateskip::cli {
namespace {

std::string RateText(const Spread& s) {
  if (s.high <= 0) return "-";
  if (s.high >= 1000) return fmt::format("{:.0f} ({:.0f}-{:.0f})", s.median, s.low, s.high);
  return fmt::format("{:.1f} ({:.1f}-{:.1f})", s.median, s.low, s.high);
}

std::string Percent(double share) { return fmt::format("{:.1f}", share * 100); }

Json SpreadJson(const Spread& s) { return {{"median", s.median}, {"min", s.low}, {"max", s.high}}; }

const char* KindName(BenchCase::Kind kind) {
  switch (kind) {
    case BenchCase::Kind::kUngated:
      return "ungated";
    case BenchCase::Kind::kGates:
      return "gates";
    case BenchCase::Kind::kBudget:
      return "gated";
  }
  return "unknown";
}

}  // namespace

std::string BenchConditions(const ModelInfo& info, const BenchPlan& plan) {
  return fmt::format(
      "{}, {} weights, {} cache, {}, {} threads; memory read {:.1f} GB/s, 8-bit dot products {:.0f} GOP/s\n"
      "{} prompt + {} generated tokens, median of {} interleaved runs (min-max); x: times the ungated model\n"
      "savings in %: requested, nominal (nom) and net; GOP/s of the prompt's products, GB/s of weights while "
      "decoding\n",
      Printable(info.name), HumanBytes(info.weight_bytes), info.kv_cache, info.cpu_target, info.threads,
      plan.peaks.read_bytes * 1e-9, plan.peaks.dot_operations * 1e-9, plan.prompt_tokens, plan.decode_tokens,
      plan.repetitions);
}

std::string BenchMarkdown(const std::vector<BenchRow>& rows, const BenchPlan& plan) {
  std::vector<std::vector<std::string>> speed = {
      {"config", "depth", "seqs", fmt::format("pp{} tok/s", plan.prompt_tokens),
       fmt::format("tg{} tok/s", plan.decode_tokens), fmt::format("pp{}+tg{}", plan.prompt_tokens, plan.decode_tokens),
       "pp x", "tg x", "% ideal"}};
  std::vector<std::vector<std::string>> cost = {{"config", "depth", "seqs", "requested", "pp nom", "pp net", "tg nom",
                                                 "tg net", "GOP/s", "% peak", "GB/s", "% read", "logits"}};
  const bool decoded = plan.decode_tokens > 0;
  for (const BenchRow& r : rows) {
    const std::string depth = fmt::format("{}", r.config.depth);
    const std::string sequences = fmt::format("{}", r.config.sequences);
    speed.push_back({r.config.label, depth, sequences, RateText(r.prefill), RateText(r.decode),
                     fmt::format("{:.1f}", r.both.median), fmt::format("{:.2f}", r.prefill_speedup),
                     decoded ? fmt::format("{:.2f}", r.decode_speedup) : "-",
                     decoded && r.ideal_speedup > 0 ? fmt::format("{:.0f}", r.share_of_ideal() * 100) : "-"});
    cost.push_back({r.config.label, depth, sequences, Percent(r.config.budget.decode),
                    Percent(r.prefill_saving.nominal), Percent(r.prefill_saving.net), Percent(r.decode_saving.nominal),
                    Percent(r.decode_saving.net), fmt::format("{:.0f}", r.prefill_operations * 1e-9),
                    fmt::format("{:.0f}", r.dot_share * 100), fmt::format("{:.1f}", r.decode_bytes * 1e-9),
                    fmt::format("{:.0f}", r.bandwidth_share * 100), fmt::format("{:08x}", r.logits_hash)});
  }
  return FormatTable(speed, /*markdown=*/true) + "\n" + FormatTable(cost, /*markdown=*/true);
}

std::string BenchCsvHeader() {
  return "config,threads,depth,sequences,prompt_tokens,decode_tokens,prefill_tok_s,prefill_min,prefill_max,"
         "decode_tok_s,decode_min,decode_max,both_tok_s,prefill_speedup,decode_speedup,ideal_speedup,requested,"
         "nominal_prefill,net_prefill,nominal_decode,net_decode,prefill_gop_s,dot_share,weight_gb_s,bandwidth_share,"
         "logits_hash\n";
}

std::string BenchCsvRow(const BenchRow& r, const BenchPlan& plan) {
  return fmt::format(
      "{},{},{},{},{},{},{:.3f},{:.3f},{:.3f},{:.3f},{:.3f},{:.3f},{:.3f},{:.4f},{:.4f},{:.4f},{},{:.5f},{:.5f},{:.5f},"
      "{:.5f},{:.3f},{:.4f},{:.3f},{:.4f},{:08x}\n",
      KindName(r.config.kind), r.threads, r.config.depth, r.config.sequences, plan.prompt_tokens, plan.decode_tokens,
      r.prefill.median, r.prefill.low, r.prefill.high, r.decode.median, r.decode.low, r.decode.high, r.both.median,
      r.prefill_speedup, r.decode_speedup, r.ideal_speedup, r.config.budget.decode, r.prefill_saving.nominal,
      r.prefill_saving.net, r.decode_saving.nominal, r.decode_saving.net, r.prefill_operations * 1e-9, r.dot_share,
      r.decode_bytes * 1e-9, r.bandwidth_share, r.logits_hash);
}

Json BenchModelJson(const ModelInfo& info) {
  return {{"name", info.name},
          {"architecture", info.architecture},
          {"file_bytes", info.file_bytes},
          {"weight_bytes", info.weight_bytes},
          {"skippable_share", info.skippable_share},
          {"decision_cost", info.decision_cost},
          {"kv_cache", info.kv_cache},
          {"kv_bytes_per_token", info.kv_bytes_per_token},
          {"cpu_target", info.cpu_target},
          {"adapter", info.has_adapter}};
}

Json BenchRowJson(const BenchRow& row, const BenchPlan& plan) {
  return {{"config", KindName(row.config.kind)},
          {"budget", row.config.budget.decode},
          {"threads", row.threads},
          {"depth", row.config.depth},
          {"sequences", row.config.sequences},
          {"prefill_tokens_per_second", SpreadJson(row.prefill)},
          {"decode_tokens_per_second", SpreadJson(row.decode)},
          {"both_tokens_per_second", SpreadJson(row.both)},
          {"prefill_speedup", row.prefill_speedup},
          {"decode_speedup", row.decode_speedup},
          {"ideal_decode_speedup", row.ideal_speedup > 0 ? Json(row.ideal_speedup) : Json()},
          {"share_of_ideal", row.ideal_speedup > 0 ? Json(row.share_of_ideal()) : Json()},
          {"saving", {{"prefill", SavingJson(row.prefill_saving)}, {"decode", SavingJson(row.decode_saving)}}},
          {"prefill_giga_operations_per_second", row.prefill_operations * 1e-9},
          {"share_of_dot_product_peak", row.dot_share},
          {"decode_weight_gigabytes_per_second", row.decode_bytes * 1e-9},
          {"share_of_read_bandwidth", row.bandwidth_share},
          {"read_gigabytes_per_second", plan.peaks.read_bytes * 1e-9},
          {"dot_product_giga_operations_per_second", plan.peaks.dot_operations * 1e-9},
          {"logits_hash", fmt::format("{:08x}", row.logits_hash)}};
}

}  // namespace gateskip::cli
