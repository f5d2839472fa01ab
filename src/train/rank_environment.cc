// SPDX-License-Identifier: Apache-2.0
#include "train/rank_environment.h"

#include <charconv>
#include <cstdlib>
#include <cstring>

#include "base/check.h"

namespace gateskip::train {
namespace {

int Number(const char* name, const char* text, int low, int high) {
  int value = 0;
  const char* end = text + std::strlen(text);
  const auto [rest, error] = std::from_chars(text, end, value);
  if (error != std::errc() || rest != end || value < low || value > high) {
    Fail(ErrorCode::kInvalidArgument,
         "[environment] {}: expected a whole number in [{}, {}], found '{}'; set it as torchrun does, or unset RANK to "
         "train with one process",
         name, low, high, std::string(text).substr(0, 64));
  }
  return value;
}

const char* Required(const std::function<const char*(const char*)>& get, const char* name) {
  const char* text = get(name);
  if (text == nullptr || *text == '\0') {
    Fail(ErrorCode::kInvalidArgument,
         "[environment] {}: expected it beside WORLD_SIZE > 1, found it unset; set RANK, WORLD_SIZE, MASTER_ADDR and "
         "MASTER_PORT for every process, or use --nproc",
         name);
  }
  return text;
}

}  // namespace

RankEnvironment RankEnvironment::Read() {
  return Read([](const char* name) -> const char* { return std::getenv(name); });
}

RankEnvironment RankEnvironment::Read(const std::function<const char*(const char*)>& get) {
  RankEnvironment environment;
  const char* size = get("WORLD_SIZE");
  if (size == nullptr) return environment;
  environment.size = Number("WORLD_SIZE", size, 1, kMaxRanks);
  if (environment.size == 1) return environment;
  environment.rank = Number("RANK", Required(get, "RANK"), 0, environment.size - 1);
  const char* local_rank = get("LOCAL_RANK");
  environment.local_rank =
      local_rank == nullptr ? environment.rank : Number("LOCAL_RANK", local_rank, 0, environment.size - 1);
  environment.address = Required(get, "MASTER_ADDR");
  int port = Number("MASTER_PORT", Required(get, "MASTER_PORT"), 1, 65535);
  // torchrun's agent then listens on MASTER_PORT itself, and speaks another protocol.
  const char* agent = get("TORCHELASTIC_USE_AGENT_STORE");
  if (agent != nullptr && std::strcmp(agent, "True") == 0) port += port < 65535 ? 1 : -1;
  environment.port = static_cast<uint16_t>(port);
  if (const char* token = get(kTokenVariable)) environment.token = token;
  if (const char* bind = get("GLOO_SOCKET_IFNAME")) environment.bind_address = bind;
  const char* listener = get(kListenerVariable);
  if (listener != nullptr && environment.rank == 0) {
    environment.listener = Number(kListenerVariable, listener, 3, 1 << 20);
  }
  return environment;
}

}  // namespace gateskip::train
