// SPDX-License-Identifier: Apache-2.0
#include "bench_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "interrupt.h"

namespace gateskip::cli {

const char* const kBenchText =
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

std::vector<BenchCase> MakeCases(const std::vector<BudgetOptions>& budgets) {
  std::vector<BenchCase> cases(1);
  cases[0].label = "ungated";
  cases[0].ungated = true;
  cases[0].budget.use_adapter = false;
  for (const BudgetOptions& budget : budgets)
    cases.push_back({fmt::format("{:g} %", budget.decode * 100), false, budget});
  return cases;
}

std::vector<int32_t> BenchPrompt(const Engine& engine, const std::string& text, int count) {
  std::vector<int32_t> ids;
  if (engine.adds_bos()) ids = engine.Encode("", /*add_bos=*/true, /*parse_special=*/false);
  const std::vector<int32_t> tokens = engine.Encode(text, /*add_bos=*/false, /*parse_special=*/false);
  if (tokens.empty()) Fail(ErrorCode::kInvalidArgument, "[bench] text: expected at least one token, found none");
  for (size_t i = 0; ids.size() < static_cast<size_t>(count); ++i) ids.push_back(tokens[i % tokens.size()]);
  ids.resize(static_cast<size_t>(count));
  return ids;
}

std::vector<BenchRow> RunBench(Engine& engine, const std::vector<BenchCase>& cases, const BenchPlan& plan,
                               const std::function<void(size_t done, size_t total)>& progress) {
  GS_CHECK(!cases.empty() && cases[0].ungated);
  struct Samples {
    std::vector<double> prefill, decode, prefill_speedup, decode_speedup, bytes_per_second;
  };
  std::vector<Samples> samples(cases.size());
  std::vector<BenchRow> rows(cases.size());
  const size_t total = cases.size() * static_cast<size_t>(plan.repetitions + 1);
  size_t done = 0;
  const InterruptEngine guard(engine);
  for (int repetition = -1; repetition < plan.repetitions; ++repetition) {  // -1 warms up
    double dense_prefill = 0;
    double dense_decode = 0;
    for (size_t i = 0; i < cases.size(); ++i) {
      ThrowIfInterrupted();
      const Engine::BenchResult result = engine.Bench(plan.ids, plan.decode_tokens, cases[i].budget);
      ThrowIfInterrupted();
      progress(++done, total);
      const double decode_seconds = std::accumulate(result.decode_seconds.begin(), result.decode_seconds.end(), 0.0);
      const double prefill = PerSecond(static_cast<double>(plan.ids.size()), result.prefill_seconds);
      const double decode = PerSecond(static_cast<double>(result.decode_seconds.size()), decode_seconds);
      if (i == 0) {
        dense_prefill = prefill;
        dense_decode = decode;
      }
      if (repetition < 0) continue;
      samples[i].prefill.push_back(prefill);
      samples[i].decode.push_back(decode);
      if (dense_prefill > 0) samples[i].prefill_speedup.push_back(prefill / dense_prefill);
      if (dense_decode > 0) samples[i].decode_speedup.push_back(decode / dense_decode);
      samples[i].bytes_per_second.push_back(PerSecond(static_cast<double>(result.weight_bytes_decode), decode_seconds));
      rows[i].prefill_saving = result.prefill_saving;
      rows[i].decode_saving = result.decode_saving;
      rows[i].logits_hash = result.logits_hash;
    }
  }
  const double f = engine.info().skippable_share;
  for (size_t i = 0; i < cases.size(); ++i) {
    BenchRow& row = rows[i];
    row.config = cases[i];
    row.threads = engine.info().threads;
    row.prefill = MeasureSpread(samples[i].prefill);
    row.decode = MeasureSpread(samples[i].decode);
    row.prefill_speedup = MeasureSpread(samples[i].prefill_speedup).median;
    row.decode_speedup = MeasureSpread(samples[i].decode_speedup).median;
    const double bytes = MeasureSpread(samples[i].bytes_per_second).median;
    row.decode_gigabytes = bytes * 1e-9;
    row.bandwidth_share = plan.read_bandwidth > 0 ? bytes / plan.read_bandwidth : 0;
    row.ideal_speedup = 1.0 / (1.0 - row.decode_saving.net * f);
  }
  return rows;
}

}  // namespace gateskip::cli
