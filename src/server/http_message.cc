// SPDX-License-Identifier: Apache-2.0
#include "server/http_message.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace gateskip::server {
namespace {

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return Lower(x) == Lower(y); });
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

ApiError Bad(const std::string& what) { return HttpError(400, fmt::format("[http] header: {}; correct it", what)); }

// The fields on which the length of the message depends, and those that may come once only.
class FieldRules {
 public:
  std::optional<ApiError> Add(std::string_view name, std::string_view value) {
    if (EqualsIgnoringCase(name, "content-length")) {
      const bool is_number = !value.empty() && value.size() <= 18 && std::ranges::all_of(value, IsDigit);
      if (has_length_ || !is_number) return Bad("expected one Content-Length with digits, found another");
      has_length_ = true;
    } else if (EqualsIgnoringCase(name, "transfer-encoding")) {
      if (has_encoding_ || !EqualsIgnoringCase(value, "chunked")) {
        return Bad("expected one Transfer-Encoding, chunked, found another");
      }
      has_encoding_ = true;
    } else if (EqualsIgnoringCase(name, "host")) {
      if (has_host_) return Bad("expected one Host, found two");
      has_host_ = true;
    } else if (EqualsIgnoringCase(name, "content-encoding") && !EqualsIgnoringCase(value, "identity")) {
      return HttpError(415, "[http] Content-Encoding: expected none, found one; send the body as it is");
    }
    return std::nullopt;
  }

  std::optional<ApiError> Finish(bool is_http10) const {
    if (has_length_ && has_encoding_) return Bad("expected Content-Length or Transfer-Encoding, found both");
    if (has_encoding_ && is_http10) return Bad("expected no Transfer-Encoding in HTTP/1.0, found one");
    if (!has_host_ && !is_http10) return Bad("expected a Host, found none");
    return std::nullopt;
  }

 private:
  bool has_length_ = false;
  bool has_encoding_ = false;
  bool has_host_ = false;
};

// A line of the header without its CRLF; `number` is 0 for the request line.
std::optional<ApiError> CheckLine(std::string_view line, size_t number, FieldRules* rules) {
  for (const char c : line) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t') || byte == 0x7F) return Bad("expected no control characters, found one");
  }
  if (number == 0) return std::nullopt;
  if (line.front() == ' ' || line.front() == '\t') return Bad("expected one line for each field, found a folded one");
  const size_t colon = line.find(':');
  if (colon == line.npos || colon == 0) return Bad("expected 'name: value', found another line");
  if (line[colon - 1] == ' ' || line[colon - 1] == '\t') return Bad("expected no space before a colon, found one");
  return rules->Add(line.substr(0, colon), Trim(line.substr(colon + 1)));
}

}  // namespace

HttpResponse ErrorResponse(const ApiError& error) {
  HttpResponse response{.status = error.status, .body = ErrorBody(error)};
  if (error.retry_after > 0) response.headers.emplace_back("Retry-After", fmt::format("{}", error.retry_after));
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

std::string_view ReasonPhrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 503:
      return "Service Unavailable";
    default:
      return status < 500 ? "Error" : "Internal Server Error";
  }
}

std::string HeaderText(const HttpResponse& response, BodyFraming framing, bool keep_alive) {
  std::string text = fmt::format("HTTP/1.1 {} {}\r\n", response.status, ReasonPhrase(response.status));
  if (!response.content_type.empty()) text += fmt::format("Content-Type: {}\r\n", response.content_type);
  if (framing == BodyFraming::kLength) text += fmt::format("Content-Length: {}\r\n", response.body.size());
  if (framing == BodyFraming::kChunked) text += "Transfer-Encoding: chunked\r\n";
  for (const auto& [name, value] : response.headers) text += fmt::format("{}: {}\r\n", name, value);
  text += "X-Content-Type-Options: nosniff\r\n";
  text += keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  return text;
}

std::string ChunkText(std::string_view data) { return fmt::format("{:x}\r\n{}\r\n", data.size(), data); }

HeaderCheck CheckHeader(std::string_view bytes, const ConnectionLimits& limits) {
  HeaderCheck check;
  // A TLS handshake, for example, is told at once.
  if (!bytes.empty() && (bytes.front() < 'A' || bytes.front() > 'Z')) {
    check.error = HttpError(400, "[http] request line: expected a method, found something else; speak plain HTTP/1.1");
    return check;
  }
  FieldRules rules;
  bool is_http10 = false;
  size_t begin = 0;
  for (size_t number = 0;; ++number) {
    const size_t end = bytes.find('\n', begin);
    const bool too_many =
        number > limits.header_lines || (end == bytes.npos ? bytes.size() : end) >= limits.header_bytes;
    if (too_many) {
      check.error = HttpError(431, fmt::format("[http] header: expected at most {} bytes in {} lines, found more; "
                                               "send less",
                                               limits.header_bytes, limits.header_lines));
      return check;
    }
    if (end == bytes.npos) return check;
    if (end == begin || bytes[end - 1] != '\r') {
      check.error = Bad("expected lines that end in CRLF, found another");
      return check;
    }
    const std::string_view line = bytes.substr(begin, end - 1 - begin);
    begin = end + 1;
    if (line.empty()) {
      check.error = number == 0 ? Bad("expected a request line, found none") : rules.Finish(is_http10);
      check.header_size = begin;
      return check;
    }
    if (number == 0) is_http10 = line.ends_with(" HTTP/1.0");
    check.error = CheckLine(line, number, &rules);
    if (check.error) return check;
  }
}

}  // namespace gateskip::server
