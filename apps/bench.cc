// SPDX-License-Identifier: Apache-2.0
// `gateskip bench`: prefill and decode rates in the manner of llama-bench, at several budgets, with the speed-up
// against the ungated model. `--table` is the quick start's view: quality and a sample answer beside the speed.
#include <fmt/format.h>

#include <memory>

#include "bandwidth.h"
#include "base/check.h"
#include "bench_run.h"
#include "command.h"
#include "flags.h"
#include "interrupt.h"
#include "prompt.h"
#include "report.h"
#include "terminal.h"
#include "window_score.h"

namespace gateskip::cli {
namespace {

constexpr size_t kSampleChars = 160;
constexpr size_t kSampleColumns = 100;
constexpr int kSampleTokens = 60;
constexpr int kTableWindow = 512;
constexpr int kDefaultContext = 8192;

struct BenchCommand {
  EngineFlags engine;
  PolicyFlags policy;
  std::vector<double> budgets = {0};
  std::vector<int> threads = {0};
  int prompt_tokens = 512;
  int decode_tokens = 128;
  int repetitions = 5;
  std::string format = "md";
  bool table = false;
  std::string text_file;
  std::string question = "Why is the sky blue?";
  int64_t max_text_tokens = 0;
  bool json = false;
};

std::string Percent(double share) { return fmt::format("{:.1f}", share * 100); }

std::string RateText(const Spread& s) {
  if (s.high >= 1000) return fmt::format("{:.0f} ({:.0f}-{:.0f})", s.median, s.low, s.high);
  return fmt::format("{:.1f} ({:.1f}-{:.1f})", s.median, s.low, s.high);
}

Json SpreadJson(const Spread& s) { return {{"median", s.median}, {"min", s.low}, {"max", s.high}}; }

Json RowJson(const BenchRow& row) {
  return {{"config", row.config.ungated ? "ungated" : "gated"},
          {"budget", row.config.budget.decode},
          {"threads", row.threads},
          {"prefill_tokens_per_second", SpreadJson(row.prefill)},
          {"decode_tokens_per_second", SpreadJson(row.decode)},
          {"prefill_speedup", row.prefill_speedup},
          {"decode_speedup", row.decode_speedup},
          {"ideal_decode_speedup", row.ideal_speedup},
          {"share_of_ideal", row.decode_speedup / row.ideal_speedup},
          {"saving", {{"prefill", SavingJson(row.prefill_saving)}, {"decode", SavingJson(row.decode_saving)}}},
          {"decode_weight_gigabytes_per_second", row.decode_gigabytes},
          {"share_of_read_bandwidth", row.bandwidth_share},
          {"logits_hash", fmt::format("{:08x}", row.logits_hash)}};
}

Json ModelJson(const ModelInfo& info) {
  return {{"name", info.name},
          {"architecture", info.architecture},
          {"file_bytes", info.file_bytes},
          {"weight_bytes", info.weight_bytes},
          {"skippable_share", info.skippable_share},
          {"decision_cost", info.decision_cost},
          {"cpu_target", info.cpu_target},
          {"adapter", info.has_adapter}};
}

const std::vector<std::string>& CsvHeader() {
  static const std::vector<std::string> header = {
      "config",        "threads",         "prompt_tokens",   "decode_tokens", "prefill_tok_s",   "prefill_min",
      "prefill_max",   "decode_tok_s",    "decode_min",      "decode_max",    "prefill_speedup", "decode_speedup",
      "ideal_speedup", "requested",       "nominal_prefill", "net_prefill",   "nominal_decode",  "net_decode",
      "weight_gb_s",   "bandwidth_share", "logits_hash"};
  return header;
}

std::string CsvRow(const BenchRow& r, const BenchCommand& flags) {
  return fmt::format(
      "{},{},{},{},{:.3f},{:.3f},{:.3f},{:.3f},{:.3f},{:.3f},{:.4f},{:.4f},{:.4f},{},{:.5f},{:.5f},{:.5f},{:.5f},{:.3f}"
      ",{:.4f},{:08x}\n",
      r.config.ungated ? "ungated" : "gated", r.threads, flags.prompt_tokens, flags.decode_tokens, r.prefill.median,
      r.prefill.low, r.prefill.high, r.decode.median, r.decode.low, r.decode.high, r.prefill_speedup, r.decode_speedup,
      r.ideal_speedup, r.config.budget.decode, r.prefill_saving.nominal, r.prefill_saving.net, r.decode_saving.nominal,
      r.decode_saving.net, r.decode_gigabytes, r.bandwidth_share, r.logits_hash);
}

std::string MarkdownTable(const std::vector<BenchRow>& rows, const BenchCommand& flags) {
  // Two tables under 120 columns: speed, then what it was bought with.
  std::vector<std::vector<std::string>> speed = {{"config", "threads", fmt::format("pp{} tok/s", flags.prompt_tokens),
                                                  fmt::format("tg{} tok/s", flags.decode_tokens), "pp x", "tg x",
                                                  "ideal tg x", "% of ideal"}};
  std::vector<std::vector<std::string>> cost = {{"config", "threads", "requested %", "pp nominal %", "pp net %",
                                                 "tg nominal %", "tg net %", "GB/s", "% of read", "logits"}};
  for (const BenchRow& r : rows) {
    const std::string threads = fmt::format("{}", r.threads);
    const bool decoded = flags.decode_tokens > 0;
    speed.push_back({r.config.label, threads, RateText(r.prefill), decoded ? RateText(r.decode) : "-",
                     fmt::format("{:.2f}", r.prefill_speedup), decoded ? fmt::format("{:.2f}", r.decode_speedup) : "-",
                     decoded ? fmt::format("{:.2f}", r.ideal_speedup) : "-",
                     decoded ? fmt::format("{:.0f}", r.decode_speedup / r.ideal_speedup * 100) : "-"});
    cost.push_back({r.config.label, threads, Percent(r.config.budget.decode), Percent(r.prefill_saving.nominal),
                    Percent(r.prefill_saving.net), Percent(r.decode_saving.nominal), Percent(r.decode_saving.net),
                    fmt::format("{:.1f}", r.decode_gigabytes), fmt::format("{:.0f}", r.bandwidth_share * 100),
                    fmt::format("{:08x}", r.logits_hash)});
  }
  return FormatTable(speed, /*markdown=*/true) + "\n" + FormatTable(cost, /*markdown=*/true);
}

std::string Conditions(const ModelInfo& info, const BenchCommand& flags, double bandwidth) {
  return fmt::format(
      "{}, {} weights, {}, {} threads, memory read {:.1f} GB/s\n"
      "{} prompt + {} generated tokens, median of {} interleaved runs (min-max); x: times the ungated model\n",
      Printable(info.name), HumanBytes(info.weight_bytes), info.cpu_target, info.threads, bandwidth * 1e-9,
      flags.prompt_tokens, flags.decode_tokens, flags.repetitions);
}

struct Quality {
  TextScore score;
  std::string sample;
};

// One line of the answer, cut at a character's start.
std::string Shorten(const std::string& text) {
  std::string line = Printable(text);
  for (size_t at = line.find("\\n"); at != std::string::npos; at = line.find("\\n", at)) line.replace(at, 2, " ");
  if (line.size() <= kSampleChars) return line;
  size_t end = kSampleChars;
  while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xC0) == 0x80) --end;
  return line.substr(0, end) + "...";
}

Quality MeasureQuality(Engine& engine, const BenchCase& config, const BenchCommand& flags, const std::string& text) {
  Quality quality;
  if (!text.empty()) {
    ProgressBar bar(fmt::format("perplexity, {}", config.label));
    quality.score = ScoreText(engine, text, config.budget, std::min(kTableWindow, engine.info().context_length),
                              static_cast<size_t>(flags.max_text_tokens),
                              [&](size_t done, size_t total) { bar.Update(done, total, "tok"); });
  }
  std::vector<int32_t> ids;
  try {
    ids = EncodeChat(engine, {{"user", flags.question}});
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kUnsupported) throw;
    ids = EncodePlain(engine, flags.question);  // a base model without a chat template
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
      result += "\n" + std::string(indent, ' ');
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
    const bool none = r.config.ungated;
    const bool scored = score.tokens > 0;
    cells.push_back({r.config.label, fmt::format("{:.0f}", r.prefill.median), fmt::format("{:.2f}", r.prefill_speedup),
                     fmt::format("{:.1f}", r.decode.median), fmt::format("{:.2f}", r.decode_speedup),
                     none ? "-" : Percent(r.config.budget.decode) + " %", none ? "-" : Percent(s.nominal) + " %",
                     none ? "-" : Percent(s.net) + " %", none || !scored ? "-" : Percent(score.saving.net) + " %",
                     scored ? fmt::format("{:.2f}", score.perplexity) : "-"});
  }
  return FormatTable(cells, /*markdown=*/false);
}

int RunTable(Engine& engine, const BenchCommand& flags, const std::vector<BenchRow>& rows, const std::string& text,
             double bandwidth) {
  std::vector<Quality> quality;
  quality.reserve(rows.size());
  for (const BenchRow& row : rows) quality.push_back(MeasureQuality(engine, row.config, flags, text));
  if (flags.json) {
    Json body = {
        {"model", ModelJson(engine.info())}, {"read_gigabytes_per_second", bandwidth * 1e-9}, {"rows", Json::array()}};
    for (size_t i = 0; i < rows.size(); ++i) {
      Json row = RowJson(rows[i]);
      if (quality[i].score.tokens > 0) {
        row["perplexity"] = quality[i].score.perplexity;
        row["perplexity_standard_error"] = quality[i].score.perplexity_error;
        row["text_saving"] = SavingJson(quality[i].score.saving);
      }
      row["sample"] = quality[i].sample;
      body["rows"].push_back(row);
    }
    PrintJson(body);
    return 0;
  }
  std::string out = Conditions(engine.info(), flags, bandwidth) + "\n" + QuickTable(rows, quality) + "\n";
  out += fmt::format("{}{}{}\n", Paint(stdout, Style::kBold), Printable(flags.question), Paint(stdout, Style::kReset));
  for (size_t i = 0; i < rows.size(); ++i) {
    out += fmt::format("  {:<9}{}\n", rows[i].config.label, Wrap(quality[i].sample, kSampleColumns, 11));
  }
  WriteStdout(out);
  return 0;
}

void Validate(const BenchCommand& flags) {
  RequireModel(flags.engine.paths);
  if (flags.table && flags.threads.size() > 1) {
    Fail(ErrorCode::kInvalidArgument, "[command line] --threads: expected one number with --table, found {}",
         flags.threads.size());
  }
}

int Run(const BenchCommand& flags) {
  Validate(flags);
  std::vector<BudgetOptions> budgets;
  for (const double b : flags.budgets) budgets.push_back(MakeBudget(b, b, flags.policy, flags.engine));
  const std::vector<BenchCase> cases = MakeCases(budgets);
  const std::string text = flags.text_file.empty() ? "" : ReadTextFile(flags.text_file, kMaxTextBytes);
  InstallInterruptHandler();

  Json body = {{"model", nullptr}, {"rows", Json::array()}};
  if (flags.format == "csv" && !flags.json) WriteStdout(fmt::format("{}\n", fmt::join(CsvHeader(), ",")));
  for (const int threads : flags.threads) {
    EngineFlags engine_flags = flags.engine;
    engine_flags.threads = threads;
    // The engine's own default reaches kDefaultContext; KV memory is taken only as it fills.
    const int wanted = flags.prompt_tokens + flags.decode_tokens;
    if (wanted > kDefaultContext) engine_flags.context_length = wanted;
    const std::unique_ptr<Engine> engine = LoadEngine(engine_flags);
    const double bandwidth = MeasureReadBandwidth(engine->info().threads);
    std::vector<BenchRow> rows;
    {
      ProgressBar bar("measuring");
      const BenchPlan plan = {BenchPrompt(*engine, kBenchText, flags.prompt_tokens), flags.decode_tokens,
                              flags.repetitions, bandwidth};
      rows = RunBench(*engine, cases, plan, [&](size_t done, size_t total) { bar.Update(done, total); });
    }
    if (flags.table) return RunTable(*engine, flags, rows, text, bandwidth);
    if (flags.json || flags.format == "json") {
      body["model"] = ModelJson(engine->info());
      body["prompt_tokens"] = flags.prompt_tokens;
      body["decode_tokens"] = flags.decode_tokens;
      body["repetitions"] = flags.repetitions;
      for (const BenchRow& row : rows) {
        body["rows"].push_back(RowJson(row));
        body["rows"].back()["read_gigabytes_per_second"] = bandwidth * 1e-9;
      }
    } else if (flags.format == "csv") {
      for (const BenchRow& row : rows) WriteStdout(CsvRow(row, flags));
    } else {
      WriteStdout(Conditions(engine->info(), flags, bandwidth) + "\n" + MarkdownTable(rows, flags) + "\n");
    }
  }
  if (flags.json || flags.format == "json") PrintJson(body);
  return 0;
}

}  // namespace

void AddBench(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<BenchCommand>();
  CLI::App* sub = app.add_subcommand("bench", "Prefill and decode speed at several budgets, against the ungated model");
  AddEngineFlags(*sub, &flags->engine, /*with_threads=*/false);
  AddInts(*sub, "-t,--threads", &flags->threads, 0, 256, "Thread counts to try; 0: one per core")
      ->envname("GATESKIP_THREADS")
      ->group("Model");
  AddBudgetList(*sub, &flags->budgets);
  AddPolicyFlags(*sub, &flags->policy);
  AddInt(*sub, "-p,--prompt-tokens", &flags->prompt_tokens, 1, 1 << 20, "Tokens of the prompt")->group("Measurement");
  AddInt(*sub, "-n,--decode-tokens", &flags->decode_tokens, 0, 1 << 20, "Tokens to generate after it")
      ->group("Measurement");
  AddInt(*sub, "-r,--repetitions", &flags->repetitions, 1, 1000, "Measured runs of each, after one warm-up")
      ->group("Measurement");
  sub->add_flag("--table", flags->table, "One readable table with perplexity and a sample answer per row")
      ->group("Output");
  sub->add_option("--text", flags->text_file, "With --table: the text whose perplexity is shown")
      ->type_name("FILE")
      ->group("Output");
  AddInt64(*sub, "--max-text-tokens", &flags->max_text_tokens, 0, int64_t{1} << 40,
           "With --table: use only the first N tokens of --text; 0: all")
      ->group("Output");
  sub->add_option("--prompt", flags->question, "With --table: what is asked for the sample answers")
      ->type_name("TEXT")
      ->capture_default_str()
      ->group("Output");
  AddChoice(*sub, "-o,--output", &flags->format, {"md", "csv", "json"}, "Format")->group("Output");
  AddJson(*sub, &flags->json);
  sub->footer(
      "Examples:\n"
      "  gateskip bench -m model.gguf --adapter DIR --budgets 0,0.15,0.25,0.5 -t 1,2\n"
      "  gateskip bench -m model.gguf --adapter DIR --budgets 0,0.25 --table --text text.txt");
  sub->callback([flags, &command] { command.run = [flags] { return Run(*flags); }; });
}

}  // namespace gateskip::cli
