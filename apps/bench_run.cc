// SPDX-License-Identifier: Apache-2.0
#include "bench_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "interrupt.h"

namespace gateskip::cli {
namespace {

// Ordinary prose: gates decide by what they read, so random tokens would measure another saving.
constexpr const char* kText =
    "The harbour of the small town lies open to the west, so that in autumn every storm arrives without warning. "
    "Fishermen used to read the sky in the morning and decide whether the boats would leave; today they look at a "
    "screen, but the oldest of them still walk to the end of the pier before breakfast. A lighthouse stands on the "
    "rocks behind the church. It was built in 1868 from granite blocks that were carried across the bay on rafts, "
    "and its lamp could be seen from a distance of 21 miles. When electricity came, the keeper's family moved into "
    "the village, and the rooms below the lantern became a school for sailors. They learned how to splice a rope, "
    "how to find the position of a ship from the height of the sun, and how to keep a log that a stranger can "
    "understand. \"Write down what you saw, not what you think it means,\" the teacher said. In spring the students "
    "painted the boats. The colours were not a matter of taste: each family had its own, so that a boat could be "
    "recognised in fog. Trade grew slowly. Salt came from the south, timber from the north, and wool from the farms "
    "in the hills. A merchant who bought 40 sacks of wool at 3 shillings each and sold them at 5 shillings earned 80 "
    "shillings, less the cost of the cart and the toll at the bridge. Few became rich, but nobody went hungry. Then "
    "the railway arrived. A journey that had taken two days now took four hours, and the market square filled with "
    "fruit that no one had seen before. Some people complained about the noise. Others opened a hotel. The engineer "
    "who had drawn the line along the coast returned every summer with his children, and it was his daughter who "
    "began to measure the tides. She fixed a wooden scale to the pier, noted the level of the water every hour for "
    "eleven years, and found that the highest tides came not at the full moon itself but about a day and a half "
    "later. Her tables were printed and used by captains until long after her death. Today the scale is made of "
    "steel, and a sensor sends its numbers to a computer every six minutes. The principle has not changed: observe, "
    "write down, compare, and only then explain. ";

// `count` tokens of the text, repeated as often as it takes, BOS in front if the model wants it. Every sequence begins
// elsewhere in the text: with one text for all their gates would decide as one.
std::vector<int32_t> Prompt(const Engine& engine, const std::vector<int32_t>& text, size_t count, size_t sequence) {
  std::vector<int32_t> ids;
  if (engine.adds_bos()) ids = engine.Encode("", /*add_bos=*/true, /*parse_special=*/false);
  for (size_t i = sequence * 37; ids.size() < count; ++i) ids.push_back(text[i % text.size()]);
  ids.resize(count);
  return ids;
}

std::vector<std::vector<int32_t>> Prompts(const Engine& engine, const BenchCase& config, int prompt_tokens) {
  const std::vector<int32_t> text = engine.Encode(kText, /*add_bos=*/false, /*parse_special=*/false);
  if (text.empty()) Fail(ErrorCode::kInvalidArgument, "[bench] text: expected at least one token, found none");
  std::vector<std::vector<int32_t>> prompts;
  prompts.reserve(static_cast<size_t>(config.sequences));
  for (int s = 0; s < config.sequences; ++s) {
    prompts.push_back(Prompt(engine, text, static_cast<size_t>(config.depth) + static_cast<size_t>(prompt_tokens),
                             static_cast<size_t>(s)));
  }
  return prompts;
}

// What one case measured in one repetition.
struct Sample {
  double prefill = 0, decode = 0, both = 0;  // tokens per second
  double operations = 0, bytes = 0;          // per second
};

Sample MakeSample(const Engine::BenchResult& result, const BenchCase& config, int prompt_tokens) {
  const double decode_seconds = std::accumulate(result.decode_seconds.begin(), result.decode_seconds.end(), 0.0);
  const double prompt = static_cast<double>(prompt_tokens) * config.sequences;
  const double decoded = static_cast<double>(result.decode_seconds.size()) * config.sequences;
  return {.prefill = PerSecond(prompt, result.prefill_seconds),
          .decode = PerSecond(decoded, decode_seconds),
          .both = PerSecond(prompt + decoded, result.prefill_seconds + decode_seconds),
          .operations = PerSecond(static_cast<double>(result.prefill_operations), result.prefill_seconds),
          .bytes = PerSecond(static_cast<double>(result.weight_bytes_decode), decode_seconds)};
}

Spread SpreadOf(const std::vector<Sample>& samples, double Sample::*rate) {
  std::vector<double> values;
  values.reserve(samples.size());
  for (const Sample& sample : samples) values.push_back(sample.*rate);
  return MeasureSpread(values);
}

double MedianRatio(const std::vector<Sample>& samples, const std::vector<Sample>& base, double Sample::*rate) {
  std::vector<double> ratios;
  for (size_t i = 0; i < samples.size(); ++i) {
    if (base[i].*rate > 0) ratios.push_back(samples[i].*rate / (base[i].*rate));
  }
  return MeasureSpread(ratios).median;
}

}  // namespace

std::vector<BenchCase> MakeCases(const std::vector<int>& depths, const std::vector<int>& sequences, bool gates,
                                 const std::vector<BudgetOptions>& budgets) {
  std::vector<BenchCase> cases;
  for (const int depth : depths) {
    for (const int count : sequences) {
      const auto add = [&](BenchCase::Kind kind, const std::string& label, const BudgetOptions& budget) {
        cases.push_back({.kind = kind, .label = label, .depth = depth, .sequences = count, .budget = budget});
      };
      add(BenchCase::Kind::kUngated, "ungated", {.use_adapter = false});
      if (gates) add(BenchCase::Kind::kGates, "gates", {});
      for (const BudgetOptions& budget : budgets) {
        add(BenchCase::Kind::kBudget, fmt::format("{:g} %", budget.decode * 100), budget);
      }
    }
  }
  return cases;
}

std::vector<BenchRow> RunBench(Engine& engine, const std::vector<BenchCase>& cases, const BenchPlan& plan,
                               const std::function<void(size_t done, size_t total)>& progress) {
  GS_CHECK(!cases.empty() && cases[0].kind == BenchCase::Kind::kUngated);
  std::vector<std::vector<Sample>> samples(cases.size());
  std::vector<BenchRow> rows(cases.size());
  const size_t total = cases.size() * static_cast<size_t>(plan.repetitions + 1);
  size_t done = 0;
  const InterruptEngine guard(engine);
  for (int repetition = -1; repetition < plan.repetitions; ++repetition) {  // -1 warms up
    for (size_t i = 0; i < cases.size(); ++i) {
      ThrowIfInterrupted();
      const Engine::BenchResult result = engine.Bench(Prompts(engine, cases[i], plan.prompt_tokens),
                                                      {.depth = cases[i].depth,
                                                       .decode_tokens = plan.decode_tokens,
                                                       .evaluate_gates = cases[i].kind == BenchCase::Kind::kGates,
                                                       .budget = cases[i].budget});
      ThrowIfInterrupted();
      progress(++done, total);
      if (repetition < 0) continue;
      samples[i].push_back(MakeSample(result, cases[i], plan.prompt_tokens));
      rows[i].prefill_saving = result.prefill_saving;
      rows[i].decode_saving = result.decode_saving;
      rows[i].logits_hash = result.logits_hash;
    }
  }
  const double f = engine.info().skippable_share;
  size_t ungated = 0;
  for (size_t i = 0; i < cases.size(); ++i) {
    if (cases[i].kind == BenchCase::Kind::kUngated) ungated = i;
    BenchRow& row = rows[i];
    row.config = cases[i];
    row.threads = engine.info().threads;
    row.prefill = SpreadOf(samples[i], &Sample::prefill);
    row.decode = SpreadOf(samples[i], &Sample::decode);
    row.both = SpreadOf(samples[i], &Sample::both);
    row.prefill_speedup = MedianRatio(samples[i], samples[ungated], &Sample::prefill);
    row.decode_speedup = MedianRatio(samples[i], samples[ungated], &Sample::decode);
    row.prefill_operations = SpreadOf(samples[i], &Sample::operations).median;
    row.dot_share = PerSecond(row.prefill_operations, plan.peaks.dot_operations);
    row.decode_bytes = SpreadOf(samples[i], &Sample::bytes).median;
    row.bandwidth_share = PerSecond(row.decode_bytes, plan.peaks.read_bytes);
    row.ideal_speedup = cases[i].sequences == 1 ? 1.0 / (1.0 - row.decode_saving.net * f) : 0;
  }
  return rows;
}

}  // namespace gateskip::cli
