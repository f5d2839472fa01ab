// SPDX-License-Identifier: Apache-2.0
#include "server/service.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cmath>
#include <utility>
#include <variant>

namespace gateskip::server {
namespace {

namespace asio = boost::asio;

constexpr size_t kWorkers = 2;
constexpr size_t kMaxSmallJobs = 64;
// What the tokens of a text are taken for before it is tokenised.
constexpr size_t kBytesPerToken = 4;

HttpResponse MethodNotAllowed(const std::string& allowed) {
  HttpResponse response = ErrorResponse(
      HttpError(405, fmt::format("[http] method: expected {} for this path, found another; correct it", allowed)));
  response.headers.emplace_back("Allow", allowed);
  return response;
}

}  // namespace

// A place in the queue, given back when the last who holds it lets go.
struct Service::Ticket {
  Ticket(Service& its_service, std::shared_ptr<KeyLoad> its_load, size_t some_sequences, size_t some_tokens)
      : service(its_service), load(std::move(its_load)) {
    Grow(some_sequences, some_tokens);
  }
  ~Ticket() {
    *load -= sequences;
    service.sequences_ -= sequences;
    service.queued_tokens_ -= tokens;
  }
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;

  void Grow(size_t more_sequences, size_t more_tokens) {
    sequences += more_sequences;
    tokens += more_tokens;
    *load += more_sequences;
    service.sequences_ += more_sequences;
    service.queued_tokens_ += more_tokens;
  }
  void GiveBackTokens(size_t fewer) {
    tokens -= fewer;
    service.queued_tokens_ -= fewer;
  }

  Service& service;
  const std::shared_ptr<KeyLoad> load;
  size_t sequences = 0;
  size_t tokens = 0;
};

Service::Service(asio::io_context& io, const ServeOptions& options, LogAnswer log_answer)
    : io_(io),
      options_(options),
      log_answer_(std::move(log_answer)),
      access_(options),
      budget_policy_(options),
      workers_(kWorkers) {}

Service::~Service() {
  workers_.stop();
  workers_.join();
  engine_.reset();
}

const std::vector<Service::Route>& Service::Routes() {
  static const std::vector<Route> routes = {
      {"GET", "/", &Service::GetPage},
      {"GET", "/health", &Service::GetHealth},
      {"GET", "/metrics", &Service::GetMetrics},
      {"GET", "/props", &Service::GetProps},
      {"GET", "/v1/models", &Service::GetModels},
      {"POST", "/v1/completions", &Service::PostCompletions},
      {"POST", "/v1/chat/completions", &Service::PostChat},
      {"POST", "/tokenize", &Service::PostTokenize},
      {"POST", "/detokenize", &Service::PostDetokenize},
      {"POST", "/apply-template", &Service::PostApplyTemplate},
  };
  return routes;
}

void Service::Post(std::function<void()> work) { asio::post(io_, std::move(work)); }

void Service::SetModel(std::unique_ptr<ServedModel> model) {
  model_ = std::move(model);
  SchedulerOptions scheduler;
  scheduler.max_sequences = options_.max_running;
  scheduler.max_rows = 256;  // steps short enough that a cancelled request ends at once
  scheduler.max_positions = options_.kv_tokens;
  scheduler.refuse_oversized = true;
  scheduler.prefix_cache = options_.prefix_cache;
  engine_ = std::make_unique<EngineLoop>(model_->loaded(), scheduler,
                                         [this](std::function<void()> work) { Post(std::move(work)); });
}

void Service::Tick(size_t connections) {
  metrics_.connections.Set(static_cast<double>(connections));
  const auto now = std::chrono::steady_clock::now();
  if (now - last_keep_alive_ < options_.keep_alive / 10) return;
  last_keep_alive_ = now;
  const auto running = generations_;  // one whose reader is cut leaves the set
  for (const auto& generation : running) generation->KeepAlive(now, options_.keep_alive);
}

void Service::CutAll() {
  const auto running = generations_;  // each leaves the set when it ends
  for (const auto& generation : running) {
    generation->Fail(Overloaded(503, "[server] request: expected to end in time, found the server stopping", 5));
  }
}

std::optional<HttpResponse> Service::Refuse(const HttpRequest& request) {
  if (const std::optional<ApiError> error = access_.Check(request)) return ErrorResponse(*error);
  return std::nullopt;
}

std::vector<std::pair<std::string, std::string>> Service::CommonHeaders(const HttpRequest& request) const {
  return access_.CorsHeaders(request);
}

void Service::CountAnswer(const HttpRequest& request, int status) {
  // Only the server's own words become labels or lines of the log.
  const auto known = std::ranges::find_if(Routes(), [&](const Route& route) { return route.path == request.path; });
  const std::string route = known == Routes().end() ? "other" : known->path;
  metrics_.CountResponse(route, status);
  if (!log_answer_) return;
  const bool named = known != Routes().end() && request.method == known->method;
  log_answer_(fmt::format("{} {} {}", named ? known->method : "-", route, status));
}

void Service::Handle(HttpRequest request, std::shared_ptr<Reply> reply) {
  try {
    Dispatch(std::move(request), reply);
  } catch (const std::exception& error) {
    reply->Send(ErrorResponse(ToApiError(error)));
  }
}

void Service::Dispatch(HttpRequest&& request, const std::shared_ptr<Reply>& reply) {
  if (access_.IsPreflight(request)) {
    return reply->Send({.status = 204,
                        .content_type = "",
                        .headers = {{"Access-Control-Allow-Methods", "GET, POST"},
                                    {"Access-Control-Allow-Headers", "Authorization, Content-Type"},
                                    {"Access-Control-Max-Age", "600"}}});
  }
  const std::string method = request.method == "HEAD" ? "GET" : request.method;
  std::string allowed;
  for (const Route& route : Routes()) {
    if (request.path != route.path) continue;
    if (method == route.method) return (this->*route.handle)(std::move(request), reply);
    allowed = route.method;
  }
  if (!allowed.empty()) return reply->Send(MethodNotAllowed(allowed));
  reply->Send(ErrorResponse(HttpError(404,
                                      "[http] path: expected a route of this server, found another; see GET "
                                      "/props or docs/server.md")));
}

std::optional<ApiError> Service::NotReady() const {
  if (draining_) return Overloaded(503, "[server] state: expected ready, found draining; ask another replica", 5);
  if (engine_ == nullptr) return Overloaded(503, "[server] state: expected ready, found loading; try again", 2);
  if (engine_->Stalled(options_.stall_limit)) {
    return Overloaded(503, "[server] state: expected ready, found the engine stalled; try again later", 10);
  }
  return std::nullopt;
}

size_t Service::waiting() const {
  const size_t in_flight = sequences_;
  return in_flight - std::min(in_flight, static_cast<size_t>(options_.max_running));
}

int Service::RetryAfter() const {
  const double rounds = static_cast<double>(waiting()) / options_.max_running + 1;
  return static_cast<int>(std::clamp(std::ceil(rounds * seconds_per_sequence_), 1.0, 60.0));
}

ApiError Service::Refused(const char* reason, ApiError error) {
  metrics_.CountRefusal(reason);
  return error;
}

std::shared_ptr<Service::KeyLoad> Service::LoadOf(const std::string& key) {
  if (const auto found = loads_.find(key); found != loads_.end()) return found->second;
  std::erase_if(loads_, [](const auto& entry) { return entry.second.use_count() == 1; });
  return loads_[key] = std::make_shared<KeyLoad>(0);
}

std::optional<ApiError> Service::Overload(size_t sequences, size_t tokens, const KeyLoad& load, size_t held) {
  if (std::optional<ApiError> error = NotReady()) return Refused("unavailable", std::move(*error));
  const auto places = static_cast<size_t>(options_.max_running) + static_cast<size_t>(options_.max_queue);
  const auto of_one = options_.max_per_key > 0 ? std::min(places, static_cast<size_t>(options_.max_per_key)) : places;
  if (sequences + held > of_one) {
    return HttpError(400, fmt::format("[request] n: expected at most {} prompts times choices (--max-queue, --parallel "
                                      "and --max-per-key), found {}; ask for fewer",
                                      of_one, sequences + held));
  }
  if (sequences_ + sequences > places) {
    return Refused("queue_sequences",
                   Overloaded(429, "[server] queue: expected a free place, found none; try again later", RetryAfter()));
  }
  if (options_.max_per_key > 0 && load + sequences > static_cast<size_t>(options_.max_per_key)) {
    return Refused("queue_of_key", Overloaded(429,
                                              "[server] sequences of this key: expected fewer at a time, found all "
                                              "there may be; wait for some to end",
                                              RetryAfter()));
  }
  if (queued_tokens_ > 0 && queued_tokens_ + tokens > static_cast<size_t>(options_.max_queue_tokens)) {
    return Refused("queue_tokens", Overloaded(429,
                                              "[server] queue: expected room for this prompt, found too many "
                                              "tokens waiting; try again later",
                                              RetryAfter()));
  }
  return std::nullopt;
}

void Service::Generate(bool chat, HttpRequest& request, const std::shared_ptr<Reply>& reply) {
  const std::string key = access_.Identity(request);
  const std::shared_ptr<KeyLoad> load = LoadOf(key);
  if (const auto refusal = Overload(1, request.body.size() / kBytesPerToken, *load)) {
    return reply->Send(ErrorResponse(*refusal));
  }
  const auto received = std::chrono::steady_clock::now();
  // Held until the request has been answered.
  const auto ticket = std::make_shared<Ticket>(*this, load, 1, request.body.size() / kBytesPerToken);
  asio::post(workers_, [this, chat, body = std::move(request.body), key, received, ticket, reply] {
    std::variant<PreparedRequest, ApiError> prepared;
    try {
      prepared = chat ? PrepareChat(*model_, body, options_.default_max_tokens) : PrepareCompletion(*model_, body);
    } catch (const std::exception& error) {
      prepared = ToApiError(error);
    }
    Post([this, prepared = std::move(prepared), key, received, ticket, reply]() mutable {
      if (const auto* error = std::get_if<ApiError>(&prepared)) return reply->Send(ErrorResponse(*error));
      StartGeneration(std::move(std::get<PreparedRequest>(prepared)), key, received, ticket, reply);
    });
  });
}

void Service::StartGeneration(PreparedRequest&& prepared, const std::string& fairness_key,
                              std::chrono::steady_clock::time_point received, const std::shared_ptr<Ticket>& ticket,
                              const std::shared_ptr<Reply>& reply) {
  const size_t sequences = prepared.sequences();
  ticket->GiveBackTokens(ticket->tokens);
  if (const auto refusal = Overload(sequences - 1, prepared.prompt_tokens(), *ticket->load, /*held=*/1)) {
    return reply->Send(ErrorResponse(*refusal));
  }
  ticket->Grow(sequences - 1, prepared.prompt_tokens());
  const Budgets budgets = budget_policy_.Choose(prepared.fields, waiting());
  GenerationParts parts{.model = *model_,
                        .engine = *engine_,
                        .metrics = metrics_,
                        .run_on_worker = [this](std::function<void()> work) { asio::post(workers_, std::move(work)); },
                        .post = [this](std::function<void()> work) { Post(std::move(work)); }};
  // The generation is held by the set, the callbacks by the generation: they end with it.
  auto generation = std::make_shared<Generation>(std::move(parts), std::move(prepared), budgets, reply);
  generations_.insert(generation);
  generation->Start(fairness_key, received, options_.queue_timeout,
                    {.on_started = [ticket](size_t tokens) { ticket->GiveBackTokens(tokens); },
                     .on_end =
                         [this, ticket, sequences, received, weak = std::weak_ptr(generation)] {
                           const std::chrono::duration<double> time = std::chrono::steady_clock::now() - received;
                           seconds_per_sequence_ +=
                               0.1 * (time.count() / static_cast<double>(sequences) - seconds_per_sequence_);
                           generations_.erase(weak.lock());
                         }});
}

void Service::AnswerOnWorker(HttpRequest&& request, const std::shared_ptr<Reply>& reply, Answer answer) {
  if (const auto error = NotReady()) return reply->Send(ErrorResponse(*error));
  if (small_jobs_ >= kMaxSmallJobs) {
    return reply->Send(ErrorResponse(
        Refused("workers", Overloaded(429, "[server] workers: expected a free one, found none; try again later", 1))));
  }
  ++small_jobs_;
  asio::post(workers_, [this, body = std::move(request.body), reply, answer = std::move(answer)] {
    HttpResponse response;
    try {
      response = answer(body);
    } catch (const std::exception& error) {
      response = ErrorResponse(ToApiError(error));
    }
    --small_jobs_;
    Post([reply, response = std::move(response)]() mutable { reply->Send(std::move(response)); });
  });
}

}  // namespace gateskip::server
