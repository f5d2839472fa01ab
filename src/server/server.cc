// SPDX-License-Identifier: Apache-2.0
#include "server/server.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <exception>
#include <memory>
#include <thread>

#include "base/check.h"
#include "server/listener.h"
#include "server/service.h"

namespace gateskip::server {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr std::chrono::milliseconds kTick{20};
constexpr std::chrono::milliseconds kFlushTime{1000};  // for errors to those who are cut

// Every connection is a file descriptor.
void RaiseFileLimit(size_t connections) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlim_t wanted = connections + 256;
  if (limit.rlim_cur >= wanted) return;
  limit.rlim_cur = std::min<rlim_t>(wanted, limit.rlim_max);
  setrlimit(RLIMIT_NOFILE, &limit);
}

class Server {
 public:
  using Log = std::function<void(const std::string&)>;

  Server(const ServeOptions& options, bool log_answers, Log log)
      : options_(options),
        log_(std::move(log)),
        service_(io_, options, log_answers ? log_ : Log()),
        listener_(io_, options, service_),
        signals_(io_, SIGINT, SIGTERM),
        tick_(io_) {}

  void Run() {
    listener_.Start();
    signals_.async_wait([this](error_code error, int) {
      if (!error) Drain();
    });
    Tick();
    const std::string host = options_.host.find(':') == std::string::npos ? options_.host : "[" + options_.host + "]";
    log_(fmt::format("listening on http://{}:{}", host, listener_.port()));
    std::thread loader([this] { Load(); });
    while (!io_.stopped()) {
      try {
        io_.run();
      } catch (const std::exception& error) {
        // One connection's trouble (no memory, most likely) is not the others'.
        log_(fmt::format("unexpected: {}", error.what()));
      }
    }
    loader.join();
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void Load() {
    try {
      auto model = std::make_shared<std::unique_ptr<ServedModel>>(std::make_unique<ServedModel>(options_));
      asio::post(io_, [this, model] {
        log_(fmt::format("ready: {}, budgets up to {}", (*model)->name(), (*model)->max_budget()));
        service_.SetModel(std::move(*model));
      });
    } catch (...) {
      failure_ = std::current_exception();
      asio::post(io_, [this] { io_.stop(); });
    }
  }

  void Drain() {
    log_("draining");
    error_code ignored;
    signals_.clear(ignored);  // a second one ends the process
    service_.Drain();
    listener_.CloseIdle();
    cut_at_ = std::chrono::steady_clock::now() + options_.drain_timeout;
    end_at_ = cut_at_ + kFlushTime;
  }

  // Looks after what changes with time alone.
  void Tick() {
    service_.Tick(listener_.num_connections());
    if (service_.draining() && Drained()) {
      listener_.CloseAll();
      return io_.stop();
    }
    tick_.expires_after(kTick);
    tick_.async_wait([this](error_code error) {
      if (!error) Tick();
    });
  }

  bool Drained() {
    const auto now = std::chrono::steady_clock::now();
    if (!service_.busy() && !listener_.answering()) return true;
    if (now >= cut_at_) {
      cut_at_ = std::chrono::steady_clock::time_point::max();
      service_.CutAll();
    }
    return now >= end_at_;
  }

  const ServeOptions& options_;
  const Log log_;
  asio::io_context io_{1};
  Service service_;
  Listener listener_;
  asio::signal_set signals_;
  asio::steady_timer tick_;
  std::exception_ptr failure_;
  std::chrono::steady_clock::time_point cut_at_, end_at_;
};

}  // namespace

bool IsLoopback(const std::string& host) { return host == "localhost" || host == "::1" || host.starts_with("127."); }

void CheckServeOptions(const ServeOptions& options) {
  if (!IsLoopback(options.host) && options.api_keys.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "[command line] --host {}: expected an API key for an address that others reach, found none; pass "
         "--api-key-file FILE",
         options.host);
  }
  for (const double budget :
       {options.budget_prefill, options.budget_decode, options.adaptive ? options.adaptive->high : 0.0}) {
    if (budget <= options.max_budget) continue;
    Fail(ErrorCode::kInvalidArgument, "[command line] --max-budget: expected at least the default budget {}, found {}",
         budget, options.max_budget);
  }
}

void Serve(const ServeOptions& options, bool log_answers, const std::function<void(const std::string&)>& log) {
  CheckServeOptions(options);
  RaiseFileLimit(options.limits.connections);
  Server(options, log_answers, log).Run();
}

}  // namespace gateskip::server
