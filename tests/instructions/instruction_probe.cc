// SPDX-License-Identifier: Apache-2.0
// What instruction_test.py counts under callgrind, on one thread; loading is not instrumented. Without callgrind it
// just runs. `instruction_probe MODEL ADAPTER`
#include <valgrind/callgrind.h>

#include <cstdio>
#include <exception>
#include <vector>

#include "gateskip/engine.h"

namespace {

constexpr int kPromptTokens = 16;  // known to instruction_test.py, as is kDecodedTokens
constexpr int kDecodedTokens = 2;

// One dump for the prompt alone, one for the prompt and the tokens after it.
void Count(gateskip::Engine& engine, const std::vector<int32_t>& prompt, const char* name,
           const gateskip::BudgetOptions& budget) {
  for (const int decoded : {0, kDecodedTokens}) {
    CALLGRIND_ZERO_STATS;
    CALLGRIND_START_INSTRUMENTATION;
    engine.Bench({&prompt, 1}, {.decode_tokens = decoded, .budget = budget});
    char label[64];
    std::snprintf(label, sizeof(label), "%s %d", name, decoded);
    CALLGRIND_DUMP_STATS_AT(label);  // before instrumentation ends, which empties the counts
    CALLGRIND_STOP_INSTRUMENTATION;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: instruction_probe MODEL ADAPTER\n");
    return 2;
  }
  try {
    const auto engine = gateskip::Engine::Load(
        {.model_path = argv[1], .adapter_path = argv[2], .threads = 1, .context_length = 128, .self_test = false});
    std::vector<int32_t> prompt;
    for (int i = 0; i < kPromptTokens; ++i) prompt.push_back(100 + 37 * i);
    const auto random = [](double budget) {
      return gateskip::BudgetOptions{
          .prefill = budget, .decode = budget, .policy = gateskip::Policy::kRandom, .policy_seed = 1};
    };
    Count(*engine, prompt, "ungated", {.use_adapter = false});
    Count(*engine, prompt, "gates", {});
    Count(*engine, prompt, "half", random(0.5));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "instruction_probe: %s\n", error.what());
    return 1;
  }
  return 0;
}
