// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 messages without a socket: what a request is to the rest of the server, the text of a response's header, and
// the strict reading of a request's header that comes before Beast's parser. The strictness is against request
// smuggling (RFC 9112, sections 5.2, 6.1, 6.3, 11.2): what two readers could understand differently is refused.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/api_error.h"
#include "server/options.h"

namespace gateskip::server {

struct HttpRequest {
  std::string method;
  std::string path;  // of the target, as it was sent: nothing is decoded or normalised
  std::string host, origin, authorization;
  std::string body;
  std::string address;  // of the peer
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> headers = {};
};

HttpResponse ErrorResponse(const ApiError& error);

enum class BodyFraming {
  kLength,   // Content-Length
  kChunked,  // a stream for HTTP/1.1
  kToClose,  // a stream for HTTP/1.0
};

// Status line and header, with the empty line at its end.
std::string HeaderText(const HttpResponse& response, BodyFraming framing, bool keep_alive);

// One chunk of a chunked body; not for empty data, which would end the body.
std::string ChunkText(std::string_view data);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

std::string_view ReasonPhrase(int status);

// Looks at the bytes read so far. `header_size`: 0 while more have to come, else the size of the header with the empty
// line at its end. An error ends the connection: 400, or 431 for too many bytes or lines.
struct HeaderCheck {
  size_t header_size = 0;
  std::optional<ApiError> error;
};
HeaderCheck CheckHeader(std::string_view bytes, const ConnectionLimits& limits);

}  // namespace gateskip::server
