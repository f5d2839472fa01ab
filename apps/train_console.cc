// SPDX-License-Identifier: Apache-2.0
#include "train_console.h"

#include <fmt/format.h>

#include <filesystem>

#include "analysis/train_report.h"
#include "report.h"

namespace gateskip::cli {
namespace {

constexpr int kPlainEvery = 10;   // steps between lines where stderr is no terminal
constexpr int kReportShare = 50;  // a report that takes a second is made again after 50 at the earliest

std::string ReportPath(const std::string& run_directory) {
  return (std::filesystem::path(run_directory) / "report.html").string();
}

// The most important ones first: a narrow terminal drops the last ones.
std::vector<std::string> Parts(const TrainProgress& p) {
  std::vector<std::string> parts = {
      fmt::format("loss {:.4f}", p.loss),
      fmt::format("net {:.1f} of {:.1f} %", p.realised_saving * 100, p.requested_saving * 100)};
  if (p.bad_steps > 0) parts.push_back(fmt::format("{} bad", p.bad_steps));
  parts.push_back(fmt::format("{:.0f} tok/s", p.tokens_per_second));
  parts.push_back(fmt::format("grad {:.3g}", p.gradient_norm));
  parts.push_back(fmt::format("lr {:.2f}", p.learning_rate));
  return parts;
}

// Each line of a text of strangers, indented.
std::string Indented(const std::string& text) {
  std::string result = "  ";
  for (const char c : Printable(text, /*lines=*/true)) {
    result += c;
    if (c == '\n') result += "  ";
  }
  return result;
}

}  // namespace

TrainConsole::TrainConsole(const TrainOptions& options, bool json, std::atomic<bool>& cancelled)
    : run_directory_(options.run_directory), json_(json), cancelled_(cancelled) {}

TrainConsole::~TrainConsole() {
  if (!any_event_) return;
  bar_.Clear();
  if (WriteReport()) fmt::print(stderr, "report: {}\n", Printable(ReportPath(run_directory_)));
}

void TrainConsole::OnMessage(const std::string& message) {
  bar_.Clear();
  fmt::print(stderr, "{}\n", Printable(message));
}

void TrainConsole::OnStep(const TrainProgress& p) {
  const auto done = static_cast<size_t>(p.step);
  const auto total = static_cast<size_t>(p.steps);
  if (!any_step_) bar_.Restart(done);  // neither the preparations nor the steps before a resume say how long it takes
  any_step_ = any_event_ = true;
  const std::vector<std::string> parts = Parts(p);
  bar_.Update(done, total, "", parts);
  if (!IsTerminal(stderr) && (p.step % kPlainEvery == 0 || p.step == p.steps)) {
    const std::string eta = bar_.Eta(done, total);
    fmt::print(stderr, "step {}/{}  {}{}{}\n", p.step, p.steps, fmt::join(parts, "  "), eta.empty() ? "" : "  ETA ",
               eta);
  }
  if (json_) {
    PrintJson({{"step", p.step},
               {"steps", p.steps},
               {"loss", p.loss},
               {"learning_rate", p.learning_rate},
               {"gradient_norm", p.gradient_norm},
               {"requested_saving", p.requested_saving},
               {"realised_saving", p.realised_saving},
               {"tokens_per_second", p.tokens_per_second},
               {"tokens", p.tokens},
               {"bad_steps", p.bad_steps}});
  }
}

void TrainConsole::OnEvaluation(const TrainEvaluation& e) {
  any_event_ = true;
  bar_.Clear();
  std::string line = fmt::format("step {}: held-out NLL {:.4f} ungated", e.step, e.base_nll);
  for (size_t i = 0; i < e.budgets.size() && i < e.nll.size() && i < e.net_saving.size(); ++i) {
    line += fmt::format(", {:.4f} at {:g} % (net {:.1f} %)", e.nll[i], e.budgets[i] * 100, e.net_saving[i] * 100);
  }
  fmt::print(stderr, "{}\n", line);
  if (json_) {
    PrintJson({{"evaluation",
                {{"step", e.step},
                 {"base_nll", e.base_nll},
                 {"budgets", e.budgets},
                 {"nll", e.nll},
                 {"net_saving", e.net_saving}}}});
  }
  const auto start = std::chrono::steady_clock::now();
  if (start < next_report_) return;
  WriteReport();
  const auto end = std::chrono::steady_clock::now();
  next_report_ = end + kReportShare * (end - start);
}

void TrainConsole::OnSample(const TrainSample& sample) {
  bar_.Clear();
  fmt::print(stderr, "step {}: sample at {:g} %\n{}{}{}\n{}\n", sample.step, sample.budget * 100,
             Paint(stderr, Style::kDim), Indented(sample.prompt), Paint(stderr, Style::kReset), Indented(sample.text));
  if (json_) {
    PrintJson({{"sample",
                {{"step", sample.step}, {"budget", sample.budget}, {"prompt", sample.prompt}, {"text", sample.text}}}});
  }
}

bool TrainConsole::WriteReport() noexcept {
  try {
    WriteTrainReport(run_directory_, ReportPath(run_directory_));
    return true;
  } catch (const std::exception& e) {
    if (!warned_) fmt::print(stderr, "no report: {}\n", Printable(e.what()));
    warned_ = true;
    return false;
  }
}

}  // namespace gateskip::cli
