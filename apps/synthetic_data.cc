// SPDX-License-Identifier: Apache-2.0
#include "synthetic_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "base/check.h"
#include "eval/synthetic.h"
#include "flags.h"
#include "io/atomic_write.h"
#include "terminal.h"

namespace gateskip::cli {
namespace {

constexpr const char* kGroup = "Synthetic";
constexpr int64_t kMostExamples = 10'000'000;  // their prompts are kept, so that none comes twice
constexpr std::array kOfBothKinds = {"--out", "--seed", "--help"};

// Whether the command line has it; a value from the environment does not count.
bool IsGiven(const CLI::Option& option) {
  if (option.count() == 0) return false;
  return option.get_envname().empty() || std::getenv(option.get_envname().c_str()) == nullptr;
}

}  // namespace

void AddSyntheticFlags(CLI::App& app, SyntheticFlags* flags) {
  AddChoice(app, "--synthetic", &flags->task, SyntheticTaskNames(),
            "Instead, problems of this task with every step written out; needs no model")
      ->group(kGroup);
  AddChoice(app, "--split", &flags->split, SyntheticSplitNames(), "Problems for training or for testing; none is both")
      ->group(kGroup);
  AddInt64(app, "--examples", &flags->examples, 1, kMostExamples, "How many")->group(kGroup);
  AddInt(app, "--size", &flags->size, 1, 64,
         "Digits (addition, mixed), numbers (sorting) or steps (lookup) of a problem; usually 3, 2, 4 and 4")
      ->group(kGroup);
}

void RequireOneKindOfData(const CLI::App& app, const SyntheticFlags& flags) {
  for (const CLI::Option* option : app.get_options()) {
    const std::string name = option->get_name();
    const bool synthetic = option->get_group() == kGroup;
    if (!IsGiven(*option) || std::find(kOfBothKinds.begin(), kOfBothKinds.end(), name) != kOfBothKinds.end()) continue;
    if (synthetic && flags.task.empty()) {
      Fail(ErrorCode::kInvalidArgument, "[command line] {}: expected --synthetic TASK with it, found none; add it",
           name);
    }
    if (!synthetic && !flags.task.empty()) {
      Fail(ErrorCode::kInvalidArgument,
           "[command line] {}: expected no option of text that a model writes beside --synthetic, found it; leave out "
           "one of them",
           name);
    }
  }
}

int WriteSyntheticData(const SyntheticFlags& flags, uint64_t seed, const std::string& out) {
  SyntheticSource source({.task = static_cast<SyntheticTask>(ChoiceIndex(SyntheticTaskNames(), flags.task)),
                          .split = static_cast<SyntheticSplit>(ChoiceIndex(SyntheticSplitNames(), flags.split)),
                          .seed = seed,
                          .size = flags.size});
  WriteFileAtomically(out, [&](FileWriter& writer) {
    for (int64_t i = 0; i < flags.examples; ++i) {
      const std::string line = SyntheticRecord(source.Next()) + "\n";
      writer.Write(std::as_bytes(std::span<const char>(line)));
    }
  });
  fmt::print(stderr, "{} records in {}\n", flags.examples, Printable(out));
  return 0;
}

}  // namespace gateskip::cli
