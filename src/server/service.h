// SPDX-License-Identifier: Apache-2.0
// The routes: decides who may ask, refuses early what the server has no room for, hands texts to the engine. Lives on
// the thread of the HTTP side; parsing and tokenising run on worker threads.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "server/access.h"
#include "server/budget_policy.h"
#include "server/engine_loop.h"
#include "server/generation.h"
#include "server/metrics.h"
#include "server/reply.h"
#include "server/served_model.h"

namespace gateskip::server {

class Service final : public Handler {
 public:
  // One line for each answer: method, route, status. Empty: none.
  using LogAnswer = std::function<void(const std::string& line)>;

  Service(boost::asio::io_context& io, const ServeOptions& options, LogAnswer log_answer);
  ~Service() override;

  // From now on requests are answered.
  void SetModel(std::unique_ptr<ServedModel> model);
  // From now on only what has been accepted is finished.
  void Drain() { draining_ = true; }
  // Ends what runs with an error for its client.
  void CutAll();
  bool busy() const { return sequences_ > 0; }
  // Called many times a second.
  void Tick(size_t connections);

  std::optional<HttpResponse> Refuse(const HttpRequest& request) override;
  void Handle(HttpRequest request, std::shared_ptr<Reply> reply) override;
  std::vector<std::pair<std::string, std::string>> CommonHeaders(const HttpRequest& request) const override;
  void CountAnswer(const HttpRequest& request, int status) override;
  void CountSlowReader() override { metrics_.slow_readers_cut.Increment(); }
  bool draining() const override { return draining_; }

 private:
  struct Ticket;
  using KeyLoad = std::atomic<size_t>;  // sequences of a key that run or wait
  using Answer = std::function<HttpResponse(const std::string& body)>;
  struct Route {
    const char* method;
    const char* path;
    void (Service::*handle)(HttpRequest&&, std::shared_ptr<Reply>);
  };
  static const std::vector<Route>& Routes();

  void GetHealth(HttpRequest&& request, std::shared_ptr<Reply> reply);
  void GetMetrics(HttpRequest&& request, std::shared_ptr<Reply> reply);
  void GetPage(HttpRequest&& request, std::shared_ptr<Reply> reply);
  void GetModels(HttpRequest&& request, std::shared_ptr<Reply> reply);
  void GetProps(HttpRequest&& request, std::shared_ptr<Reply> reply);
  void PostCompletions(HttpRequest&& request, std::shared_ptr<Reply> reply) { Generate(false, request, reply); }
  void PostChat(HttpRequest&& request, std::shared_ptr<Reply> reply) { Generate(true, request, reply); }
  void PostTokenize(HttpRequest&& request, std::shared_ptr<Reply> reply);
  void PostDetokenize(HttpRequest&& request, std::shared_ptr<Reply> reply);
  void PostApplyTemplate(HttpRequest&& request, std::shared_ptr<Reply> reply);

  void Dispatch(HttpRequest&& request, const std::shared_ptr<Reply>& reply);
  void Generate(bool chat, HttpRequest& request, const std::shared_ptr<Reply>& reply);
  void StartGeneration(PreparedRequest&& prepared, const std::string& fairness_key,
                       std::chrono::steady_clock::time_point received, const std::shared_ptr<Ticket>& ticket,
                       const std::shared_ptr<Reply>& reply);
  // Why a request that adds so much cannot be taken now.
  std::optional<ApiError> Overload(size_t sequences, size_t tokens, const KeyLoad& load,
                                   size_t held = 0);  // `held`: places it has
  std::shared_ptr<KeyLoad> LoadOf(const std::string& key);
  std::optional<ApiError> NotReady() const;
  ApiError Refused(const char* reason, ApiError error);
  int RetryAfter() const;
  size_t waiting() const;
  // Runs `answer` on a worker, for work that grows with the body.
  void AnswerOnWorker(HttpRequest&& request, const std::shared_ptr<Reply>& reply, Answer answer);
  void Post(std::function<void()> work);

  boost::asio::io_context& io_;
  const ServeOptions& options_;
  const LogAnswer log_answer_;
  const Access access_;
  const BudgetPolicy budget_policy_;
  Metrics metrics_;
  const std::chrono::system_clock::time_point started_ = std::chrono::system_clock::now();

  // Of all requests that have been taken and not answered. Any thread: tickets are given back wherever they end.
  std::atomic<size_t> sequences_{0};
  std::atomic<size_t> queued_tokens_{0};  // of prompts that are not through
  std::atomic<size_t> small_jobs_{0};     // on the workers

  std::map<std::string, std::shared_ptr<KeyLoad>> loads_;

  bool draining_ = false;
  std::chrono::steady_clock::time_point last_keep_alive_;
  double seconds_per_sequence_ = 1.0;  // moving average
  std::unique_ptr<ServedModel> model_;
  std::unique_ptr<EngineLoop> engine_;
  std::unordered_set<std::shared_ptr<Generation>> generations_;
  boost::asio::thread_pool workers_;  // last: its work uses the rest
};

}  // namespace gateskip::server
