// SPDX-License-Identifier: Apache-2.0
// What `gateskip serve` can be told, with its defaults. Values are checked by the command line (apps/serve.cc) and by
// CheckServeOptions.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gateskip/engine.h"

namespace gateskip::server {

// Bounds on what a peer can make the server hold or wait for.
struct ConnectionLimits {
  size_t header_bytes = 64u << 10;
  size_t header_lines = 100;
  size_t body_bytes = 4u << 20;
  size_t stream_bytes = 1u << 20;  // waiting for a slow reader of a stream; beyond it is cut
  size_t connections = 1024;
  size_t reserved = 32;                      // of them, for /health and /metrics when all others are taken
  size_t per_address = 64;                   // not for loopback: a reverse proxy lives there
  std::chrono::milliseconds header{10'000};  // from the first byte of a request to the end of its header
  std::chrono::milliseconds body{30'000};    // from there to the end of its body
  size_t min_body_rate = 1000;               // bytes per second of a body, looked at a few times on its way; 0: any
  std::chrono::milliseconds idle{5'000};     // between two requests of a connection
  std::chrono::milliseconds write{30'000};   // without a byte taken by the peer
};

// The default budget follows the queue between these two.
struct AdaptiveRange {
  double low = 0;
  double high = 0;
};

struct ServeOptions {
  EngineOptions engine;
  bool use_adapter = true;
  std::string model_alias;  // the model's name in answers; empty: its own

  std::string host = "127.0.0.1";
  int port = 8080;                         // 0: any free one
  std::vector<std::string> api_keys;       // none: loopback only
  std::vector<std::string> allowed_hosts;  // for the Host header, besides loopback's names
  std::string cors_origin;                 // the one foreign origin that may read answers

  double budget_prefill = 0;  // of requests that set none
  double budget_decode = 0;
  double max_budget = 0.95;  // that a request may ask for
  std::optional<AdaptiveRange> adaptive;
  SpeculationOptions speculation;  // of all requests: it changes no answer

  int max_running = 16;  // sequences that run at the same time
  int max_queue = 256;   // sequences that wait
  int max_per_key = 0;   // sequences of one key (or, without keys, one address) that run or wait; 0: any
  int64_t max_queue_tokens = 1 << 18;
  int kv_tokens = 65536;          // positions of the KV cache
  int default_max_tokens = 1024;  // of chats that set none
  bool prefix_cache = true;
  std::chrono::milliseconds queue_timeout{60'000};  // still waiting then: refused unrun
  std::chrono::milliseconds drain_timeout{30'000};
  std::chrono::milliseconds stall_limit{5'000};  // a step that takes longer makes /health say so
  std::chrono::milliseconds keep_alive{10'000};  // a stream without a token for so long gets a comment

  ConnectionLimits limits;
};

// Throws Error(kInvalidArgument) for a foreign address without a key, budgets above the cap, and the like.
void CheckServeOptions(const ServeOptions& options);

// Whether `host` names this machine's loopback: "127.0.0.1", "::1", "localhost".
bool IsLoopback(const std::string& host);

}  // namespace gateskip::server
