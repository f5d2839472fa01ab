// SPDX-License-Identifier: Apache-2.0
// The routes that tell about the server or change text into tokens and back.
#include <utility>

#include "server/api_response.h"
#include "server/page.h"
#include "server/service.h"

namespace gateskip::server {

void Service::GetHealth(HttpRequest&&, std::shared_ptr<Reply> reply) {
  if (const std::optional<ApiError> error = NotReady()) {
    const char* status = draining_ ? "draining" : engine_ == nullptr ? "loading" : "stalled";
    HttpResponse response = ErrorResponse(*error);
    response.body = Dump({{"status", status}});
    return reply->Send(std::move(response));
  }
  reply->Send({.body = Dump({{"status", "ok"}})});
}

void Service::GetMetrics(HttpRequest&&, std::shared_ptr<Reply> reply) {
  metrics_.requests_processing.Set(static_cast<double>(generations_.size()));
  metrics_.sequences_in_flight.Set(static_cast<double>(sequences_));
  metrics_.queued_tokens.Set(static_cast<double>(queued_tokens_));
  metrics_.default_budget.Set(budget_policy_.Choose({}, waiting()).decode);
  const SchedulerStats stats = engine_ == nullptr ? SchedulerStats{} : engine_->stats();
  reply->Send({.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = metrics_.Text(stats)});
}

void Service::GetPage(HttpRequest&&, std::shared_ptr<Reply> reply) {
  // Nothing from elsewhere runs in it, and no other page may frame it.
  reply->Send({.content_type = "text/html; charset=utf-8",
               .body = std::string(ChatPage()),
               .headers = {{"Content-Security-Policy",
                            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
                            "frame-ancestors 'none'"},
                           {"Referrer-Policy", "no-referrer"}}});
}

void Service::GetModels(HttpRequest&&, std::shared_ptr<Reply> reply) {
  if (const auto error = NotReady(); error && model_ == nullptr) return reply->Send(ErrorResponse(*error));
  const auto created = std::chrono::duration_cast<std::chrono::seconds>(started_.time_since_epoch()).count();
  Json models = Json::array();
  models.push_back({{"id", model_->name()},
                    {"object", "model"},
                    {"created", created},
                    {"owned_by", "gateskip"},
                    {"max_model_len", model_->info().context_length}});
  reply->Send({.body = Dump({{"object", "list"}, {"data", std::move(models)}})});
}

void Service::GetProps(HttpRequest&&, std::shared_ptr<Reply> reply) {
  if (const auto error = NotReady(); error && model_ == nullptr) return reply->Send(ErrorResponse(*error));
  const ModelInfo& info = model_->info();
  Json adaptive;
  if (options_.adaptive) adaptive = {{"low", options_.adaptive->low}, {"high", options_.adaptive->high}};
  Json routes = Json::array();
  for (const Route& route : Routes()) routes.push_back(std::string(route.method) + " " + route.path);
  reply->Send({.body = Dump({{"version", Version()},
                             {"model", model_->name()},
                             {"architecture", info.architecture},
                             {"num_layers", info.num_layers},
                             {"vocab_size", info.vocab_size},
                             {"context_length", info.context_length},
                             {"has_adapter", model_->use_adapter()},
                             {"max_budget", model_->max_budget()},
                             {"default_budget",
                              {{"prefill", options_.budget_prefill},
                               {"decode", options_.budget_decode},
                               {"adaptive", std::move(adaptive)}}},
                             {"parallel", options_.max_running},
                             {"max_queue", options_.max_queue},
                             {"default_max_tokens", options_.default_max_tokens},
                             {"chat_template", model_->tokenizer().chat_template()},
                             {"routes", std::move(routes)}})});
}

void Service::PostTokenize(HttpRequest&& request, std::shared_ptr<Reply> reply) {
  AnswerOnWorker(std::move(request), reply, [this](const std::string& body) -> HttpResponse {
    const TokenizeRequest parsed = ParseTokenize(body);
    const std::vector<int32_t> ids = parsed.add_special ? model_->EncodePrompt(parsed.text)
                                                        : model_->tokenizer().Encode(parsed.text, parsed.parse_special);
    Json tokens = Json::array();
    for (const int32_t id : ids) {
      if (parsed.with_pieces) {
        tokens.push_back({{"id", id}, {"piece", TokenText(model_->tokenizer(), id)}});
      } else {
        tokens.push_back(id);
      }
    }
    return {
        .body = Dump(
            {{"tokens", std::move(tokens)}, {"count", ids.size()}, {"max_model_len", model_->info().context_length}})};
  });
}

void Service::PostDetokenize(HttpRequest&& request, std::shared_ptr<Reply> reply) {
  AnswerOnWorker(std::move(request), reply, [this](const std::string& body) -> HttpResponse {
    const std::vector<int32_t> ids = ParseDetokenize(body);
    for (const int32_t id : ids) {
      if (id >= model_->tokenizer().vocab_size()) FailField("tokens", "expected ids of this model; correct them");
    }
    return {.body = Dump({{"content", model_->tokenizer().Decode(ids, /*special=*/true)}})};
  });
}

void Service::PostApplyTemplate(HttpRequest&& request, std::shared_ptr<Reply> reply) {
  AnswerOnWorker(std::move(request), reply, [this](const std::string& body) -> HttpResponse {
    return {.body = Dump({{"prompt", model_->ApplyTemplate(ParseApplyTemplate(body))}})};
  });
}

}  // namespace gateskip::server
