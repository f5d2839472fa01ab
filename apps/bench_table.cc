// SPDX-License-Identifier: Apache-2.0
#include "bench_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "bench_output.h"
#include "interrupt.h"
#include "prompt.h"
#include "terminal.h"
#include "window_score.h"

namespace gateskip::cli {
namespace {

constexpr size_t kSampleChars = 160;
constexpr size_t kSampleColumns = 100;
constexpr int kSampleTokens = 60;
constexpr int kTableWindow = 512;

struct Quality {
  TextScore score;
  std::string sample;
};

// One line of the answer, cut at a character's start.
std::string Shorten(const std::string& text) {
  const std::string printable = Printable(text);
  std::string line;
  for (size_t begin = 0; begin < printable.size();) {
    const size_t end = std::min(printable.find("\\n", begin), printable.size());
    line.append(printable, begin, end - begin);
    if (end < printable.size()) line += ' ';
    begin = end + 2;
  }
  if (line.size() <= kSampleChars) return line;
  size_t end = kSampleChars;
  while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xC0) == 0x80) --end;
  return line.substr(0, end) + "...";
}

Quality MeasureQuality(Engine& engine, const BenchCase& config, const BenchTable& table) {
  Quality quality;
  if (!table.text.empty()) {
    ProgressBar bar(fmt::format("perplexity, {}", config.label));
    quality.score = ScoreText(engine, table.text, config.budget, std::min(kTableWindow, engine.info().context_length),
                              static_cast<size_t>(table.max_text_tokens),
                              [&](size_t done, size_t total) { bar.Update(done, total, "tok"); });
  }
  std::vector<int32_t> ids;
  try {
    ids = EncodeChat(engine, {{"user", table.question}});
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kUnsupported) throw;
    ids = EncodePlain(engine, table.question);  // a base model without a chat template
  }
  GenerateOptions options;
  options.max_tokens = kSampleTokens;
  options.budget = config.budget;
  quality.sample = Shorten(GenerateStreaming(engine, ids, options, /*stream=*/false).text);
  ThrowIfInterrupted();
  return quality;
}

// Words over several lines, each after the first indented.
std::string Wrap(const std::string& text, size_t width, size_t indent) {
  std::string result;
  size_t column = 0;
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t space = std::min(text.find(' ', begin), text.size());
    const size_t length = space - begin;
    if (column > 0 && column + 1 + length > width) {
      result.append(1, '\n').append(indent, ' ');
      column = 0;
    }
    if (column > 0) result += ' ';
    result += text.substr(begin, length);
    column += length + (column > 0 ? 1 : 0);
    begin = space + 1;
  }
  return result;
}

std::string QuickTable(const std::vector<BenchRow>& rows, const std::vector<Quality>& quality) {
  // Two net savings: of the speed measurement, and of the text whose perplexity stands beside it.
  std::vector<std::vector<std::string>> cells = {{"budget", "prefill tok/s", "x", "decode tok/s", "x", "requested",
                                                  "nominal", "net", "net on text", "perplexity"}};
  for (size_t i = 0; i < rows.size(); ++i) {
    const BenchRow& r = rows[i];
    const TextScore& score = quality[i].score;
    const SavingReport s = MergeSavings({r.prefill_saving, r.decode_saving});
    const bool none = r.config.kind == BenchCase::Kind::kUngated;
    const bool scored = score.tokens > 0;
    const auto share = [](double value) { return fmt::format("{:.1f} %", value * 100); };
    cells.push_back({r.config.label, fmt::format("{:.0f}", r.prefill.median), fmt::format("{:.2f}", r.prefill_speedup),
                     fmt::format("{:.1f}", r.decode.median), fmt::format("{:.2f}", r.decode_speedup),
                     none ? "-" : share(r.config.budget.decode), none ? "-" : share(s.nominal),
                     none ? "-" : share(s.net), none || !scored ? "-" : share(score.saving.net),
                     scored ? fmt::format("{:.2f}", score.perplexity) : "-"});
  }
  return FormatTable(cells, /*markdown=*/false);
}

}  // namespace

void PrintBenchTable(Engine& engine, const BenchTable& table, const BenchPlan& plan,
                     const std::vector<BenchRow>& rows) {
  std::vector<Quality> quality;
  quality.reserve(rows.size());
  for (const BenchRow& row : rows) quality.push_back(MeasureQuality(engine, row.config, table));
  if (table.json) {
    Json body = {{"model", BenchModelJson(engine.info())}, {"rows", Json::array()}};
    for (size_t i = 0; i < rows.size(); ++i) {
      Json row = BenchRowJson(rows[i], plan);
      if (quality[i].score.tokens > 0) {
        row["perplexity"] = quality[i].score.perplexity;
        row["perplexity_standard_error"] = quality[i].score.perplexity_error;
        row["text_saving"] = SavingJson(quality[i].score.saving);
      }
      row["sample"] = quality[i].sample;
      body["rows"].push_back(row);
    }
    PrintJson(body);
    return;
  }
  std::string out = BenchConditions(engine.info(), plan) + "\n" + QuickTable(rows, quality) + "\n";
  out += fmt::format("{}{}{}\n", Paint(stdout, Style::kBold), Printable(table.question), Paint(stdout, Style::kReset));
  for (size_t i = 0; i < rows.size(); ++i) {
    out += fmt::format("  {:<9}{}\n", rows[i].config.label, Wrap(quality[i].sample, kSampleColumns, 11));
  }
  WriteStdout(out);
}

}  // namespace gateskip::cli
