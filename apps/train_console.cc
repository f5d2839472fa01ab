// SPDX-License-Identifier: Apache-2.0
#include "train_console.h"

#include <fmt/format.h>

#include "report.h"

namespace gateskip::cli {
namespace {

constexpr int kPlainEvery = 10;  // steps between lines where stderr is no terminal

}  // namespace

void TrainConsole::OnMessage(const std::string& message) {
  bar_.Clear();
  fmt::print(stderr, "{}\n", Printable(message));
}

void TrainConsole::OnStep(const TrainProgress& p) {
  bar_.Update(static_cast<size_t>(p.step), static_cast<size_t>(steps_), "",
              fmt::format("{:.0f} tok/s  loss {:.4f}  lr {:.2f}  net {:.1f} % of {:.1f} %", p.tokens_per_second, p.loss,
                          p.learning_rate, p.realised_saving * 100, p.requested_saving * 100));
  if (!IsTerminal(stderr) && (p.step % kPlainEvery == 0 || p.step == p.steps)) {
    fmt::print(stderr, "step {}/{}  loss {:.4f}  {:.0f} tok/s  net {:.1f} % of {:.1f} %\n", p.step, p.steps, p.loss,
               p.tokens_per_second, p.realised_saving * 100, p.requested_saving * 100);
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
}

}  // namespace gateskip::cli
