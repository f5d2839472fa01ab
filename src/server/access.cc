// SPDX-License-Identifier: Apache-2.0
#include "server/access.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "base/sha256.h"

namespace gateskip::server {
namespace {

std::string LowerCase(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return lower;
}

std::string Digest(std::string_view key) { return Sha256Hex(std::as_bytes(std::span(key))); }

// The name in "name", "name:port", "[v6]:port".
std::string_view HostName(std::string_view host) {
  if (host.starts_with('[')) {
    const size_t end = host.find(']');
    return end == host.npos ? std::string_view() : host.substr(1, end - 1);
  }
  return host.substr(0, host.find(':'));
}

// Nothing behind these tells of prompts or models, and a probe or a browser has no key to send.
bool IsPublic(const HttpRequest& request) {
  return (request.method == "GET" || request.method == "HEAD") && (request.path == "/health" || request.path == "/");
}

}  // namespace

Access::Access(const ServeOptions& options) : cors_origin_(options.cors_origin) {
  for (const std::string& key : options.api_keys) key_digests_.push_back(Digest(key));
  for (const std::string& host : options.allowed_hosts) hosts_.push_back(LowerCase(host));
  // A rebound name reaches what listens on loopback without a key; a key is proof enough.
  if (key_digests_.empty() || !hosts_.empty()) {
    for (const char* name : {"localhost", "127.0.0.1", "::1"}) hosts_.emplace_back(name);
    hosts_.push_back(LowerCase(options.host));
  }
}

size_t Access::FindKey(std::string_view authorization) const {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() < kScheme.size() || LowerCase(authorization.substr(0, kScheme.size())) != kScheme) return 0;
  const std::string digest = Digest(authorization.substr(kScheme.size()));
  size_t found = 0;
  for (size_t i = 0; i < key_digests_.size(); ++i) {
    unsigned difference = 0;
    for (size_t c = 0; c < digest.size(); ++c) {
      difference |= static_cast<unsigned char>(digest[c]) ^ static_cast<unsigned char>(key_digests_[i][c]);
    }
    // All ones where there is no difference.
    const size_t equal = ~((static_cast<size_t>(difference) + 0xFF) >> 8) & 1U;
    found |= (~equal + 1) & (i + 1);
  }
  return found;
}

bool Access::HostAllowed(std::string_view host) const {
  if (hosts_.empty() || host.empty()) return true;  // HTTP/1.0 may come without one; a browser never does
  return std::ranges::find(hosts_, LowerCase(HostName(host))) != hosts_.end();
}

bool Access::OriginAllowed(const HttpRequest& request) const {
  if (request.origin.empty()) return true;
  if (!cors_origin_.empty() && request.origin == cors_origin_) return true;
  const size_t scheme = request.origin.find("://");
  return scheme != std::string::npos && LowerCase(request.origin.substr(scheme + 3)) == LowerCase(request.host);
}

bool Access::IsPreflight(const HttpRequest& request) const {
  return request.method == "OPTIONS" && !cors_origin_.empty() && request.origin == cors_origin_;
}

std::optional<ApiError> Access::Check(const HttpRequest& request) const {
  if (!HostAllowed(request.host)) {
    return HttpError(403, "[access] Host: expected a name of this server, found another; see --allow-host");
  }
  if (!OriginAllowed(request)) {
    return HttpError(403, "[access] Origin: expected this server's own page, found another; see --cors-origin");
  }
  if (key_digests_.empty() || IsPublic(request) || IsPreflight(request)) return std::nullopt;
  if (FindKey(request.authorization) != 0) return std::nullopt;
  ApiError error = HttpError(401,
                             "[access] API key: expected 'Authorization: Bearer KEY' with a key of this server, "
                             "found none; send one");
  error.code = "invalid_api_key";
  return error;
}

std::string Access::Identity(const HttpRequest& request) const {
  const size_t key = FindKey(request.authorization);
  return key > 0 ? fmt::format("key {}", key) : request.address;
}

std::vector<std::pair<std::string, std::string>> Access::CorsHeaders(const HttpRequest& request) const {
  if (cors_origin_.empty() || request.origin != cors_origin_) return {};
  return {{"Access-Control-Allow-Origin", cors_origin_}, {"Vary", "Origin"}};
}

}  // namespace gateskip::server
