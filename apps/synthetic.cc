// SPDX-License-Identifier: Apache-2.0
// `gateskip synthetic`: reasoning problems made by the project, as training text or as a test.
#include "eval/synthetic.h"

#include <fmt/format.h>

#include <memory>
#include <span>

#include "base/check.h"
#include "command.h"
#include "flags.h"
#include "io/atomic_write.h"
#include "report.h"
#include "terminal.h"

namespace gateskip::cli {
namespace {

struct SyntheticCommand {
  std::string task;
  std::string split = "train";
  std::string out;
  int64_t examples = 10'000;
  int size = 0;
  uint64_t seed = 1;
};

int Run(const SyntheticCommand& flags) {
  const SyntheticSplit split = flags.split == "test" ? SyntheticSplit::kTest : SyntheticSplit::kTrain;
  SyntheticGenerator generator(flags.task, flags.size, split, flags.seed);
  if (flags.out.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[command line] --out: expected a file to write, found none; pass -o FILE");
  }
  WriteFileAtomically(flags.out, [&](FileWriter& file) {
    std::string lines;
    for (int64_t i = 0; i < flags.examples; ++i) {
      const SyntheticExample example = generator.Next();
      lines += Json({{"prompt", example.prompt},
                     {"completion", example.completion},
                     {"answer", example.answer},
                     {"kinds", example.kinds}})
                   .dump() +
               "\n";
      if (lines.size() < (size_t{1} << 20) && i + 1 < flags.examples) continue;
      file.Write(std::as_bytes(std::span<const char>(lines)));
      lines.clear();
    }
  });
  fmt::print(stderr, "{} examples of {} in {}\n", flags.examples, flags.task, Printable(flags.out));
  return 0;
}

}  // namespace

void AddSynthetic(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<SyntheticCommand>();
  CLI::App* sub = app.add_subcommand("synthetic", "Reasoning problems made by the project, as JSON lines");
  std::vector<std::string> names;
  std::string help = "What to make:";
  for (const SyntheticTask& task : SyntheticTasks()) {
    names.emplace_back(task.name);
    help += fmt::format("\n{}: {}", task.name, task.description);
  }
  AddChoice(*sub, "--task", &flags->task, names, help)->required()->group("Input");
  AddChoice(*sub, "--split", &flags->split, {"train", "test"}, "Problems of the two never meet")->group("Input");
  AddInt(*sub, "--size", &flags->size, 0, 20, "Digits, length or steps; 0: the task's own")->group("Input");
  AddUint64(*sub, "--seed", &flags->seed, "Draws the problems")->group("Input");
  AddInt64(*sub, "-n,--examples", &flags->examples, 1, 10'000'000, "How many")->group("Output");
  sub->add_option("-o,--out", flags->out, "Where the records go; it replaces what is there")
      ->type_name("FILE")
      ->group("Output");
  sub->footer(
      "Examples:\n"
      "  gateskip synthetic --task addition -n 20000 -o train.jsonl\n"
      "  gateskip synthetic --task addition --split test -n 200 -o test.jsonl\n"
      "  gateskip eval -m model.gguf --task synthetic=test.jsonl");
  sub->callback([flags, &command] { command.run = [flags] { return Run(*flags); }; });
}

}  // namespace gateskip::cli
