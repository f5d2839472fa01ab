// SPDX-License-Identifier: Apache-2.0
#include "report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "terminal.h"

namespace gateskip::cli {
namespace {

std::string PhaseLine(std::string_view name, size_t tokens, double rate, const SavingReport& saving,
                      std::string_view note) {
  return fmt::format(
      "{:<10} {:>6} tokens {:>9.2f} tok/s   saving {:.1f} % requested, {:.1f} % nominal, {:.1f} % net{}\n", name,
      tokens, rate, saving.requested * 100, saving.nominal * 100, saving.net * 100, note);
}

// Nothing where every step gave one token because nothing was drafted.
std::string SpeculationLine(const SpeculationReport& report, size_t decoded) {
  if (report.drafted == 0) return "";
  return fmt::format("drafted: {} tokens, {} accepted ({:.0f} %); {:.2f} tokens a step\n", report.drafted,
                     report.accepted,
                     100.0 * static_cast<double>(report.accepted) / static_cast<double>(report.drafted),
                     PerSecond(static_cast<double>(decoded), static_cast<double>(report.steps)));
}

}  // namespace

std::string_view FinishReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kLength:
      return "length";
    case FinishReason::kEndOfText:
      return "end_of_text";
    case FinishReason::kStopString:
      return "stop_string";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kContextFull:
      return "context_full";
    case FinishReason::kDeadline:
      return "deadline";
  }
  return "unknown";
}

std::string SavingText(const SavingReport& saving) {
  return fmt::format("{:.1f} / {:.1f} / {:.1f} %", saving.requested * 100, saving.nominal * 100, saving.net * 100);
}

SavingReport MergeSavings(const std::vector<SavingReport>& reports) {
  SavingReport merged;
  for (const SavingReport& report : reports) {
    const double rows = static_cast<double>(report.rows);
    merged.requested = report.requested;
    merged.nominal += report.nominal * rows;
    merged.net += report.net * rows;
    merged.rows += report.rows;
    merged.branches_run += report.branches_run;
    merged.branches_skipped += report.branches_skipped;
  }
  if (merged.rows > 0) {
    merged.nominal /= static_cast<double>(merged.rows);
    merged.net /= static_cast<double>(merged.rows);
  }
  return merged;
}

double PerSecond(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

std::string TimingText(const GenerateResult& result) {
  const size_t computed = result.prompt_tokens - std::min(result.prompt_tokens, result.reused_tokens);
  const size_t decoded = result.token_ids.empty() ? 0 : result.token_ids.size() - 1;  // the first is the prompt's
  const std::string note = result.reused_tokens == 0 ? "" : fmt::format(" ({} tokens reused)", result.reused_tokens);
  return PhaseLine("prompt", computed, PerSecond(static_cast<double>(computed), result.prefill_seconds),
                   result.prefill_saving, note) +
         PhaseLine("generation", result.token_ids.size(),
                   PerSecond(static_cast<double>(decoded), result.decode_seconds), result.decode_saving, "") +
         SpeculationLine(result.speculation, decoded);
}

Json GenerateJson(const GenerateResult& result) {
  const double computed =
      static_cast<double>(result.prompt_tokens - std::min(result.prompt_tokens, result.reused_tokens));
  const double decoded = result.token_ids.empty() ? 0 : static_cast<double>(result.token_ids.size() - 1);
  return {{"text", result.text},
          {"finish_reason", FinishReasonName(result.finish_reason)},
          {"token_ids", result.token_ids},
          {"prompt_tokens", result.prompt_tokens},
          {"reused_tokens", result.reused_tokens},
          {"generated_tokens", result.token_ids.size()},
          {"timings",
           {{"prefill_seconds", result.prefill_seconds},
            {"decode_seconds", result.decode_seconds},
            {"prefill_tokens_per_second", PerSecond(computed, result.prefill_seconds)},
            {"decode_tokens_per_second", PerSecond(decoded, result.decode_seconds)}}},
          {"saving", {{"prefill", SavingJson(result.prefill_saving)}, {"decode", SavingJson(result.decode_saving)}}},
          {"speculation", SpeculationJson(result.speculation)}};
}

void PrintJson(const Json& value) {
  WriteStdout(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

Json CalibratedJson(const std::vector<CalibratedBudget>& grid) {
  Json list = Json::array();
  for (const CalibratedBudget& b : grid) {
    list.push_back({{"requested", b.requested}, {"threshold", b.threshold}, {"nominal", b.nominal}, {"net", b.net}});
  }
  return list;
}

Json DifferenceJson(const ModelDifference& difference) {
  return {{"tokens", difference.tokens},
          {"source_nll", difference.nll_reference},
          {"nll", difference.nll},
          {"source_perplexity", std::exp(difference.nll_reference)},
          {"perplexity", std::exp(difference.nll)},
          {"kl", difference.kl},
          {"kl_standard_error", difference.kl_error},
          {"same_top_token", difference.same_top}};
}

std::string DifferenceTable(const ModelDifference& difference) {
  return FormatTable({{"tokens", "perplexity before", "after", "KL, nats", "same top token"},
                      {fmt::format("{}", difference.tokens), fmt::format("{:.4f}", std::exp(difference.nll_reference)),
                       fmt::format("{:.4f}", std::exp(difference.nll)),
                       fmt::format("{:.5f} +- {:.5f}", difference.kl, difference.kl_error),
                       fmt::format("{:.2f} %", difference.same_top * 100)}},
                     /*markdown=*/false);
}

Spread MeasureSpread(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  const double median = n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
  return {median, values.front(), values.back()};
}

}  // namespace gateskip::cli
