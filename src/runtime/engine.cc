// SPDX-License-Identifier: Apache-2.0
// Loading, describing, text in and out, and the forward steps that generate.cc and score.cc share.
#include "gateskip/engine.h"

#include <algorithm>

#include "base/check.h"
#include "base/stopwatch.h"
#include "runtime/engine_impl.h"
#include "runtime/self_test.h"

namespace gateskip {
namespace {

constexpr int kDefaultContextCap = 8192;

int ContextLength(const EngineOptions& options, const ModelConfig& config) {
  if (options.context_length < 0 || options.context_length > config.context_length) {
    Fail(ErrorCode::kInvalidArgument,
         "[options] context length: expected 0 (the default) to {} (the model's own), found "
         "{}; pass -c",
         config.context_length, options.context_length);
  }
  return options.context_length == 0 ? std::min(config.context_length, kDefaultContextCap) : options.context_length;
}

std::vector<ChatMessage> MessagesOf(const std::vector<ChatTurn>& turns) {
  std::vector<ChatMessage> messages;
  messages.reserve(turns.size());
  for (const ChatTurn& turn : turns) messages.push_back({turn.role, turn.content});
  return messages;
}

}  // namespace

ModelInfo DescribeModel(const EngineOptions& options, const LoadedModel& model) {
  const ModelConfig& c = model.transformer->config;
  const ModelWeights& w = model.transformer->weights;
  ModelInfo info;
  info.architecture = c.architecture;
  info.name = c.name;
  info.num_layers = c.num_layers;
  info.hidden_size = c.hidden_size;
  info.num_heads = c.num_heads;
  info.num_kv_heads = c.num_kv_heads;
  info.head_dim = c.head_dim;
  info.ffn_size = c.ffn_size;
  info.vocab_size = c.vocab_size;
  info.context_length = ContextLength(options, c);
  info.file_bytes = model.file_bytes;
  info.weight_bytes = w.total_bytes();
  info.skippable_share = static_cast<double>(w.branch_bytes()) / static_cast<double>(w.total_bytes());
  info.kv_cache = kernels::KvTypeName(model.kv_type);
  info.kv_bytes_per_token =
      kernels::KvLayerBytes({static_cast<size_t>(c.num_kv_heads), static_cast<size_t>(c.head_dim), model.kv_type}) *
      static_cast<size_t>(c.num_layers) / kernels::kKvPagePositions;
  info.base_fingerprint = model.fingerprint;
  info.cpu_target = kernels::CpuTargetName(kernels::ActiveCpuTarget());
  info.threads = model.pool->num_threads();
  info.has_adapter = model.transformer->adapter.has_value();
  if (info.has_adapter) {
    const AdapterConfig& adapter = model.transformer->adapter->config;
    info.max_budget = adapter.budgets.empty() ? 0.0 : adapter.budgets.back();
    for (int b = 0; b < model.adapter_cost.num_branches(); ++b) {
      info.decision_cost += model.adapter_cost.branch(b).decision / model.adapter_cost.dense_per_row();
    }
  }
  return info;
}

Engine::Impl::Impl(const EngineOptions& options, std::unique_ptr<LoadedModel> loaded_model)
    : model(std::move(loaded_model)),
      info(DescribeModel(options, *model)),
      prefill_chunk(options.prefill_chunk),
      step(MakeStep(*model, prefill_chunk)),
      kv(step.kv_shape, info.num_layers),
      chat_format(model->tokenizer),
      sequence(info.num_layers) {}

CallPlans Engine::Impl::MakePlans(const BudgetOptions& budget) const {
  return {MakePlan(*model, budget, budget.prefill), MakePlan(*model, budget, budget.decode), budget.use_adapter};
}

void Engine::Impl::CheckIds(std::span<const int32_t> ids, const char* subject) const {
  if (ids.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[{}] tokens: expected at least one, found none; pass a text that is not empty",
         subject);
  }
  if (ids.size() > static_cast<size_t>(info.context_length)) {
    Fail(ErrorCode::kLimitExceeded,
         "[{}] tokens: expected at most {} (the context length), found {}; shorten the text or "
         "raise -c",
         subject, info.context_length, ids.size());
  }
  for (int32_t id : ids) {
    if (id < 0 || id >= info.vocab_size) {
      Fail(ErrorCode::kInvalidArgument, "[{}] token id: expected 0 to {}, found {}; use this model's tokenizer",
           subject, info.vocab_size - 1, id);
    }
  }
}

bool Engine::Impl::Prefill(KvSequence* target, std::span<const int32_t> ids, size_t first, const CallPlans& plans,
                           const std::function<void(size_t, ConstMatrixView)>& on_logits,
                           const ProgressCallback& on_progress, SkipCounts* counts) {
  kv.Grow(target, ids.size());
  for (size_t begin = first; begin < ids.size();) {
    if (cancelled.load(std::memory_order_relaxed)) return false;
    const size_t end = std::min(ids.size(), begin + static_cast<size_t>(prefill_chunk));
    step.rows.clear();
    for (size_t p = begin; p < end; ++p) {
      step.rows.push_back({.token = ids[p],
                           .position = static_cast<int32_t>(p),
                           .sequence = target,
                           .plan = plans.prefill.get(),
                           .wants_logits = on_logits != nullptr || p + 1 == ids.size()});
    }
    step.use_adapter = plans.use_adapter;
    if (on_logits) {
      step.on_logits = [&](size_t tile, ConstMatrixView logits) { on_logits(begin + tile, logits); };
    }
    model->transformer->Forward(step);
    step.on_logits = nullptr;
    if (counts != nullptr) counts->Add(step.Counts(0, step.rows.size()));
    begin = end;
    if (on_progress) on_progress(end, ids.size());
  }
  return true;
}

void Engine::Impl::AppendRow(KvSequence* target, int32_t id, size_t position, const SkipPlan& plan) {
  kv.Grow(target, position + 1);
  step.rows.push_back({.token = id,
                       .position = static_cast<int32_t>(position),
                       .sequence = target,
                       .plan = &plan,
                       .wants_logits = true});
}

void Engine::Impl::RunRows(KvSequence* target, std::span<const int32_t> ids, size_t first, const SkipPlan& plan,
                           bool use_adapter) {
  step.rows.clear();
  for (size_t i = 0; i < ids.size(); ++i) AppendRow(target, ids[i], first + i, plan);
  step.use_adapter = use_adapter;
  model->transformer->Forward(step);
}

void Engine::Impl::Draft(KvSequence* target, std::span<const int32_t> ids, size_t room, const Sampler& sampler,
                         Drafter* drafter, DraftCosts* costs) {
  drafter->Begin(ids, room, sampler, *costs);
  const DraftPlan& draft = drafter->plan();
  while (drafter->WantsStep()) {
    const std::span<const int32_t> last = drafter->ids().last(1);
    const SteadyClock::time_point start = SteadyClock::now();
    RunRows(target, last, drafter->ids().size() - 1, *draft.plan, draft.use_adapter);
    costs->Draft(1, SecondsSince(start));
    drafter->Take(step.logits.row_span(0), step.Counts(0, 1));
  }
}

void Engine::Impl::ForgetCache() {
  kv.Shrink(&sequence, 0);
  cached_ids.clear();
  cached_prompt = 0;
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

std::unique_ptr<Engine> Engine::Load(const EngineOptions& options) {
  if (options.prefill_chunk < 1 || options.prefill_chunk > 4096) {
    Fail(ErrorCode::kInvalidArgument, "[options] prefill chunk: expected 1 to 4096 rows, found {}; leave it at 512",
         options.prefill_chunk);
  }
  std::unique_ptr<LoadedModel> model = LoadModel(options);
  if (options.self_test && model->transformer->adapter) RunSelfTest(*model, options.compute);
  return std::unique_ptr<Engine>(new Engine(std::make_unique<Impl>(options, std::move(model))));
}

const ModelInfo& Engine::info() const { return impl_->info; }

std::vector<int32_t> Engine::Encode(std::string_view text, bool add_bos, bool parse_special) const {
  const Tokenizer& tokenizer = *impl_->model->tokenizer;
  std::vector<int32_t> ids = tokenizer.Encode(text, parse_special);
  if (add_bos && tokenizer.bos() && (ids.empty() || ids.front() != *tokenizer.bos())) {
    ids.insert(ids.begin(), *tokenizer.bos());
  }
  return ids;
}

std::string Engine::Decode(std::span<const int32_t> ids, bool special) const {
  if (!ids.empty()) {
    for (int32_t id : ids) {
      if (id < 0 || id >= impl_->model->tokenizer->vocab_size()) {
        Fail(ErrorCode::kInvalidArgument, "[decode] token id: expected 0 to {}, found {}; use this model's tokenizer",
             impl_->model->tokenizer->vocab_size() - 1, id);
      }
    }
  }
  return impl_->model->tokenizer->Decode(ids, special);
}

bool Engine::adds_bos() const { return impl_->model->tokenizer->add_bos(); }

std::string Engine::ApplyChatTemplate(const std::vector<ChatTurn>& turns, bool add_generation_prompt) const {
  return impl_->chat_format.Render(MessagesOf(turns), add_generation_prompt);
}

std::vector<int32_t> Engine::EncodeChat(const std::vector<ChatTurn>& turns, bool add_generation_prompt) const {
  return impl_->chat_format.Encode(MessagesOf(turns), add_generation_prompt);
}

void Engine::Cancel() noexcept { impl_->cancelled.store(true, std::memory_order_relaxed); }

std::string_view Version() { return GATESKIP_VERSION; }

}  // namespace gateskip
