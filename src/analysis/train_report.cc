// SPDX-License-Identifier: Apache-2.0
#include "analysis/train_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <set>
#include <span>

#include "analysis/html_page.h"
#include "analysis/html_parts.h"
#include "analysis/train_charts.h"
#include "gate/branch.h"
#include "io/atomic_write.h"

namespace gateskip {
namespace {

constexpr size_t kMaxListed = 200;  // rows of a table
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::string Duration(double seconds) {
  const auto total = static_cast<int64_t>(std::min(seconds, 1e12) + 0.5);
  if (total < 60) return fmt::format("{} s", total);
  if (total < 3600) return fmt::format("{} min {:02} s", total / 60, total % 60);
  return fmt::format("{} h {:02} min", total / 3600, total / 60 % 60);
}

// Of an option: a number or a word as it is, a list with commas.
std::string OptionText(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  if (value.is_array()) {
    std::string text;
    for (const nlohmann::json& item : value) text += (text.empty() ? "" : ", ") + OptionText(item);
    return text;
  }
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string Header(const TrainLog& log, const std::string& name, size_t num_bad_steps) {
  const std::string title = log.model.empty() ? name : log.model;
  std::string html = "<header>\n<p class=\"eyebrow\">Training report</p>\n";
  html += fmt::format("<h1>{}</h1>\n", HtmlEscape(title));
  const auto gated = std::count(log.gated.begin(), log.gated.end(), true);
  std::string lead = log.model.empty() ? "" : "Run " + name;
  if (!log.gated.empty()) {
    lead += fmt::format("{}{} of {} branches are gated", lead.empty() ? "" : ", ", gated, log.gated.size());
  }
  if (!lead.empty()) html += fmt::format("<p class=\"eyebrow\">{}</p>\n", HtmlEscape(lead));

  html += "<dl class=\"tiles\">\n";
  const auto tile = [&](std::string_view what, const std::string& value, const std::string& small) {
    html += fmt::format("<div><dt>{}</dt><dd>{}{}</dd></div>\n", what, value,
                        small.empty() ? "" : " <small>" + small + "</small>");
  };
  const double planned = OptionNumber(log, "steps");
  tile("Steps", fmt::format("{}", LastStep(log)), planned > 0 ? fmt::format("of {:.0f}", planned) : "");
  if (!log.steps.empty()) {
    int64_t tokens = 0;
    std::vector<double> speeds;
    for (const LoggedStep& s : log.steps) {
      tokens = std::max(tokens, s.tokens);
      speeds.push_back(static_cast<double>(s.tokens_per_second));
    }
    tile("Tokens", Amount(tokens), "");
    tile("Time", Duration(log.seconds), "");
    tile("Throughput", Number(Quantile(speeds, 0.5), 0), "tokens/s");
    tile("Bad steps", fmt::format("{}", num_bad_steps), "");
  }
  if (!log.resumed_after.empty()) tile("Resumed", fmt::format("{}×", log.resumed_after.size()), "");
  return html + "</dl>\n</header>\n";
}

std::string Quality(const TrainLog& log) {
  const auto& [step, last] = *log.evaluations.rbegin();
  const auto& [first_step, first] = *log.evaluations.begin();
  const bool two = first_step != step;
  std::string html = "<section>\n<h2>Quality at every budget</h2>\n";
  html += fmt::format(
      "<p class=\"lead\">Held-out text after step {}. A budget is the share of the layers' cost to be saved; the net "
      "saving is what was reached, gates and skip paths paid for.</p>\n",
      step);
  std::vector<std::string> head = {"Budget", "Net saving", "NLL", "Rise, nats", "Rise, %", "Perplexity"};
  if (two) head.push_back(fmt::format("NLL at step {}", first_step));
  std::vector<std::vector<std::string>> rows;
  rows.push_back({"ungated", "", Number(last.base_nll, 4), "", "", Number(std::exp(last.base_nll), 2)});
  if (two) rows.back().push_back(Number(first.base_nll, 4));
  for (size_t i = 0; i < last.budgets.size(); ++i) {
    const double rise = last.nll[i] - last.base_nll;
    const double share = last.base_nll > 0 ? rise / last.base_nll : kNaN;
    rows.push_back({"<strong>" + BudgetText(last.budgets[i]) + "</strong>", Percent(last.net_saving[i], 1),
                    "<strong>" + Number(last.nll[i], 4) + "</strong>", Signed(rise, 4),
                    std::isfinite(share) ? Signed(100 * share, 1) : "–", Number(std::exp(last.nll[i]), 2)});
    if (!two) continue;
    const auto at = std::find(first.budgets.begin(), first.budgets.end(), last.budgets[i]) - first.budgets.begin();
    rows.back().push_back(at < std::ssize(first.nll) ? Number(first.nll[static_cast<size_t>(at)], 4) : "–");
  }
  return html + "<div class=\"split\">\n" + Table(head, rows, {}) + TradeOffChart(log) + "\n</div>\n</section>\n";
}

std::string Branches(const TrainLog& log) {
  std::string html = "<section>\n<h2>What is skipped</h2>\n";
  std::string never;
  for (size_t b = 0; b < log.gated.size(); ++b) {
    if (log.gated[b]) continue;
    never += fmt::format("{}layer {} {}", never.empty() ? "" : ", ", BranchLayer(static_cast<int>(b)),
                         KindOfBranch(static_cast<int>(b)) == BranchKind::kAttention ? "attention" : "MLP");
  }
  html += "<p class=\"lead\">The share of rows that skipped a branch in training, whose budgets are drawn at random.";
  if (!never.empty()) html += " Never gated: " + never + ".";
  html += "</p>\n<div class=\"grid\">\n" + BranchMap(log, BranchKind::kAttention) + "\n" +
          BranchMap(log, BranchKind::kMlp) + "\n</div>\n<div class=\"grid\">\n" + GateMeanChart(log) + "\n</div>\n";
  return html + "</section>\n";
}

std::string SampleHtml(const LoggedSample& sample) {
  std::string html = "<article class=\"sample\"><h3>Step " + fmt::format("{}", sample.step);
  if (std::isfinite(sample.budget)) html += ", budget " + BudgetText(sample.budget);
  return html + fmt::format("</h3><p class=\"prompt\">{}</p><p>{}</p></article>\n", HtmlEscape(sample.prompt),
                            HtmlEscape(sample.text));
}

std::string Samples(const TrainLog& log) {
  int64_t last = 0;
  for (const LoggedSample& s : log.samples) last = std::max(last, s.step);
  std::string latest;
  std::string earlier;
  for (const LoggedSample& s : log.samples) {
    if (s.step == last) {
      latest += SampleHtml(s);
    } else {
      earlier.insert(0, SampleHtml(s));
    }
  }
  std::string html = "<section>\n<h2>Samples</h2>\n" + latest;
  if (!earlier.empty()) html += Details("Earlier samples", earlier);
  return html + "</section>\n";
}

std::string OptionTable(const nlohmann::json& options, const std::set<std::string>& names) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& [key, value] : options.items()) {
    if (!names.contains(key)) continue;
    rows.push_back({"<code>" + HtmlEscape(key) + "</code>", HtmlEscape(OptionText(value))});
  }
  return Table({"Option", "Value"}, rows, {0, 1});
}

std::string Setup(const TrainLog& log, const std::map<int64_t, LoggedBadStep>& bad_steps) {
  std::string html = "<section>\n<h2>Set-up</h2>\n";
  std::set<std::string> all;
  for (const auto& [key, value] : log.options.items()) all.insert(key);
  if (log.says_changed) {
    const std::set<std::string> changed(log.changed.begin(), log.changed.end());
    html += changed.empty()
                ? "<p>All options have their defaults.</p>\n"
                : "<p class=\"lead\">Options that differ from the defaults.</p>\n" + OptionTable(log.options, changed);
  }
  if (!all.empty()) html += Details("All options", OptionTable(log.options, all));
  if (!log.files.empty()) {
    std::vector<std::vector<std::string>> rows;
    for (const LoggedFile& f : log.files) {
      if (rows.size() == kMaxListed) break;
      rows.push_back(
          {HtmlEscape(f.path), fmt::format("{}", f.rows), fmt::format("{}", f.used), fmt::format("{}", f.skipped)});
    }
    html += Details(log.data_tokens > 0 ? "Training text, " + Amount(log.data_tokens) + " tokens" : "Training text",
                    Table({"File", "Rows", "Used", "Skipped"}, rows, {0}));
  }
  if (!bad_steps.empty()) {
    std::vector<std::vector<std::string>> rows;
    for (const auto& [step, bad] : bad_steps) {
      if (rows.size() == kMaxListed) break;
      rows.push_back({fmt::format("{}", step), HtmlEscape(bad.reason), Number(bad.loss, 4)});
    }
    const std::string more = bad_steps.size() > kMaxListed ? fmt::format(", the first {}", kMaxListed) : "";
    html +=
        Details(fmt::format("Bad steps: {}{}", bad_steps.size(), more), Table({"Step", "Reason", "Loss"}, rows, {1}));
  }
  return html + "</section>\n";
}

}  // namespace

std::string RenderTrainReport(const TrainLog& log, const std::string& name) {
  const std::map<int64_t, LoggedBadStep> bad_steps = BadSteps(log);
  std::string html = Header(log, name, bad_steps.size());
  if (!log.evaluations.empty()) html += Quality(log);
  const std::vector<ChartMark> marks = StepMarks(log, bad_steps);
  if (!log.steps.empty()) {
    html += "<section>\n<h2>Course of the run</h2>\n";
    html += marks.empty() ? ""
                          : "<p class=\"lead\">Red lines mark steps that were skipped, dotted ones where the run was "
                            "resumed.</p>\n";
    html += "<div class=\"grid\">\n" + LossChart(log, marks) + "\n";
    if (!log.evaluations.empty()) html += HeldoutChart(log) + "\n";
    html += SavingChart(log) + "\n" + GradientChart(log, marks) + "\n" + RateChart(log) + "\n" + ThroughputChart(log) +
            "\n</div>\n</section>\n";
  }
  if (!log.branches.empty()) html += Branches(log);
  if (!log.samples.empty()) html += Samples(log);
  html += Setup(log, bad_steps);
  html += "<footer><p>Made from log.jsonl by <code>gateskip report</code>.";
  if (log.damaged_lines > 0) html += fmt::format(" {} damaged lines of it were skipped.", log.damaged_lines);
  html += "</p></footer>\n";
  return HtmlPage((log.model.empty() ? name : log.model) + ", training report", html);
}

void WriteTrainReport(const std::string& run_directory, const std::string& path) {
  namespace fs = std::filesystem;
  const TrainLog log = ReadTrainLogFile((fs::path(run_directory) / "log.jsonl").string());
  fs::path clean = fs::path(run_directory).lexically_normal();
  if (clean.filename().empty()) clean = clean.parent_path();
  const std::string html = RenderTrainReport(log, clean.filename().string());
  WriteFileAtomically(path, std::as_bytes(std::span(html)));
}

}  // namespace gateskip
