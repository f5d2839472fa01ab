// SPDX-License-Identifier: Apache-2.0
// `gateskip serve`: the OpenAI-compatible server (docs/server.md).
#include <fmt/format.h>

#include <cstdlib>
#include <memory>

#include "base/check.h"
#include "command.h"
#include "flags.h"
#include "server/server.h"
#include "terminal.h"
#include "text/document.h"

namespace gateskip::cli {
namespace {

constexpr size_t kMaxKeyFileBytes = 1u << 20;
constexpr size_t kShortestKey = 8;

struct ServeCommand {
  EngineFlags engine;
  BudgetFlags budget;
  SpeculationFlags speculation;
  server::ServeOptions options;
  std::string api_key;
  std::string api_key_file;
  std::string adaptive;
  double drain_seconds = 30;
  double queue_seconds = 60;
  double header_seconds = 10;
  double body_seconds = 30;
  double idle_seconds = 5;
  double write_seconds = 30;
  double stall_seconds = 5;
  double keep_alive_seconds = 10;
  int min_body_rate = 1000;
  int max_connections = 1024;
  int per_address = 64;
  bool no_prefix_cache = false;
  bool log_requests = false;
};

std::chrono::milliseconds Milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

// One key a line; empty lines and those that begin with # are none.
std::vector<std::string> ReadKeys(const ServeCommand& flags) {
  std::vector<std::string> keys;
  if (!flags.api_key.empty()) keys.push_back(flags.api_key);
  if (!flags.api_key_file.empty()) {
    const std::string text = ReadText({.text = std::nullopt, .file = flags.api_key_file}, kMaxKeyFileBytes);
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      std::string line = text.substr(begin, end - begin);
      begin = end + 1;
      while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\t')) line.pop_back();
      if (!line.empty() && line.front() != '#') keys.push_back(std::move(line));
    }
    if (keys.empty()) {
      Fail(ErrorCode::kInvalidArgument, "[command line] --api-key-file: expected at least one key, found none in {}",
           Printable(flags.api_key_file));
    }
  }
  for (const std::string& key : keys) {
    if (key.size() >= kShortestKey) continue;
    Fail(ErrorCode::kInvalidArgument, "[command line] API key: expected at least {} bytes, found a shorter one",
         kShortestKey);
  }
  return keys;
}

server::AdaptiveRange ParseRange(const std::string& text) {
  const size_t colon = text.find(':');
  const std::string name = "--adaptive-budget";
  if (colon == std::string::npos) {
    Fail(ErrorCode::kInvalidArgument, "[command line] {}: expected LO:HI, found '{}'; for example 0:0.25", name,
         Printable(text.substr(0, 64)));
  }
  const double low = ParseDouble(name, text.substr(0, colon), kLowestBudget, kHighestBudget);
  const double high = ParseDouble(name, text.substr(colon + 1), kLowestBudget, kHighestBudget);
  if (low > high) {
    Fail(ErrorCode::kInvalidArgument, "[command line] {}: expected LO <= HI, found {}:{}; swap them", name, low, high);
  }
  return {.low = low, .high = high};
}

int Run(ServeCommand& flags) {
  server::ServeOptions options = flags.options;
  RequireModel(flags.engine.paths);
  const BudgetOptions budget = MakeBudget(flags.budget, flags.engine);
  options.use_adapter = budget.use_adapter;
  options.speculation = MakeSpeculation(flags.speculation, &flags.engine);
  options.engine = MakeEngineOptions(flags.engine);
  options.budget_prefill = budget.prefill;
  options.budget_decode = budget.decode;
  if (!flags.adaptive.empty()) options.adaptive = ParseRange(flags.adaptive);
  options.api_keys = ReadKeys(flags);
  options.prefix_cache = !flags.no_prefix_cache;
  options.drain_timeout = Milliseconds(flags.drain_seconds);
  options.queue_timeout = Milliseconds(flags.queue_seconds);
  options.limits.header = Milliseconds(flags.header_seconds);
  options.limits.body = Milliseconds(flags.body_seconds);
  options.limits.idle = Milliseconds(flags.idle_seconds);
  options.limits.write = Milliseconds(flags.write_seconds);
  options.limits.min_body_rate = static_cast<size_t>(flags.min_body_rate);
  options.stall_limit = Milliseconds(flags.stall_seconds);
  options.keep_alive = Milliseconds(flags.keep_alive_seconds);
  options.limits.connections = static_cast<size_t>(flags.max_connections);
  options.limits.reserved = std::min<size_t>(options.limits.reserved, options.limits.connections / 4);
  options.limits.per_address = static_cast<size_t>(flags.per_address);
  server::Serve(options, flags.log_requests, [](const std::string& line) {
    fmt::print(stderr, "gateskip serve: {}\n", Printable(line));
    std::fflush(stderr);
  });
  return 0;
}

}  // namespace

void AddServe(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<ServeCommand>();
  server::ServeOptions& options = flags->options;
  CLI::App* sub = app.add_subcommand("serve", "An OpenAI-compatible server; every request may choose its budget");
  AddEngineFlags(*sub, &flags->engine);
  AddContextLength(*sub, &flags->engine);
  sub->add_option("--alias", options.model_alias, "The model's name in answers; its own by default")
      ->type_name("NAME")
      ->group("Model");

  const std::string network = "Network";
  sub->add_option("--host", options.host, "Address to listen on; others than loopback need an API key")
      ->type_name("ADDRESS")
      ->default_str(options.host)
      ->group(network);
  AddInt(*sub, "--port", &options.port, 0, 65535, "Port; 0: any free one, printed on stderr")->group(network);
  sub->add_option("--api-key", flags->api_key, "A key that requests must bring; others see a process's arguments")
      ->envname("GATESKIP_API_KEY")
      ->type_name("KEY")
      ->group(network);
  sub->add_option("--api-key-file", flags->api_key_file, "Keys, one a line")->type_name("FILE")->group(network);
  AddTexts(*sub, "--allow-host", &options.allowed_hosts, "NAME",
           "Accept this name in the Host header, too; may be repeated")
      ->group(network);
  sub->add_option("--cors-origin", options.cors_origin, "Let web pages of this origin read answers")
      ->type_name("ORIGIN")
      ->group(network);

  AddBudgetFlags(*sub, &flags->budget);
  AddDouble(*sub, "--max-budget", &options.max_budget, kLowestBudget, kHighestBudget,
            "The largest budget a request may ask for")
      ->group("Budget");
  sub->add_option("--adaptive-budget", flags->adaptive,
                  "Budget of requests that set none: LO with an empty queue, up to HI as it grows")
      ->type_name("LO:HI")
      ->group("Budget");

  AddSpeculationFlags(*sub, &flags->speculation);

  const std::string capacity = "Capacity";
  AddInt(*sub, "--parallel", &options.max_running, 1, 1024, "Sequences that run at the same time")->group(capacity);
  AddInt(*sub, "--max-queue", &options.max_queue, 0, 1 << 20, "Sequences that may wait; more are refused with 429")
      ->group(capacity);
  AddInt(*sub, "--max-per-key", &options.max_per_key, 0, 1 << 20,
         "Sequences of one key (without keys: one address) that run or wait; 0: any")
      ->group(capacity);
  AddInt64(*sub, "--max-queue-tokens", &options.max_queue_tokens, 1, int64_t{1} << 32,
           "Tokens of their prompts that may wait")
      ->group(capacity);
  AddInt(*sub, "--kv-tokens", &options.kv_tokens, 64, 1 << 28, "Positions of the KV cache, for all sequences together")
      ->group(capacity);
  AddInt(*sub, "--default-max-tokens", &options.default_max_tokens, 1, 1 << 24, "Of chats that do not say")
      ->group(capacity);
  sub->add_flag("--no-prefix-cache", flags->no_prefix_cache, "Run every prompt from its beginning")->group(capacity);

  const std::string limits = "Limits";
  AddDouble(*sub, "--queue-timeout", &flags->queue_seconds, 0.01, 86400, "Seconds a request may wait for its turn")
      ->group(limits);
  AddDouble(*sub, "--drain-timeout", &flags->drain_seconds, 0, 86400, "Seconds that running requests get after SIGTERM")
      ->group(limits);
  AddDouble(*sub, "--header-timeout", &flags->header_seconds, 0.01, 3600, "Seconds for a request's header")
      ->group(limits);
  AddDouble(*sub, "--body-timeout", &flags->body_seconds, 0.01, 3600, "Seconds for its body")->group(limits);
  AddInt(*sub, "--min-body-rate", &flags->min_body_rate, 0, 1 << 30,
         "Bytes a second that a body must come at; slower ones are cut before their time is up; 0: any")
      ->group(limits);
  AddDouble(*sub, "--idle-timeout", &flags->idle_seconds, 0.01, 3600, "Seconds between requests of a connection")
      ->group(limits);
  AddDouble(*sub, "--write-timeout", &flags->write_seconds, 0.01, 3600, "Seconds without a byte read by the client")
      ->group(limits);
  AddDouble(*sub, "--stream-keep-alive", &flags->keep_alive_seconds, 0.01, 86400,
            "Seconds without a token after which a stream gets a comment")
      ->group(limits);
  AddDouble(*sub, "--stall-timeout", &flags->stall_seconds, 0.01, 86400,
            "Seconds a forward pass may take until /health answers 503")
      ->group(limits);
  AddInt(*sub, "--max-connections", &flags->max_connections, 4, 100000, "Open connections")->group(limits);
  AddInt(*sub, "--max-per-address", &flags->per_address, 1, 100000, "Of one address that is not loopback")
      ->group(limits);
  sub->add_flag("--log-requests", flags->log_requests, "A line on stderr for each answer; never a prompt")
      ->group("Output");
  sub->footer(
      "Examples:\n"
      "  gateskip serve -m model.gguf --adapter DIR --budget 0.15\n"
      "  gateskip serve -m model.gguf --adapter DIR --adaptive-budget 0:0.25 --parallel 32\n"
      "  gateskip serve -m model.gguf --host 0.0.0.0 --api-key-file keys.txt");
  sub->callback([flags, &command] { command.run = [flags] { return Run(*flags); }; });
}

}  // namespace gateskip::cli
