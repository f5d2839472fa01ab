// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "analysis/html_parts.h"
#include "analysis/sweep_report.h"
#include "analysis/sweep_retention.h"
#include "analysis/sweep_text.h"
#include "base/text_table.h"

namespace gateskip {
namespace {

// Names from a file in a table of Markdown, which may hold HTML.
std::string Plain(const std::string& text) {
  std::string plain;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      plain += ' ';
    } else if (c == '<') {
      plain += "&lt;";
    } else {
      if (std::string_view("\\`*_{}[]>#|&").find(c) != std::string_view::npos) plain += '\\';
      plain += c;
    }
  }
  return plain;
}

// The first row of a table: the savings that were asked for.
std::vector<std::string> Head(const std::vector<double>& savings) {
  std::vector<std::string> head = {"arm"};
  for (const double s : savings) head.push_back(BudgetText(s));
  return head;
}

std::string MeanTable(const SweepResults& results, Reference reference, const std::vector<double>& savings) {
  const std::vector<MeanPoint> means = MeanRetention(results, reference);
  std::vector<std::vector<std::string>> rows = {Head(savings)};
  for (size_t arm = 0; arm < results.arms.size(); ++arm) {
    std::vector<std::string> row = {Plain(results.arms[arm].name)};
    bool any = false;
    for (const double s : savings) {
      row.emplace_back();
      for (const MeanPoint& m : means) {
        if (m.arm != arm || m.requested != s) continue;
        row.back() = RetentionText(m.retention) + " @ " + Percent(m.net, 1);
        any = true;
      }
    }
    if (any) rows.push_back(std::move(row));
  }
  return rows.size() > 1 ? FormatTable(rows, /*markdown=*/true) : "";
}

std::string TaskTable(const SweepResults& results, size_t task, const std::vector<double>& savings) {
  const ScoreFormat format = FormatOf(results, task);
  std::vector<std::vector<std::string>> rows = {Head(savings)};
  std::vector<std::string> row;
  size_t arm = results.arms.size();
  for (const SweepPoint& p : results.points) {
    if (p.task != task) continue;
    if (p.arm != arm) {
      if (!row.empty()) rows.push_back(std::move(row));
      arm = p.arm;
      row.assign(savings.size() + 1, "");
      row[0] = Plain(results.arms[arm].name);
    }
    for (size_t i = 0; i < savings.size(); ++i) {
      if (savings[i] != p.requested) continue;
      row[i + 1] = p.unreachable.empty()
                       ? format.Value(p.score.value) + format.Error(p.score) + " @ " + Percent(p.net, 1)
                       : "not reached";
    }
  }
  if (!row.empty()) rows.push_back(std::move(row));
  return FormatTable(rows, /*markdown=*/true);
}

}  // namespace

std::string RenderSweepMarkdown(const SweepResults& results) {
  const std::vector<double> savings = results.RequestedSavings();
  std::string text = fmt::format(
      "## {}\n\nA column is a requested saving; a cell is score ± standard error @ net "
      "saving.\n",
      Plain(results.model));
  size_t counted = 0;
  for (const TaskChoice& choice : ChooseTasks(results)) counted += choice.reason.empty() ? 1 : 0;
  if (counted > 1) {
    text += fmt::format("\n### Mean retention over {} tasks, against the original\n\n", counted) +
            MeanTable(results, Reference::kOriginal, savings);
    const std::string gated = MeanTable(results, Reference::kGatedDense, savings);
    if (!gated.empty()) text += "\n### The same against the gated model at budget 0\n\n" + gated;
  }
  for (size_t t = 0; t < results.tasks.size(); ++t) {
    text += fmt::format("\n### {} ({}{})\n\n", Plain(results.tasks[t].name), Plain(TaskFacts(results, t)),
                        FormatOf(results, t).percent ? "; in percent" : "") +
            TaskTable(results, t, savings);
  }
  return text;
}

}  // namespace gateskip
