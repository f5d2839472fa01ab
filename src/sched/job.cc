// SPDX-License-Identifier: Apache-2.0
#include "sched/job.h"

#include <algorithm>
#include <utility>

#include "sched/token_scores.h"

namespace gateskip {
namespace {

SamplingOptions SamplingOf(const SequenceRequest& request, int choice) {
  SamplingOptions options = request.sampling;
  options.seed += static_cast<uint64_t>(choice);
  return options;
}

}  // namespace

Choice::Choice(const LoadedModel& model, const SequenceRequest& request, int index, ChoiceResult* result)
    : top_log_probs(request.top_log_probs),
      wants_scores(request.want_log_probs || request.top_log_probs > 0),
      sampler(SamplingOf(request, index)),
      sink(model.tokenizer, request.stop, nullptr, &result->text) {
  result->decode_counts = SkipCounts(model.transformer->config.num_branches());
}

void Choice::DrawFrom(std::span<float> logits, std::span<const int32_t> ids, const RowScores* scores, bool last,
                      std::vector<float>* scratch) {
  const bool needed_again = !last || scores != nullptr;  // the sampler changes what it is given
  if (needed_again) scratch->assign(logits.begin(), logits.end());
  Draw draw;
  draw.id = sampler.Sample(needed_again ? std::span<float>(*scratch) : logits, ids);
  if (wants_scores) {
    draw.log_prob = scores->LogProb(draw.id);
    draw.is_greedy = scores->IsGreedy(draw.id);
    if (top_log_probs > 0) draw.top = scores->Top(top_log_probs);
  }
  draws.push_back(std::move(draw));
}

Job::Job(const LoadedModel& model, SequenceRequest asked, std::function<void(SequenceResult&&)> on_done)
    : request(std::move(asked)), done(std::move(on_done)), added(Clock::now()) {
  ValidateSamplingOptions(request.sampling);
  result.prompt_tokens = request.prompt.size();
  result.prefill_counts = SkipCounts(model.transformer->config.num_branches());
  if (request.score_prompt) ReserveScores(request.prompt.size() - 1, request.top_log_probs, &result.prompt);
  result.continuations.resize(request.continuations.size());
  for (size_t i = 0; i < result.continuations.size(); ++i) {
    ReserveScores(request.continuations[i].size(), 0, &result.continuations[i]);
  }
  result.choices.resize(Generates() ? static_cast<size_t>(request.num_choices) : 0);
  for (size_t i = 0; i < result.choices.size(); ++i) {
    choices.emplace_back(model, request, static_cast<int>(i), &result.choices[i]);
  }
}

size_t Job::NumSequences() const { return std::max<size_t>(1, choices.size() + request.continuations.size()); }

size_t Job::WorstPages() const {
  const size_t prompt = request.prompt.size();
  const size_t shared = prompt / kernels::kKvPagePositions;
  // The last token of each does not run. All but the first choice go on from a copy of the prompt's unfinished page.
  const auto all = [&](size_t tokens) { return KvCache::PagesFor(prompt + tokens - 1); };
  const auto generated = static_cast<size_t>(std::max(1, request.max_tokens));
  size_t pages = all(generated);
  for (size_t i = 1; i < choices.size(); ++i) pages += all(generated) - shared;
  for (const auto& tokens : request.continuations) {
    if (tokens.size() > 1) pages += all(tokens.size()) - shared;
  }
  return pages;
}

size_t Job::ReusablePages() const {
  return request.score_prompt ? 0 : (request.prompt.size() - 1) / kernels::kKvPagePositions;
}

bool Lane::WantsLogits(size_t position) const {
  if (is_continuation() || decoding) return true;
  if (position + 1 < ids.size()) return job->request.score_prompt;
  return job->Generates() || !job->request.continuations.empty();
}

}  // namespace gateskip
