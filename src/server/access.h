// SPDX-License-Identifier: Apache-2.0
// Who may ask: API keys, the Host header (DNS rebinding), the Origin header (foreign web pages). Looks at the bytes the
// client sent, before any routing, so that no spelling of a path gets around it.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/http_message.h"

namespace gateskip::server {

class Access {
 public:
  explicit Access(const ServeOptions& options);

  // nullopt: allowed. Else 401 (no key or a wrong one) or 403 (foreign Host or Origin).
  std::optional<ApiError> Check(const HttpRequest& request) const;
  // Whom fairness takes the request to be from: a key's number, or the peer's address.
  std::string Identity(const HttpRequest& request) const;
  // Headers that let the allowed foreign origin read an answer; none for others.
  std::vector<std::pair<std::string, std::string>> CorsHeaders(const HttpRequest& request) const;
  // The question of a browser before it sends a request of the allowed foreign origin.
  bool IsPreflight(const HttpRequest& request) const;

 private:
  // The number of the key in "Bearer KEY", from 1; 0 for none. Takes the same time whichever key it is, right or wrong.
  size_t FindKey(std::string_view authorization) const;
  bool HostAllowed(std::string_view host) const;
  bool OriginAllowed(const HttpRequest& request) const;

  std::vector<std::string> key_digests_;  // SHA-256, hexadecimal
  std::vector<std::string> hosts_;        // lower case; empty: any
  std::string cors_origin_;
};

}  // namespace gateskip::server
